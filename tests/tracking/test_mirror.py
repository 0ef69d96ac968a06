"""MLflow beside a study that runs: equal in the end, once, whatever happens to either of them."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from study.errors import RefusedError, StudyStateError
from study.keys import Outcome, Tag
from study.tracking.experiment import Experiment
from study.tracking.mirror import Mirror, Mirrored
from study.tracking.mlflow_runs import StudyRuns
from study.tracking.run_facts import RunFacts
from tests.builders import Curves, mlflow_client, mlflow_curves
from tests.tuning.small_study import EXPERIMENT, NAME, Start

FAST = (0.02, 0.1)
RUNS = 4
"""The study's own run, its floor's, and those of two trials."""


@pytest.fixture
def workspace(mlflow_tables: Path, tmp_path: Path) -> Path:
    shutil.copy(mlflow_tables, tmp_path)
    return tmp_path


@pytest.fixture
def untold(workspace: Path) -> Start:
    """A study of two trials that ended, of which nothing was told."""
    start = Start(workspace, track=False)
    start.begin("0")
    start.train("0", 0.9)
    start.begin("1")
    start.fail("1", "ValueError: bad")
    start.end()
    return start


def experiment(workspace: Path) -> Experiment:
    return Experiment(tracking_uri=None, name=EXPERIMENT, workspace=workspace)


def recorded(workspace: Path) -> dict[str, tuple[str, Curves]]:
    """Return status and metrics of every run, by digest; the study's by its name."""
    client = mlflow_client(workspace)
    made = client.get_experiment_by_name(EXPERIMENT)
    runs = {}
    for run in client.search_runs([made.experiment_id]) if made else ():
        key = run.data.tags.get(Tag.DIGEST, run.data.tags[Tag.STUDY])
        assert key not in runs, f"two runs of {key}"
        runs[key] = (run.info.status, mlflow_curves(client, run))
    return runs


def assert_whole(workspace: Path) -> None:
    """Check that MLflow has the study of `untold`, each value once."""
    runs = recorded(workspace)
    assert len(runs) == RUNS
    assert runs[NAME] == ("FINISHED", {"trials_complete": [(1, 2.0)]})
    assert runs["floor"][0] == "FINISHED"
    trials = {status: points for key, (status, points) in runs.items() if len(key) > 5}
    assert trials["FINISHED"]["val_auprc_sv"] == [(1, 0.9), (2, 0.9), (3, 0.9)]
    assert trials["FINISHED"]["patient/auprc_S"] == [(3, 0.45)]
    assert trials["FAILED"] == {}


def test_a_study_that_was_never_told_is_told_whole_once(untold: Start, workspace: Path) -> None:
    read = mock.Mock(wraps=untold.read)
    assert Mirror(experiment(workspace), read).finish() == Mirrored(sent=RUNS)
    # At the begin, at the end, and when runs became due: not once for each run.
    assert read.call_count <= RUNS
    assert_whole(workspace)
    assert Mirror(experiment(workspace), untold.read).finish() == Mirrored()


def test_a_study_is_told_while_it_runs_and_a_stopped_trial_goes_on(workspace: Path) -> None:
    start = Start(workspace)
    start.begin("0")
    digest = start.digest("0")
    start.epoch("0", 1, 0.5, save=True)
    deadline = time.monotonic() + 30
    while recorded(workspace).get(digest, ("", {}))[1].get("val_auprc_sv") != [(1, 0.5)]:
        assert time.monotonic() < deadline, "nothing was told while it ran"
        time.sleep(0.05)
    assert recorded(workspace)[digest][0] == recorded(workspace)[NAME][0] == "RUNNING"
    start.end("SIGINT received")
    assert recorded(workspace)[digest][0] == recorded(workspace)[NAME][0] == "KILLED"

    again = Start(workspace)
    again.begin("0")
    assert again.digest("0") == digest
    again.train("0", 0.5, first=2)
    again.end()
    runs = recorded(workspace)
    assert runs[digest][0] == "FINISHED"
    assert runs[digest][1]["val_auprc_sv"] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert runs[NAME][1]["trials_complete"] == [(1, 0.0), (2, 1.0)]


def test_a_driver_that_was_killed_leaves_nothing_running(workspace: Path) -> None:
    """The next start begins with all that MLflow lacks."""
    killed = Start(workspace)
    killed.begin("0")
    digest = killed.digest("0")
    for epoch in (1, 2):
        killed.epoch("0", epoch, 0.9)
    killed.leave()
    assert recorded(workspace)[digest][0] == "RUNNING"
    Start(workspace).end("at once")
    status, points = recorded(workspace)[digest]
    assert (status, points["val_auprc_sv"]) == ("KILLED", [(1, 0.9), (2, 0.9)])


class Unreliable:
    """Stands before MLflow's client; some calls are not made, of others the answer is lost.

    The distance between them grows: in the end everything gets through. The first calls of two
    kinds are late: they take effect after their answer was given up, and they were made again.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._calls = 0
        self._failing = {n * (n + 1) // 2: n % 2 == 0 for n in range(1, 40)}
        self.late = {"create_run", "log_batch"}
        self.pending = dict[int, Callable[[], Any]]()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self._calls += 1
            if self._calls in self.pending:
                self.pending.pop(self._calls)()
            make = partial(getattr(self._client, name), *given, **named)
            made = self._failing.get(self._calls)
            if made is False:
                raise ConnectionError("not made")
            if name in self.late:
                self.late.remove(name)
                self.pending[self._calls + 12] = make
                raise ConnectionError("late")
            answer = make()
            if made:
                raise ConnectionError("the answer was lost")
            return answer

        return call


def test_calls_that_fail_before_or_after_they_are_made_or_are_late_are_recorded_once(
    untold: Start, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = experiment(workspace)
    client, id_ = tracker.connect()
    unreliable = Unreliable(client)
    monkeypatch.setattr(tracker, "connect", lambda: (unreliable, id_))
    mirrored = Mirror(tracker, untold.read, pauses_s=(0.001, 0.001)).finish()
    assert (mirrored.left, mirrored.refused) == (0, 0)
    assert not (unreliable.late or unreliable.pending)
    assert_whole(workspace)


def test_what_the_store_refuses_is_named_and_holds_nothing_up(
    untold: Start, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write = StudyRuns.write

    def refuse_one(self: StudyRuns, facts: RunFacts, files: Path) -> None:
        if facts.outcome == Outcome.FAILED:
            raise RefusedError("too long")
        write(self, facts, files)

    with mock.patch.object(StudyRuns, "write", refuse_one):
        mirrored = Mirror(experiment(workspace), untold.read, pauses_s=FAST).finish()
    assert mirrored == Mirrored(sent=RUNS - 1, refused=1)
    assert " is left out: RefusedError: too long" in caplog.text
    assert len(recorded(workspace)) == RUNS - 1


def test_a_store_that_never_answers_keeps_no_study(
    untold: Start, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def write(*given: object) -> None:
        asked.set()
        answer.wait(60)

    monkeypatch.setattr(StudyRuns, "write", write)
    mirror = Mirror(experiment(workspace), untold.read)
    assert asked.wait(30)
    mirror.trial_changed("d")  # returns although nothing moves
    assert mirror.finish(0.1).left == RUNS + 1
    answer.set()


def test_an_optuna_storage_that_is_away_is_tried_again(
    untold: Start, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [StudyStateError("study.db: locked")] * 2

    def read() -> Any:
        if threading.current_thread().name == "mirror" and failures:
            raise failures.pop()
        return untold.read()

    with caplog.at_level(logging.INFO):
        assert Mirror(experiment(workspace), read, pauses_s=FAST).finish().left == 0
    assert "the store takes what it is sent again" in caplog.text
    assert recorded(workspace)[NAME][0] == "FINISHED"
