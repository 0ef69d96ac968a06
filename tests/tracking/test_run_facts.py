"""What MLflow is to show of a study, and the files that it is to keep, from the study alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from study.config import TrialConfig
from study.keys import Outcome, Tag
from study.models import rules
from study.store.folder import BEATS, SPACE_COPY, TRIALS
from study.store.ledger import Ledger
from study.store.study import Places, Study
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES, WEIGHTS
from study.tracking import run_files
from study.tracking.names import ABSENT, metric_shown
from study.tracking.run_facts import TRIAL, RunFacts, ShownStudy, trial_name
from study.tracking.run_files import BEST_WEIGHTS, gather_files
from tests.builders import bare_beats, npz, proposal, stored_beats, study_plan

CONFIG = TrialConfig.from_flat({"fusion": "mhca_time", "embed_dim": 8, "epochs": 2})
DIGEST = rules.digest(CONFIG)
PLAN = study_plan(trials=3, epochs=2)


@pytest.fixture
def ledger() -> Ledger:
    storage = optuna.storages.InMemoryStorage()
    opened = Ledger(storage_url=storage, name="tiny", epochs=2)
    opened.begin_start({Tag.GIT_COMMIT: "abc", Tag.DEVICE: "cpu"})
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / PLAN.name
    folder.mkdir()
    (folder / BEATS).write_bytes(stored_beats(bare_beats([[5] * 4] * 2, ["101", "106"])))
    PLAN.save(folder)
    (folder / SPACE_COPY).write_text("")
    return folder


def shown(ledger: Ledger, folder: Path) -> ShownStudy:
    places = Places(folder=folder)
    return ShownStudy(Study(places=places, plan=PLAN, held=True, trials=ledger.trials()))


def trial(study: ShownStudy) -> RunFacts:
    facts = study.run(TRIAL, DIGEST)
    assert facts is not None
    return facts


def begin(ledger: Ledger, config: TrialConfig = CONFIG) -> int:
    point = proposal(config)
    number = ledger.open(ledger.enqueue(point), point)
    ledger.begin(number)
    return number


def close(ledger: Ledger, number: int, outcome: Outcome, value: float = 0.5, **more: Any) -> None:
    if outcome is not Outcome.STOPPED:
        ledger.record(number, 2, value, {})
    metrics = {"val_auprc_sv": value} if outcome is Outcome.COMPLETE else {}
    given = {"cause": "", "metrics": metrics, "epochs": 2, "seconds": 3.0, "objective": value}
    ledger.close(number, outcome, **{**given, **more})


def test_a_trial_has_its_parameters_tags_and_epochs(ledger: Ledger, folder: Path) -> None:
    number = begin(ledger)
    ledger.record(number, 1, 0.4, {"val_auprc_sv": 0.4, "val_auprc_F": math.nan})
    facts = trial(shown(ledger, folder))
    assert facts.name == f"{number} opt1/mhca_time d=8 h=1 g=-2"
    others = {"input": "ecg", "segmentation": "centred", "late_rr": "causal", "rr": "placebo"}
    assert trial_name(7, others) == "7 ecg/centred/causal/placebo", "what is not the default"
    active = rules.active_parameters(CONFIG)
    assert {name: facts.params[name] for name in active} == active
    assert {facts.params[name] for name in facts.params.keys() - active} == {ABSENT}
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
        Tag.ARM: "opt1 / daeac / mhca_time / published7 / real",
        Tag.INPUT: "opt1",
        Tag.FUSION: "mhca_time",
        Tag.ATTEMPT: "1",
    }
    assert (facts.status, facts.outcome, facts.ended_s) == ("RUNNING", "", None)
    assert [(p.name, p.step, p.value) for p in facts.points] == [("val_auprc_sv", 1, 0.4)]
    assert facts.undefined == {"val_auprc_F"}
    close(ledger, number, Outcome.PRUNED, cause="asha stopped it")
    facts = trial(shown(ledger, folder))
    assert (facts.status, facts.outcome, facts.cause) == ("KILLED", "pruned", "asha stopped it")
    assert facts.ended_s == pytest.approx(facts.began_s + 3.0)


def files_of(study: ShownStudy, facts: RunFacts) -> dict[str, bytes]:
    """Return the files that MLflow is to keep with a run."""
    folder = study.study.folder.parent / "gathered"
    folder.mkdir()
    gather_files(study, facts, folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_metrics_are_grouped_but_for_the_objectives() -> None:
    shown_as = {
        "val_auprc_sv": "val_auprc_sv",
        "val_auprc_S": "class/auprc_S",
        "val_pooled_auprc_S": "pooled/auprc_S",
        "val_patient_auprc_sv": "patient/auprc_sv",
        "val_auprc_sv_fold_sd": "spread/auprc_sv_fold_sd",
        "val_svdb_auprc_S": "database/svdb_auprc_S",
        "rr_reliance_inputs_S_min": "reliance/inputs_S_min",
        "train_loss": "training/train_loss",
        "test_auprc_sv": "test_auprc_sv",
        "test_auprc_S": "class/test_auprc_S",
        "test_fixed_f1_S": "fixed/test_f1_S",
        "test_ensemble_auprc_sv": "ensemble/test_auprc_sv",
        "test_auprc_sv_seed_sd": "spread/test_auprc_sv_seed_sd",
    }
    assert {name: metric_shown(name) for name in shown_as} == shown_as
    assert [metric_shown(name) for name in shown_as.values()] == [*shown_as.values()]


@pytest.mark.parametrize("lost", ["", PREDICTIONS, BEATS, "meanwhile", "all"])
def test_a_complete_trial_keeps_its_results_and_two_pictures_if_they_can_be_drawn(
    ledger: Ledger,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    lost: str,
) -> None:
    close(ledger, begin(ledger), Outcome.COMPLETE)
    study = shown(ledger, folder)
    predictions = npz(log_probs=np.zeros((1, 40, 4), np.float32))
    results = {PREDICTIONS: predictions, PER_RECORD: b"r\n", SCORES: b"{}"}
    if lost == PREDICTIONS:
        results[PREDICTIONS] = b"damaged"
    for name, content in ({} if lost == "all" else results).items():
        study.study.files.folder(DIGEST).write(name, content)
    if lost == BEATS:
        (folder / BEATS).unlink()
    if lost == "meanwhile":
        monkeypatch.setattr(run_files, "read_predictions", lambda *_, **__: None)
    files = files_of(study, trial(study))
    for name in results:
        assert (f"trial {DIGEST} left no {name} in its storage" in caplog.text) == (lost == "all")
    pictures = {"pr_curves.png", "confusion_matrix.png"}
    expected = {"configuration.json"} | (set() if lost == "all" else results.keys())
    assert files.keys() == (expected if lost else expected | pictures)
    assert ("a trial without pictures: " in caplog.text) == (
        lost in (PREDICTIONS, BEATS, "meanwhile")
    )
    config = TrialConfig.from_flat(json.loads(files["configuration.json"]))
    assert rules.digest(config) == DIGEST


@pytest.mark.parametrize("outcome", [Outcome.PRUNED, Outcome.FAILED, Outcome.STOPPED])
def test_an_unfinished_trial_keeps_its_configuration_and_a_failure_its_traceback(
    ledger: Ledger, folder: Path, outcome: Outcome
) -> None:
    traceback = "Traceback: ..." if outcome is Outcome.FAILED else ""
    close(ledger, begin(ledger), outcome, traceback=traceback)
    study = shown(ledger, folder)
    expected = {"configuration.json"} | ({"traceback.txt"} if traceback else set())
    assert files_of(study, trial(study)).keys() == expected


def test_a_study_that_ended_keeps_the_weights_of_its_best(ledger: Ledger, folder: Path) -> None:
    digests = []
    for index, value in enumerate([0.1, 0.9, 0.8, 0.7, 0.6]):
        config = TrialConfig.from_flat(CONFIG.flat() | {"dropout": 0.1 + index / 100})
        close(ledger, begin(ledger, config), Outcome.COMPLETE, value)
        digests.append(rules.digest(config))
        if index != 2:
            weights = f"weights {index}".encode()
            Places(folder=folder).files.folder(digests[-1]).write(WEIGHTS, weights)
    ledger.end_start(Outcome.COMPLETE, {})
    (folder / TRIALS).write_text("number\n")
    study = shown(ledger, folder)
    assert BEST_WEIGHTS == 3
    assert files_of(study, study.study_run()) == {
        "plan.json": (folder / "plan.json").read_bytes(),
        SPACE_COPY: b"",
        TRIALS: b"number\n",
        f"weights_001_{digests[1]}.pt": b"weights 1",
        f"weights_003_{digests[3]}.pt": b"weights 3",
    }
