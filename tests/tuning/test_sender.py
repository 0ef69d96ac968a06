"""A journal on its way to MLflow: in order and once, whatever happens to driver, store or both."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.errors import RefusedError, TrackingError
from study.keys import Outcome, Tag
from study.store.journal import JOURNAL, SENT, Journal, Kind
from study.tracking.mlflow_sink import MlflowSink
from study.tracking.sink import NullSink
from study.tuning.sender import Sender, Sent, owed, send_owed

NAME = "tiny"
FAST = (0.02, 0.1)
EPOCHS = 2


def tell_trial(tell: Callable[[Kind, dict[str, Any]], object], digest: str, number: int) -> None:
    opened = {"digest": digest, "number": number, "params": {"input": "opt1"}, "config": {}}
    tell(Kind.TRIAL, {**opened, "tags": {Tag.ATTEMPT: "1"}})
    for epoch in range(1, EPOCHS + 1):
        metrics = {"val_auprc_sv": epoch / 10 + number, "val_auprc_F": float("nan")}
        tell(Kind.EPOCH, {"digest": digest, "epoch": epoch, "metrics": metrics})
    end = {"digest": digest, "outcome": "pruned", "cause": "asha", "details": ""}
    tell(Kind.END, {**end, "metrics": {"final": 1.0}})


def tell_study(tell: Callable[[Kind, dict[str, Any]], object], *digests: str) -> None:
    """Tell of a whole study of pruned trials."""
    tags = {Tag.STUDY_ID: "0" * 12}
    tell(Kind.STUDY, {"name": NAME, "params": {"trials": 2}, "tags": tags, "files": []})
    for number, digest in enumerate(digests):
        tell_trial(tell, digest, number)
    close = {"outcome": "complete", "metrics": {"trials_pruned": len(digests)}}
    tell(Kind.CLOSE, {**close, "files": [], "weights": []})


EVENTS = 2 + 2 * (2 + EPOCHS)
"""Events of a study of two trials."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose journal holds a whole study, of which nothing was sent."""
    folder = tmp_path / "study"
    folder.mkdir()
    journal = Journal(folder)
    tell_study(journal.append, "d1", "d2")
    journal.close()
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with MLflow's tables, which take seconds to make."""
    workspace = tmp_path_factory.mktemp("tables")
    MlflowSink(tracking_uri=None, experiment="ecg", workspace=workspace)
    return workspace / "mlflow.db"


@pytest.fixture
def workspace(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(tables, tmp_path / "mlflow.db")
    return tmp_path


def mlflow_sink(workspace: Path) -> MlflowSink:
    return MlflowSink(tracking_uri=None, experiment="ecg", workspace=workspace)


def recorded(workspace: Path) -> dict[str, tuple[str, list[tuple[str, int, float]]]]:
    """Return status and metric points of every run, by digest; the study's by its name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ecg").experiment_id
    found = {}
    for run in client.search_runs([experiment]):
        key = run.data.tags.get(Tag.DIGEST, run.data.tags[Tag.STUDY])
        assert key not in found, f"two runs of {key}"
        points = [
            (point.key, point.step, point.value)
            for name in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        found[key] = (run.info.status, sorted(points))
    return found


def whole(*digests: str) -> dict[str, tuple[str, list[tuple[str, int, float]]]]:
    """Return what `recorded` finds of a whole study."""
    found = {
        digest: (
            "KILLED",
            [("final", EPOCHS, 1.0)]
            + [("val_auprc_sv", e, e / 10 + number) for e in range(1, EPOCHS + 1)],
        )
        for number, digest in enumerate(digests)
    }
    return {**found, NAME: ("FINISHED", [("trials_pruned", 1, float(len(digests)))])}


def test_a_journal_is_sent_once_and_nothing_is_owed_after(folder: Path, workspace: Path) -> None:
    assert owed(folder) == EVENTS
    assert send_owed(folder, mlflow_sink(workspace)) == Sent(sent=EVENTS)
    assert owed(folder) == 0
    assert recorded(workspace) == whole("d1", "d2")
    assert send_owed(folder, NullSink()) == Sent()


def test_what_is_sent_again_from_any_line_is_recorded_once(folder: Path, workspace: Path) -> None:
    sink = mlflow_sink(workspace)
    for sent in range(EVENTS):
        (folder / SENT).write_text(f'{{"sent": {sent}}}')
        sender = Sender(folder, sink if sent % 2 else mlflow_sink(workspace))
        assert sender.finish() == Sent(sent=EVENTS - sent)
    assert recorded(workspace) == whole("d1", "d2")


@pytest.mark.parametrize("lines", [1, 2, 3, 5, 6, 9])
def test_a_driver_that_was_killed_after_any_line_leaves_nothing_running(
    folder: Path, workspace: Path, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed in the middle of the next line; half of what it told had been sent and noted."""
    path = folder / JOURNAL
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:lines]) + content[lines][:-7])
    Sender(folder, mlflow_sink(workspace)).finish()
    (folder / SENT).write_text(f'{{"sent": {lines // 2}}}')
    assert owed(folder) == lines - lines // 2

    sender = Sender(folder, mlflow_sink(workspace))
    tell_study(sender.tell, "d1", "d2")  # the next start runs what was owed again
    assert sender.finish() == Sent(sent=EVENTS + lines - lines // 2)
    assert "journal.jsonl: its last line was cut off (" in caplog.text
    assert recorded(workspace) == whole("d1", "d2")


def test_a_trial_that_is_not_run_again_is_closed_as_stopped(folder: Path, workspace: Path) -> None:
    path = folder / JOURNAL
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    sender = Sender(folder, mlflow_sink(workspace))
    sender.finish()
    assert recorded(workspace)["d1"][0] == "RUNNING", "as far as the journal knows"
    sender = Sender(folder, mlflow_sink(workspace))
    tell_study(sender.tell)
    sender.finish()
    assert recorded(workspace)["d1"] == ("KILLED", [("val_auprc_sv", 1, 0.1)])


def test_what_a_killed_driver_left_is_sent_and_closed(folder: Path, workspace: Path) -> None:
    path = folder / JOURNAL
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:7]))
    assert send_owed(folder, mlflow_sink(workspace)) == Sent(sent=8)
    found = recorded(workspace)
    assert found["d1"] == whole("d1")["d1"]
    assert found["d2"] == ("KILLED", [("val_auprc_sv", 1, 1.1)])
    assert found[NAME] == ("KILLED", [])
    assert send_owed(folder, NullSink()) == Sent()


def test_an_altered_line_is_named_and_the_others_are_sent(
    folder: Path, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"epoch":2', b'"epoch":9', 1))
    assert send_owed(folder, mlflow_sink(workspace)) == Sent(sent=EVENTS - 1)
    assert (
        "tracking: journal.jsonl line 4: was altered since it was written, and is left out"
    ) in caplog.text
    found = recorded(workspace)
    assert found["d2"] == whole("d1", "d2")["d2"]
    assert [step for name, step, _ in found["d1"][1] if name == "val_auprc_sv"] == [1]


class Unreliable:
    """Stands before MLflow's client; some calls are not made, of others the answer is lost.

    The distance between them grows: in the end every event gets through.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._calls = 0
        self._failing = {n * (n + 1) // 2: n % 2 == 0 for n in range(1, 40)}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self._calls += 1
            made = self._failing.get(self._calls)
            if made is False:
                raise ConnectionError("not made")
            answer = getattr(self._client, name)(*given, **named)
            if made:
                raise ConnectionError("the answer was lost")
            return answer

        return call


def test_calls_that_fail_before_or_after_they_are_made_are_recorded_once(
    folder: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = mlflow_sink(workspace)
    monkeypatch.setattr(sink._client, "_mlflow", Unreliable(sink._client._mlflow))
    assert Sender(folder, sink, pauses_s=(0.001, 0.001)).finish() == Sent(sent=EVENTS)
    assert recorded(workspace) == whole("d1", "d2")


class Listed(NullSink):
    """Remembers the order of what it took; a call may be made to fail first."""

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[tuple[str, object]] = []
        self._failures = list(failures)

    def open_trial(self, digest: str, **what: Any) -> str:
        return digest

    def log_epoch(
        self, run_id: str, epoch: int, metrics: Any, *, at_s: float | None = None
    ) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.calls.append((run_id, epoch))

    def close_trial(self, run_id: str, **what: Any) -> None:
        self.calls.append((run_id, what["outcome"]))


def test_a_store_that_fails_pauses_sending_and_keeps_the_order(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Listed(*[TrackingError("no answer")] * 3, OSError("disk full"))
    assert Sender(folder, sink, pauses_s=FAST).finish() == Sent(sent=EVENTS)
    ends = [(digest, what) for digest in ("d1", "d2") for what in (1, 2, Outcome.PRUNED)]
    assert sink.calls == ends
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == [
        f"no answer. Nothing waits for it and nothing is lost: {folder / JOURNAL} keeps what it "
        "is told"
    ]


def test_another_store_is_told_everything_from_the_beginning(
    folder: Path, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert send_owed(folder, Listed()).sent == EVENTS
    (folder / SENT).write_text(json.dumps({"sent": EVENTS, "store": "http://elsewhere"}))
    sink = mlflow_sink(workspace)
    assert owed(folder, sink.store()) == EVENTS
    assert send_owed(folder, sink) == Sent(sent=EVENTS)
    assert (
        "tracking: http://elsewhere was told so far; mlflow.db is told everything from the "
        "beginning"
    ) in caplog.text
    assert recorded(workspace) == whole("d1", "d2")
    assert owed(folder, sink.store()) == 0


def test_what_the_store_refuses_is_named_and_not_sent_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Listed(RefusedError("too long"))
    assert send_owed(folder, sink) == Sent(sent=EVENTS - 1, refused=1)
    assert sink.calls[:2] == [("d1", 2), ("d1", Outcome.PRUNED)]
    assert (
        "tracking: event 3 of journal.jsonl (epoch) is left out: RefusedError: too long"
    ) in caplog.text
    assert owed(folder) == 0


def test_a_store_that_stays_away_is_left_after_a_while(folder: Path) -> None:
    sink = Listed(*[TrackingError("no answer")] * 1000)
    left = EVENTS - 2
    assert send_owed(folder, sink, patience_s=0.2) == Sent(sent=2, left=left)
    assert owed(folder) == left
    assert send_owed(folder, Listed()) == Sent(sent=left)


def test_a_store_that_never_answers_keeps_no_study(folder: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Silent(Listed):
        def log_epoch(self, *what: Any, **more: Any) -> None:
            asked.set()
            answer.wait(60)

    sender = Sender(folder, Silent())
    assert asked.wait(30)
    sender.tell(Kind.STUDY, {})  # returns although nothing moves
    assert sender.finish(0.1) == Sent(sent=2, left=EVENTS - 1)
    answer.set()


def test_a_database_that_is_locked_takes_everything_later(
    folder: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def impatient(*call: Any) -> tuple[str, Any]:
        """MLflow waits for 20 s; so long would the test take."""
        return call[2].replace("busy_timeout = 20000", "busy_timeout = 50"), call[3]

    def locked(context: Any) -> None:
        failed.set()

    sink = mlflow_sink(workspace)
    failed = threading.Event()
    event.listen(Engine, "before_cursor_execute", impatient, retval=True)
    event.listen(Engine, "handle_error", locked)
    lock = sqlite3.connect(workspace / "mlflow.db", isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        sender = Sender(folder, sink, pauses_s=FAST)
        assert failed.wait(30)
        assert owed(folder) == EVENTS
        lock.execute("ROLLBACK")
        assert sender.finish() == Sent(sent=EVENTS)
    finally:
        lock.close()
        event.remove(Engine, "before_cursor_execute", impatient)
        event.remove(Engine, "handle_error", locked)
    assert recorded(workspace) == whole("d1", "d2")
