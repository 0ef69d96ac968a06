"""A study whose Optuna storage and MLflow records are in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.servers import PASSWORD, ask, postgres_server
from tests.studies import Studies


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """Addresses of two empty databases: the study's, and MLflow's.

    Ask for it before `studies`, whose temporary folder the server's user may not enter.
    """
    with postgres_server() as server:
        for name in ("optuna", "mlflow"):
            ask(f"{server}/postgres", f"CREATE DATABASE {name}")
        yield f"{server}/optuna", f"{server}/mlflow"


def test_a_study_is_kept_in_postgresql(addresses: tuple[str, str], studies: Studies) -> None:
    stored = replace(studies, tracker=addresses[1])
    words = ("long", "two", "--epochs", "1", "--study-storage", addresses[0])
    ended = stored.here(*words).succeeded()
    assert PASSWORD not in ended.out + ended.err

    settled = ask(
        addresses[0],
        "SELECT CAST(t.state AS text), v.value FROM trials t JOIN trial_values v USING (trial_id)",
    )
    recorded = ask(
        addresses[1],
        "SELECT r.status, m.value FROM runs r JOIN latest_metrics m USING (run_uuid) "
        "JOIN tags t USING (run_uuid) "
        "WHERE m.key = 'val_auprc_sv' AND t.key = 'kind' AND t.value = 'trial'",
    )
    assert [state for state, _ in settled] == ["COMPLETE"] * 2
    assert [state for state, _ in recorded] == ["FINISHED"] * 2
    assert sorted(value for _, value in settled) == sorted(value for _, value in recorded)
    assert not (studies.study("two") / "study.db").exists()
    assert not (studies.folder / "mlflow.db").exists()

    again = stored.here(*words).succeeded()
    assert again.out.startswith("study 'two' was complete already: nothing was run\n")
