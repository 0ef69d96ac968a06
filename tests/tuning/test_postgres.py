"""A study whose Optuna storage and MLflow records are in a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.driven import environment
from study.data.source import Source
from tests.builders import write_split

PASSWORD = "not-to-be-seen"
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


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: that of PATH, or Debian's newest."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    places = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    return max((place.parent for place in places), default=None, key=lambda p: int(p.parent.name))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of this test alone, on loopback; its address without a database."""
    folder = programs()
    if folder is None:
        pytest.skip("no pg_ctl: `apt-get install postgresql` brings what this test runs")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        root, user = Path(name), None
        (root / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # the server refuses to run as root
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            for path in (root, root / "password"):
                shutil.chown(path, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def call(program: str, *words: str) -> None:
            done = subprocess.run(
                [str(folder / program), "-D", str(root / "data"), *words],
                cwd=root,
                user=user,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr

        call("initdb", "-U", "study", "-A", "scram-sha-256", f"--pwfile={root / 'password'}")
        options = f"-h 127.0.0.1 -p {port} -k {root} -F"
        call("pg_ctl", "-w", "-l", str(root / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://study:{PASSWORD}@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="module")
def addresses(server: str) -> tuple[str, str]:
    """Return the addresses of two empty databases: the study's, and MLflow's."""
    import psycopg

    with psycopg.connect(
        server.replace("+psycopg", "") + "/postgres", autocommit=True
    ) as connection:
        for name in ("optuna", "mlflow"):
            connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/optuna", f"{server}/mlflow"


def run(folder: Path, addresses: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["--space", "two.toml", "--records", "records", "--split", "split.toml"]
    words += ["--concurrency", "1", "--device", "cpu", "--precision", "fp32"]
    words += ["--study-storage", addresses[0], "--tracking-uri", addresses[1]]
    return subprocess.run(
        [sys.executable, "-m", "study.run", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


def ask(address: str, question: str) -> list[tuple[str, float]]:
    """Return the rows of a query; not through Optuna or MLflow, which keep connections open."""
    import psycopg

    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        return [(str(state), float(value)) for state, value in connection.execute(question)]


def test_a_study_is_kept_and_recorded_in_postgresql(
    addresses: tuple[str, str], small_source: Source, tmp_path: Path
) -> None:
    (tmp_path / "records").symlink_to(small_source.folder)
    write_split(tmp_path, small_source.development)
    (tmp_path / "two.toml").write_text(SPACE)
    done = run(tmp_path, addresses)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr

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
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("study 'two' was complete already: nothing was run\n")
