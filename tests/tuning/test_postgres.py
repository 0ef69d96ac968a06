"""A study whose Optuna storage and MLflow records are in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from study.data.source import Source
from tests.builders import write_split
from tests.command import Ended
from tests.engine import trained_here
from tests.postgres import PASSWORD, ask, postgres_server

SPACE = """
description = "two trials"
[search]
sampler = "grid"
folds = 2
[fixed]
fusion = "rr_only"
epochs = 1
normal_beats_per_epoch = 40
[params.embed_dim]
values = [8, 16]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture(scope="module")
def addresses(server: str) -> tuple[str, str]:
    """Return the addresses of two empty databases: the study's, and MLflow's."""
    for name in ("optuna", "mlflow"):
        ask(f"{server}/postgres", f"CREATE DATABASE {name}")
    return f"{server}/optuna", f"{server}/mlflow"


def run(folder: Path, addresses: tuple[str, str]) -> Ended:
    words = ["--space", "two.toml", "--records", "records", "--split", "split.toml"]
    words += ["--concurrency", "1", "--device", "cpu", "--precision", "fp32"]
    words += ["--study-storage", addresses[0], "--tracking-uri", addresses[1]]
    return trained_here(folder, words)


def test_a_study_is_kept_and_recorded_in_postgresql(
    addresses: tuple[str, str], small_source: Source, tmp_path: Path
) -> None:
    (tmp_path / "records").symlink_to(small_source.folder)
    write_split(tmp_path, small_source.development)
    (tmp_path / "two.toml").write_text(SPACE)
    done = run(tmp_path, addresses)
    assert done.code == 0, done
    assert PASSWORD not in done.out + done.err

    kept = ask(
        addresses[0],
        "SELECT CAST(t.state AS text), v.value FROM trials t JOIN trial_values v USING (trial_id)",
    )
    recorded = ask(
        addresses[1],
        "SELECT r.status, m.value FROM runs r JOIN latest_metrics m USING (run_uuid) "
        "JOIN tags t USING (run_uuid) "
        "WHERE m.key = 'val_auprc_sv' AND t.key = 'kind' AND t.value = 'trial'",
    )
    assert [state for state, _ in kept] == ["COMPLETE"] * 2
    assert [state for state, _ in recorded] == ["FINISHED"] * 2
    assert sorted(value for _, value in kept) == sorted(value for _, value in recorded)
    assert not (tmp_path / "studies" / "two" / "study.db").exists()
    assert not (tmp_path / "mlflow.db").exists()

    again = run(tmp_path, addresses)
    assert again.code == 0, again
    assert again.out.startswith("study 'two' was complete already: nothing was run\n")
