"""What a tracker is handed: tags, files of finished trials, weights of the best."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.models import rules
from study.store.floors import SETTINGS
from study.store.folder import BEATS
from study.store.journal import Journal, Kind
from study.store.ledger import Ledger
from study.store.study_floors import StudyFloor
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES
from study.store.trials import Proposal, TrialRow
from study.tuning.recorder import Recorder
from study.tuning.teller import BEST_WEIGHTS, Teller
from study.tuning.trial import WEIGHTS, TrialJob, TrialRun
from tests.builders import stored_beats, trial_row

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


class Told:
    """A teller whose words go through a journal on disk to a recorder, one after the other."""

    def __init__(self, folder: Path, sink: Any, job: TrialJob, ledger: Ledger) -> None:
        self._journal = Journal(folder)
        self._recorder = Recorder(
            sink=sink,
            folder=folder,
            storage=job.storage,
            attach=lambda number, run_id: ledger.attach(number, "mlflow_run_id", run_id),
        )
        self.teller = Teller(self._tell, folder)
        self.kinds: list[Kind] = []

    def _tell(self, kind: Kind, content: Mapping[str, Any]) -> None:
        self.kinds.append(kind)
        self._recorder.record(self._journal.append(kind, content))

    def close(self) -> None:
        self._journal.close()


@pytest.fixture
def told(
    tmp_path: Path, memory_sink: Any, small_beats: BeatSet, job: TrialJob, ledger: Ledger
) -> Iterator[Told]:
    (tmp_path / BEATS).write_bytes(stored_beats(small_beats))
    told = Told(tmp_path, memory_sink, job, ledger)
    told.teller.open_study("tiny", params={"trials": 3}, tags=TAGS, files=[])
    yield told
    told.close()


@pytest.fixture
def teller(told: Told) -> Teller:
    return told.teller


def open_trial(teller: Teller, ledger: Ledger) -> int:
    number = ledger.open(ledger.enqueue(PROPOSAL), PROPOSAL)
    teller.open_trial(number, PROPOSAL)
    return number


def test_a_study_is_opened_with_its_plan_and_tags(
    teller: Teller, memory_sink: Any, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    file.write_text("{}")
    teller.open_study("tiny", params={"trials": 4}, tags=TAGS, files=[file])
    assert memory_sink.events[1:] == [
        ("open_study", "tiny", {"trials": 4}, {**TAGS, Tag.KIND: "study"})
    ]
    assert memory_sink.files["study"] == {"plan.json": b"{}"}


def test_a_trial_is_opened_by_its_active_parameters_and_the_ledger_told(
    teller: Teller, memory_sink: Any, ledger: Ledger
) -> None:
    number = open_trial(teller, ledger)
    ((_, digest, opened, params, tags),) = memory_sink.named("open_trial")
    assert (digest, opened) == (DIGEST, number)
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
    teller: Teller, memory_sink: Any, ledger: Ledger, job: TrialJob
) -> None:
    report = TrialRun(CONFIG, job).step()
    open_trial(teller, ledger)
    teller.log_epoch(DIGEST, 1, report["metrics"])
    teller.close_trial(DIGEST, Outcome.COMPLETE, "", report["metrics"])
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


def test_floors_are_handed_over_unless_they_are_missing(
    teller: Teller, memory_sink: Any, tmp_path: Path
) -> None:
    file = tmp_path / "scores.json"
    file.write_bytes(b"{}")
    there = StudyFloor(name="prevalence", digest="f", metrics={"val_auprc_sv": 0.1}, files=(file,))
    teller.add_floors([there, StudyFloor(name="logistic_regression", digest="g", missing="no")])
    ((_, name, params, tags, metrics),) = memory_sink.named("add_floor")
    assert (name, metrics) == ("floor: prevalence", {"val_auprc_sv": 0.1})
    assert params == {"floor": "prevalence", **SETTINGS}
    assert tags == {**TAGS, Tag.KIND: "floor"}
    assert memory_sink.files[name] == {"scores.json": b"{}"}


def test_a_failed_trial_hands_over_its_traceback(
    teller: Teller, memory_sink: Any, ledger: Ledger
) -> None:
    open_trial(teller, ledger)
    teller.close_trial(DIGEST, Outcome.FAILED, "ValueError: bad", {}, "Traceback: ...")
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


def test_what_was_settled_and_never_told_is_told_at_the_next_start(
    teller: Teller, memory_sink: Any, ledger: Ledger
) -> None:
    told = settle(ledger, 0.1, Outcome.COMPLETE, 0.5)
    lost = settle(ledger, 0.2, Outcome.COMPLETE, 0.6)
    half = settle(ledger, 0.3, Outcome.FAILED, 0.4)
    before = {told: "complete", half: "stopped"}
    assert teller.catch_up(ledger.trials().proposals, before) == 2
    assert [event[1] for event in memory_sink.named("open_trial")] == [lost, half]
    assert memory_sink.named("close_trial") == [
        ("close_trial", f"run-{lost}", Outcome.COMPLETE, "", {"val_auprc_sv": 0.6}),
        ("close_trial", f"run-{half}", Outcome.FAILED, "why", {"val_auprc_sv": 0.4}),
    ]
    before |= {lost: "complete", half: "failed"}
    assert teller.catch_up(ledger.trials().proposals, before) == 0


@pytest.mark.parametrize("outcome", [Outcome.PRUNED, Outcome.FAILED, Outcome.STOPPED])
def test_an_unfinished_trial_hands_over_its_configuration_only(
    teller: Teller, memory_sink: Any, ledger: Ledger, outcome: Outcome
) -> None:
    open_trial(teller, ledger)
    teller.close_trial(DIGEST, outcome, "why", {})
    assert memory_sink.named("close_trial") == [("close_trial", RUN, outcome, "why", {})]
    assert memory_sink.files[RUN].keys() == {"configuration.json"}


def test_a_finished_trial_without_files_is_recorded_and_the_loss_is_told(
    teller: Teller, memory_sink: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    open_trial(teller, ledger)
    with caplog.at_level(logging.WARNING):
        teller.close_trial(DIGEST, Outcome.COMPLETE, "", {})
    assert memory_sink.files[RUN].keys() == {"configuration.json"}
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        assert f"trial {DIGEST} left no {name} in its storage" in caplog.text


def row(number: int, value: float, **changes: Any) -> TrialRow:
    return trial_row(number, "a", **{"metrics": {"val_auprc_sv": value}, **changes})


def test_a_closed_study_hands_over_the_weights_of_its_best_finished_trials(
    teller: Teller, memory_sink: Any, job: TrialJob, tmp_path: Path
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
    teller.close_study(
        outcome="complete",
        metrics={"best": 0.9},
        rows=rows,
        objective="val_auprc_sv",
        files=[table],
    )
    assert memory_sink.named("close_study") == [("close_study", "complete", {"best": 0.9})]
    assert BEST_WEIGHTS == 3
    assert memory_sink.files["closed study"] == {
        "trials.csv": b"number\n",
        "weights_001_d1.pt": b"weights 1",
        "weights_003_d3.pt": b"weights 3",
    }


def test_a_trial_whose_opening_is_missing_is_named(teller: Teller, tmp_path: Path) -> None:
    with pytest.raises(StudyStateError) as caught:
        teller.log_epoch("d", 1, {})
    assert str(caught.value) == f"{tmp_path / 'journal.jsonl'} does not say how trial d was opened"


@pytest.mark.parametrize("lost", [PREDICTIONS, BEATS])
def test_a_trial_whose_pictures_cannot_be_drawn_is_recorded_without(
    teller: Teller,
    memory_sink: Any,
    ledger: Ledger,
    job: TrialJob,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lost: str,
) -> None:
    storage = job.storage.folder(DIGEST)
    storage.write(PREDICTIONS, b"damaged")
    if lost == BEATS:
        (tmp_path / BEATS).unlink()
    open_trial(teller, ledger)
    teller.close_trial(DIGEST, Outcome.COMPLETE, "", {})
    where = tmp_path / BEATS if lost == BEATS else f"{storage.root}/{PREDICTIONS} is damaged ("
    assert f"a trial without pictures: {where}" in caplog.text
    assert memory_sink.files[RUN].keys() == {"configuration.json", PREDICTIONS}
