"""An Optuna storage that takes nothing more while a study runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.studies import Studies

pytestmark = pytest.mark.faults


def test_a_storage_that_takes_nothing_ends_the_study_and_is_named(studies: Studies) -> None:
    name = "held"
    start = studies.start("long", name)
    start.wait_for(lambda: bool(studies.checkpoints(name)), "a checkpoint")
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
    ended = studies.run("long", name, "--resume")
    assert ended.code == 0, ended
    assert "continued after epoch" in ended.err
    assert len(studies.audit(name)) == 2
