"""An MLflow that goes away or is locked while a study runs: no trial waits, nothing is lost.

And an Optuna storage that takes nothing more."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from study.tracking.mirror import PATIENCE_S
from tests.servers import Server
from tests.studies import Studies

pytestmark = pytest.mark.faults


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    served = Server(tmp_path)
    yield served
    served.stop()


def test_a_server_down_for_a_minute_gets_everything_once(studies: Studies, server: Server) -> None:
    name = "server-down"
    tracked = replace(studies, tracker=f"http://127.0.0.1:{server.port}")
    start = tracked.start("fast", name)
    start.wait_for(lambda: "trial   0 started" in start.said(), "the first trial")
    server.stop()
    stopped = time.monotonic()
    ended = start.ended().succeeded()
    # A trial has the same few seconds as ever; only the end has waited.
    assert time.monotonic() - stopped < PATIENCE_S + 60
    assert ended.err.count("Nothing waits for it and nothing is lost") == 1
    assert " runs may be incomplete in MLflow" in ended.out
    time.sleep(max(0.0, 60.0 - (time.monotonic() - stopped)))
    server.start()
    ended = tracked.run("fast", name).succeeded()
    assert "MLflow was brought up to date for " in ended.out
    assert len(tracked.audit(name)) == 4


def test_a_database_locked_for_half_a_minute_gets_everything_once(studies: Studies) -> None:
    name = "locked"
    start = studies.start("fast", name)
    start.wait_for(lambda: "trial   0 started" in start.said(), "the first trial")
    database = studies.folder / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        start.wait_for(lambda: "[4/4" in start.said(), "all trials, none of which waits for it")
        time.sleep(max(0.0, 30.0 - (time.monotonic() - began)))
    ended = start.ended().succeeded()
    if "MLflow may lack" in ended.out:
        ended = studies.run("fast", name)
    assert len(studies.audit(name)) == 4


def test_a_storage_that_takes_nothing_ends_the_study_and_is_named(studies: Studies) -> None:
    name = "held"
    start = studies.with_checkpoint(name)
    with closing(sqlite3.connect(studies.study(name) / "study.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        ended = start.ended()
    assert ended.code == 2, ended
    assert (
        "study.db: the Optuna storage rejected a write (database is locked); earlier records "
        "are kept: mend this, then the same command with --resume continues"
    ) in ended.err
    assert "retried" not in ended.err, "no worker was lost"
    assert "Traceback" not in ended.err
    assert studies.left() == []
    studies.goes_on(name)
