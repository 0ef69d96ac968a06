"""What MLflow is to show of a study, and the files that it is to keep, from the study alone."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config import TrialConfig
from study.data.folds import ALL
from study.keys import Outcome, Tag
from study.models import rules
from study.store.floors import FOLDER, KEY, MADE_BY
from study.store.folder import BEATS, SPACE_COPY, TRIALS
from study.store.ledger import Ledger
from study.store.study import Places, Study
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES, WEIGHTS
from study.store.trials import Proposal
from study.tracking.run_facts import FLOOR, STUDY, TRIAL, RunFacts
from study.tracking.run_files import BEST_WEIGHTS, files_of
from study.tracking.study_runs import ShownStudy
from tests.builders import npz, study_plan

CONFIG = TrialConfig.from_flat({"fusion": "mhca_time", "embed_dim": 8, "epochs": 2})
DIGEST = rules.digest(CONFIG)
PLAN = study_plan(trials=3, epochs=2)
N_BEATS = 40


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny", epochs=2)
    opened.begin_start({Tag.GIT_COMMIT: "abc", Tag.DEVICE: "cpu"})
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / PLAN.name
    folder.mkdir()
    rng = np.random.default_rng(0)
    content = npz(
        label=rng.integers(0, 4, N_BEATS),
        record=np.arange(N_BEATS) // 20,
        record_names=np.asarray(["101", "106"]),
        fold_of_record=np.asarray([0, 1]),
        patient_of_record=np.asarray(["101", "106"]),
    )
    (folder / BEATS).write_bytes(content)
    PLAN.save(folder)
    (folder / SPACE_COPY).write_text("")
    return folder


def shown(ledger: Ledger, folder: Path, **plan: Any) -> ShownStudy:
    places, changed = Places(folder=folder), replace(PLAN, **plan)
    return ShownStudy(Study(places=places, plan=changed, held=True, trials=ledger.trials()))


def trial(ledger: Ledger, folder: Path, digest: str = DIGEST) -> RunFacts:
    facts = shown(ledger, folder).run(TRIAL, digest)
    assert facts is not None
    return facts


def begin(ledger: Ledger, config: TrialConfig = CONFIG, attempt: int = 1) -> int:
    digest = rules.digest(config)
    proposal = Proposal(
        config=config, digest=digest, arm=rules.arm(config), params={}, attempt=attempt
    )
    number = ledger.open(ledger.enqueue(proposal), proposal)
    ledger.begin(number)
    return number


def close(ledger: Ledger, number: int, outcome: Outcome, value: float = 0.5, **more: Any) -> None:
    if outcome is not Outcome.STOPPED:
        ledger.record(number, 2, value, {})
    metrics = {"val_auprc_sv": value} if outcome is Outcome.COMPLETE else {}
    given = {"cause": "", "metrics": metrics, "epochs": 2, "seconds": 3.0, "objective": value}
    ledger.close(number, outcome, **{**given, **more})


def steps(facts: RunFacts, name: str = "val_auprc_sv") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in facts.points if point.name == name]


def test_a_trial_has_its_parameters_tags_and_epochs(ledger: Ledger, folder: Path) -> None:
    number = begin(ledger)
    ledger.record(number, 1, 0.4, {"val_auprc_sv": 0.4, "val_auprc_F": math.nan})
    facts = trial(ledger, folder)
    assert facts.name == f"{number} opt1/mhca_time d=8 h=1 g=-2"
    assert facts.params == rules.active_parameters(CONFIG)
    assert facts.tags == {
        Tag.STUDY: PLAN.name,
        Tag.STUDY_ID: ledger.study_id,
        Tag.SPACE: "tiny",
        Tag.STAGE: "validation",
        Tag.DATA_SOURCE: "synthetic",
        Tag.DATA_FINGERPRINT: "2" * 12,
        Tag.FOLD_FINGERPRINT: "1" * 12,
        Tag.ENGINE: "fp32, not compiled",
        Tag.GIT_COMMIT: "abc",
        Tag.DEVICE: "cpu",
        Tag.ARM: "opt1 / daeac / mhca_time / seed7 / real",
        Tag.INPUT: "opt1",
        Tag.FUSION: "mhca_time",
        Tag.ATTEMPT: "1",
    }
    assert (facts.status, facts.outcome, facts.ended_s) == ("RUNNING", "", None)
    assert (steps(facts), facts.undefined) == ([(1, 0.4)], frozenset({"val_auprc_F"}))
    close(ledger, number, Outcome.PRUNED, cause="asha stopped it")
    facts = trial(ledger, folder)
    assert (facts.status, facts.outcome, facts.cause) == ("KILLED", "pruned", "asha stopped it")
    assert facts.ended_s == pytest.approx(facts.began_s + 3.0)


def test_a_trial_that_no_worker_had_has_no_run(ledger: Ledger, folder: Path) -> None:
    proposal = Proposal(config=CONFIG, digest=DIGEST, arm="a", params={})
    ledger.open(ledger.enqueue(proposal), proposal)
    assert shown(ledger, folder).run(TRIAL, DIGEST) is None
    assert shown(ledger, folder).keys() == [(STUDY, "")]


def test_an_epoch_that_another_attempt_ran_again_stays_as_it_was(
    ledger: Ledger, folder: Path
) -> None:
    first = begin(ledger)
    ledger.record(first, 1, 0.4, {"beats_per_second": 1.0})
    close(ledger, first, Outcome.STOPPED, cause="Ctrl-C")
    second = begin(ledger, attempt=2)
    for epoch in (1, 2):
        ledger.record(second, epoch, 0.4, {"beats_per_second": 2.0})
    facts = trial(ledger, folder)
    assert steps(facts, "beats_per_second") == [(1, 1.0), (2, 2.0)]
    assert (facts.status, facts.tags[Tag.ATTEMPT]) == ("RUNNING", "2")
    assert facts.name.startswith(f"{second} ")


def test_an_outcome_that_counts_no_more_is_stopped_and_says_why(
    ledger: Ledger, folder: Path
) -> None:
    number = begin(ledger)
    close(ledger, number, Outcome.COMPLETE)
    ledger.withdraw(number, "predictions.npz is missing")
    facts = trial(ledger, folder)
    assert (facts.status, facts.outcome) == ("KILLED", "stopped")
    assert facts.cause == "owed again: predictions.npz is missing"


def test_a_study_has_the_figures_of_each_of_its_ends(ledger: Ledger, folder: Path) -> None:
    assert shown(ledger, folder).study_run().status == "RUNNING"
    ledger.end_start(Outcome.STOPPED, {"trials_complete": 0.0, "orchestration_share": math.nan})
    assert shown(ledger, folder).study_run().undefined == {"orchestration_share"}
    ledger.begin_start({Tag.GIT_COMMIT: "def"})
    ledger.end_start(Outcome.COMPLETE, {"trials_complete": 3.0})
    facts = shown(ledger, folder).study_run()
    assert (facts.name, facts.status, facts.outcome) == (PLAN.name, "FINISHED", "complete")
    assert steps(facts, "trials_complete") == [(1, 0.0), (2, 3.0)]
    assert facts.params["trials"] == 3
    assert facts.tags[Tag.GIT_COMMIT] == "def"
    tested = shown(ledger, folder, folds=ALL).study_run()
    assert tested.tags[Tag.STAGE] == "test"


def test_floors_are_those_of_the_folder(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    place = folder / FOLDER / "prevalence"
    place.mkdir(parents=True)
    scores = {KEY: "f", "metrics": {"val_auprc_sv": 0.1, "sd": None}, MADE_BY: {"points": 32}}
    (place / SCORES).write_text(json.dumps(scores))
    (folder / FOLDER / "half").mkdir()
    study = shown(ledger, folder)
    assert study.keys() == [(FLOOR, "f"), (STUDY, "")]
    facts = study.run(FLOOR, "f")
    assert facts is not None
    assert (facts.name, facts.outcome) == ("floor: prevalence", "complete")
    assert facts.params == {"floor": "prevalence", "points": 32}
    assert (steps(facts), facts.undefined) == ([(0, 0.1)], frozenset({"sd"}))
    assert [file.name for file in files_of(study, FLOOR, "f", tmp_path)] == [SCORES]


def leave_results(study: ShownStudy, digest: str, predictions: bytes) -> None:
    files = study.study.files.folder(digest)
    for name, content in {PREDICTIONS: predictions, PER_RECORD: b"r\n", SCORES: b"{}"}.items():
        files.write(name, content)


def kept(study: ShownStudy, kind: str, digest: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    return {file.name: file.read_bytes() for file in files_of(study, kind, digest, folder)}


def test_a_complete_trial_keeps_its_results_and_two_pictures(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    close(ledger, begin(ledger), Outcome.COMPLETE)
    study = shown(ledger, folder)
    leave_results(study, DIGEST, npz(log_probs=np.zeros((1, N_BEATS, 4), np.float32)))
    files = kept(study, TRIAL, DIGEST, tmp_path / "files")
    pictures = {"pr_curves.png", "confusion_matrix.png"}
    assert files.keys() == {"configuration.json", PREDICTIONS, PER_RECORD, SCORES} | pictures
    config = TrialConfig.from_flat(json.loads(files["configuration.json"]))
    assert rules.digest(config) == DIGEST


@pytest.mark.parametrize("lost", [PREDICTIONS, BEATS])
def test_a_trial_whose_pictures_cannot_be_drawn_is_kept_without(
    ledger: Ledger, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    close(ledger, begin(ledger), Outcome.COMPLETE)
    study = shown(ledger, folder)
    leave_results(study, DIGEST, b"damaged")
    if lost == BEATS:
        (folder / BEATS).unlink()
    files = kept(study, TRIAL, DIGEST, tmp_path / "files")
    assert files.keys() == {"configuration.json", PREDICTIONS, PER_RECORD, SCORES}
    assert "a trial without pictures: " in caplog.text


@pytest.mark.parametrize("outcome", [Outcome.PRUNED, Outcome.FAILED, Outcome.STOPPED])
def test_an_unfinished_trial_keeps_its_configuration_and_a_failure_its_traceback(
    ledger: Ledger, folder: Path, tmp_path: Path, outcome: Outcome
) -> None:
    traceback = "Traceback: ..." if outcome is Outcome.FAILED else ""
    close(ledger, begin(ledger), outcome, traceback=traceback)
    files = kept(shown(ledger, folder), TRIAL, DIGEST, tmp_path / "files")
    expected = {"configuration.json"} | ({"traceback.txt"} if traceback else set())
    assert files.keys() == expected


def test_results_that_are_gone_are_named(
    ledger: Ledger, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    close(ledger, begin(ledger), Outcome.COMPLETE)
    with caplog.at_level(logging.WARNING):
        files = kept(shown(ledger, folder), TRIAL, DIGEST, tmp_path / "files")
    assert files.keys() == {"configuration.json"}
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        assert f"trial {DIGEST} left no {name} in its storage" in caplog.text


def test_a_study_that_ended_keeps_the_weights_of_its_best(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    values = [0.1, 0.9, 0.8, 0.7, 0.6]
    digests = []
    for index, value in enumerate(values):
        config = TrialConfig.from_flat(CONFIG.flat() | {"dropout": 0.1 + index / 100})
        close(ledger, begin(ledger, config), Outcome.COMPLETE, value)
        digests.append(rules.digest(config))
    study = shown(ledger, folder)
    for index, digest in enumerate(digests):
        if index != 2:
            study.study.files.folder(digest).write(WEIGHTS, f"weights {index}".encode())
    (folder / TRIALS).write_text("number\n")
    files = kept(study, STUDY, "", tmp_path / "files")
    assert BEST_WEIGHTS == 3
    assert files == {
        "plan.json": (folder / "plan.json").read_bytes(),
        SPACE_COPY: b"",
        TRIALS: b"number\n",
        f"weights_001_{digests[1]}.pt": b"weights 1",
        f"weights_003_{digests[3]}.pt": b"weights 3",
    }
