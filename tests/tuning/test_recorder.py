"""What a tracker is handed: tags, files of finished trials, weights of the best."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.config import TrialConfig
from study.data.beatset import BeatSet
from study.keys import Outcome, Tag
from study.models import rules
from study.reporting.tables import TrialRow
from study.tuning.floors import SETTINGS
from study.tuning.ledger import Ledger, Proposal
from study.tuning.plan import StudyPlan
from study.tuning.recorder import BEST_WEIGHTS, Recorder
from study.tuning.study_floors import StudyFloor
from study.tuning.trial import (
    CHECKPOINT,
    PER_RECORD,
    PREDICTIONS,
    SCORES,
    WEIGHTS,
    TrialJob,
    TrialRun,
)

CONFIG = TrialConfig.from_flat(
    {"fusion": "mhca_time", "embed_dim": 8, "epochs": 1, "normal_beats_per_epoch": 40}
)
DIGEST = rules.digest(CONFIG)
RUN = f"run-{DIGEST}"
TAGS = {Tag.STUDY: "tiny", Tag.SPACE: "tiny", Tag.DATA_SOURCE: "synthetic"}

PROPOSAL = Proposal(config=CONFIG, digest=DIGEST, arm=rules.arm(CONFIG), params={}, attempt=2)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny")


@pytest.fixture
def recorder(
    memory_sink: Any, plan: StudyPlan, ledger: Ledger, small_beats: BeatSet, job: TrialJob
) -> Recorder:
    return Recorder(
        sink=memory_sink,
        plan=plan,
        ledger=ledger,
        storage=job.storage,
        beats=small_beats,
        tags=TAGS,
    )


def open_trial(recorder: Recorder, ledger: Ledger) -> int:
    number = ledger.open(ledger.enqueue(PROPOSAL), PROPOSAL)
    recorder.open_trial(number, PROPOSAL)
    return number


def test_a_study_is_opened_with_its_plan_and_tags(
    recorder: Recorder, memory_sink: Any, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    file.write_text("{}")
    recorder.open_study({"trials": 3}, [file])
    assert memory_sink.events == [
        ("open_study", "tiny", {"trials": 3}, {**TAGS, Tag.KIND: "study"})
    ]
    assert memory_sink.files["study"] == {"plan.json": b"{}"}


def test_a_trial_is_opened_by_its_active_parameters_and_the_ledger_told(
    recorder: Recorder, memory_sink: Any, ledger: Ledger
) -> None:
    number = open_trial(recorder, ledger)
    ((_, digest, told, params, tags),) = memory_sink.events
    assert (digest, told) == (DIGEST, number)
    assert params == rules.active_parameters(CONFIG)
    assert tags == {
        **TAGS,
        Tag.KIND: "trial",
        Tag.ARM: "opt1 / daeac / mhca_time / seed7 / real",
        Tag.INPUT: "opt1",
        Tag.FUSION: "mhca_time",
        Tag.ATTEMPT: "2",
    }
    (owed,) = ledger.reconcile()
    assert owed.user_attrs["mlflow_run_id"] == RUN


def test_a_finished_trial_hands_over_its_files_and_pictures(
    recorder: Recorder, memory_sink: Any, ledger: Ledger, job: TrialJob
) -> None:
    report = TrialRun(CONFIG, job).step()
    open_trial(recorder, ledger)
    recorder.log_epoch(DIGEST, 1, report["metrics"])
    recorder.close_trial(DIGEST, Outcome.COMPLETE, "", report["metrics"])
    assert memory_sink.named("log_epoch") == [("log_epoch", RUN, 1, report["metrics"])]
    assert memory_sink.named("close_trial")[0][1:4] == (RUN, Outcome.COMPLETE, "")
    files = memory_sink.files[RUN]
    pictures = {name for name in files if name.endswith(".png")}
    assert files.keys() - pictures == {"configuration.json", PREDICTIONS, PER_RECORD, SCORES}
    assert {name.split(".")[0] for name in pictures} >= {"confusion_matrix"}
    assert len(pictures) == 4, f"curves, confusion, gates and attention, got {sorted(pictures)}"
    stored = Path(job.storage.root) / DIGEST
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        assert files[name] == (stored / name).read_bytes()
    assert TrialConfig.from_flat(json.loads(files["configuration.json"])) == CONFIG


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (Outcome.COMPLETE, False),
        (Outcome.PRUNED, False),
        (Outcome.FAILED, False),
        (Outcome.STOPPED, True),
    ],
)
def test_only_a_trial_that_is_still_owed_keeps_its_checkpoint(
    recorder: Recorder, ledger: Ledger, job: TrialJob, outcome: Outcome, kept: bool
) -> None:
    stored = job.storage.folder(DIGEST)
    stored.write(CHECKPOINT, b"state")
    open_trial(recorder, ledger)
    recorder.close_trial(DIGEST, outcome, "", {})
    assert (stored.read(CHECKPOINT) is not None) == kept


def test_floors_are_handed_over_unless_they_are_missing(
    recorder: Recorder, memory_sink: Any, tmp_path: Path
) -> None:
    file = tmp_path / "scores.json"
    file.write_bytes(b"{}")
    there = StudyFloor(name="prevalence", digest="f", metrics={"val_auprc_sv": 0.1}, files=(file,))
    recorder.add_floors([there, StudyFloor(name="logistic_regression", digest="g", missing="no")])
    ((_, name, params, tags, metrics),) = memory_sink.events
    assert (name, metrics) == ("floor: prevalence", {"val_auprc_sv": 0.1})
    assert params == {"floor": "prevalence", **SETTINGS}
    assert tags == {**TAGS, Tag.KIND: "floor"}
    assert memory_sink.files[name] == {"scores.json": b"{}"}


def test_a_failed_trial_hands_over_its_traceback(
    recorder: Recorder, memory_sink: Any, ledger: Ledger
) -> None:
    open_trial(recorder, ledger)
    recorder.close_trial(DIGEST, Outcome.FAILED, "ValueError: bad", {}, "Traceback: ...")
    assert memory_sink.files[RUN]["traceback.txt"] == b"Traceback: ..."


def settle(ledger: Ledger, dropout: float, outcome: Outcome, value: float) -> str:
    """Run a trial in the ledger alone, as a driver that is killed before it tells its tracker."""
    config = TrialConfig.from_flat(CONFIG.flat() | {"dropout": dropout})
    proposal = replace(PROPOSAL, config=config, digest=rules.digest(config), attempt=1)
    number = ledger.open(ledger.enqueue(proposal), proposal)
    ledger.report(number, 1, value)
    ledger.close(
        number,
        outcome,
        cause="why" if outcome is Outcome.FAILED else "",
        metrics={"val_auprc_sv": value},
        epochs=1,
        seconds=1.0,
        objective=value,
    )
    return proposal.digest


def test_what_a_killed_driver_settled_without_recording_it_is_recorded_at_the_next_start(
    recorder: Recorder, memory_sink: Any, ledger: Ledger
) -> None:
    told = settle(ledger, 0.1, Outcome.COMPLETE, 0.5)
    lost = settle(ledger, 0.2, Outcome.COMPLETE, 0.6)
    half = settle(ledger, 0.3, Outcome.FAILED, 0.4)
    memory_sink.outcomes = {told: "complete", half: "stopped"}
    assert recorder.replay(ledger.settled()) == 2
    assert [event[1] for event in memory_sink.named("open_trial")] == [lost, half]
    assert memory_sink.named("close_trial") == [
        ("close_trial", f"run-{lost}", Outcome.COMPLETE, "", {"val_auprc_sv": 0.6}),
        ("close_trial", f"run-{half}", Outcome.FAILED, "why", {"val_auprc_sv": 0.4}),
    ]
    memory_sink.outcomes |= {lost: "complete", half: "failed"}
    assert recorder.replay(ledger.settled()) == 0


@pytest.mark.parametrize("outcome", [Outcome.PRUNED, Outcome.FAILED, Outcome.STOPPED])
def test_an_unfinished_trial_hands_over_its_configuration_only(
    recorder: Recorder, memory_sink: Any, ledger: Ledger, outcome: Outcome
) -> None:
    open_trial(recorder, ledger)
    recorder.close_trial(DIGEST, outcome, "why", {})
    assert memory_sink.named("close_trial") == [("close_trial", RUN, outcome, "why", {})]
    assert memory_sink.files[RUN].keys() == {"configuration.json"}


def test_a_finished_trial_without_files_is_recorded_and_the_loss_is_told(
    recorder: Recorder, memory_sink: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    open_trial(recorder, ledger)
    with caplog.at_level(logging.WARNING):
        recorder.close_trial(DIGEST, Outcome.COMPLETE, "", {})
    assert memory_sink.files[RUN].keys() == {"configuration.json"}
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        assert f"trial {DIGEST} left no {name} in its storage" in caplog.text


def test_a_trial_with_damaged_predictions_is_recorded_without_pictures(
    recorder: Recorder,
    memory_sink: Any,
    ledger: Ledger,
    job: TrialJob,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_trial(recorder, ledger)
    job.storage.folder(DIGEST).write(PREDICTIONS, b"damaged")
    with caplog.at_level(logging.WARNING):
        recorder.close_trial(DIGEST, Outcome.COMPLETE, "", {})
    assert memory_sink.files[RUN].keys() == {"configuration.json", PREDICTIONS}
    assert f"a trial without pictures: {job.storage.root}/{DIGEST}/{PREDICTIONS} is damaged (" in (
        caplog.text
    )


def row(number: int, value: float, **changes: Any) -> TrialRow:
    known = TrialRow(
        number=number,
        digest=f"d{number}",
        arm="a",
        params={},
        outcome=Outcome.COMPLETE,
        metrics={"val_auprc_sv": value},
        epochs=6,
        full_epochs=6,
    )
    return replace(known, **changes)


def test_a_closed_study_hands_over_the_weights_of_its_best_finished_trials(
    recorder: Recorder, memory_sink: Any, job: TrialJob, tmp_path: Path
) -> None:
    for number in range(7):
        job.storage.folder(f"d{number}").write(WEIGHTS, f"weights {number}".encode())
    job.storage.folder("d2").delete(WEIGHTS)
    rows = [
        row(0, 0.1),
        row(1, 0.9),
        row(2, 0.8),
        row(3, 0.7),
        row(4, 0.6),
        row(5, 0.99, outcome=Outcome.PRUNED),
        row(6, float("nan")),
    ]
    table = tmp_path / "trials.csv"
    table.write_text("number\n")
    recorder.close_study(outcome="complete", metrics={"best": 0.9}, rows=rows, files=[table])
    assert memory_sink.events == [("close_study", "complete", {"best": 0.9})]
    assert BEST_WEIGHTS == 3
    assert memory_sink.files["closed study"] == {
        "trials.csv": b"number\n",
        "weights_001_d1.pt": b"weights 1",
        "weights_003_d3.pt": b"weights 3",
    }
