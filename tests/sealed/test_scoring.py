from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from study.keys import CLASSES
from study.sealed.scoring import ArmScores, Exclusion, exclusions, score_arm
from study.sealed.thresholds import Thresholds
from study.statistics.predictions import Beats


def predicted(beats: Beats, n_seeds: int = 3) -> np.ndarray:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(n_seeds, len(beats.label), 4)) + np.eye(4)[beats.label]
    log_probs: np.ndarray = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    return log_probs.astype(np.float32)


def thresholds(single: float = 0.3, ensemble: float = 0.4) -> Thresholds:
    return Thresholds(single=np.full(4, single), ensemble=np.full(4, ensemble), source="a test")


@pytest.fixture
def scores(beats: Beats) -> ArmScores:
    left_out = exclusions(beats, ["p4"])
    return score_arm("film", predicted(beats), beats, thresholds(), left_out)


def test_dominating_records_are_found_in_the_data(beats: Beats) -> None:
    assert exclusions(beats, ["p4", "p9"]) == [
        Exclusion(label="without b", records=("b",), why="80% of S"),
        Exclusion(label="without a", records=("a",), why="38% of V"),
        Exclusion(label="without c", records=("c",), why="100% of F"),
        Exclusion(label="without d", records=("d",), why="patient is also in DS1"),
    ]
    assert [e.label for e in exclusions(beats, [])] == ["without b", "without a", "without c"]


def test_every_seed_is_ranked_as_scikit_learn_does(beats: Beats, scores: ArmScores) -> None:
    log_probs = predicted(beats)
    for c, name in enumerate(CLASSES):
        truth = beats.label == c
        auprc = [average_precision_score(truth, p[:, c]) for p in log_probs]
        auroc = [roc_auc_score(truth, p[:, c]) for p in log_probs]
        np.testing.assert_allclose(scores.seeds.values[f"test_auprc_{name}"], auprc)
        np.testing.assert_allclose(scores.seeds.values[f"test_auroc_{name}"], auroc)
    values = scores.seeds.values
    np.testing.assert_allclose(
        values["test_auprc_macro"], np.mean([values[f"test_auprc_{c}"] for c in CLASSES], axis=0)
    )
    np.testing.assert_allclose(
        values["test_auroc_sv"], (values["test_auroc_S"] + values["test_auroc_V"]) / 2
    )


def test_the_ensemble_is_the_mean_probability(beats: Beats, scores: ArmScores) -> None:
    mean = np.exp(predicted(beats).astype(np.float64)).mean(axis=0)
    expected = average_precision_score(beats.label == 1, mean[:, 1])
    np.testing.assert_allclose(scores.ensemble.values["test_auprc_S"], [expected])
    matrix = confusion_matrix(beats.label, mean.argmax(axis=1), labels=range(4))
    np.testing.assert_array_equal(scores.ensemble.confusion, matrix)


def test_decisions_are_those_of_scikit_learn(beats: Beats, scores: ArmScores) -> None:
    log_probs = predicted(beats)
    decided = log_probs.argmax(axis=2)
    total = sum(confusion_matrix(beats.label, d, labels=range(4)) for d in decided)
    np.testing.assert_array_equal(scores.seeds.confusion, total)
    for seed, decisions in enumerate(decided):
        found = precision_recall_fscore_support(beats.label, decisions, labels=range(4))
        for name, values in zip(("ppv", "se", "f1"), found[:3], strict=True):
            got = [scores.seeds.values[f"test_{name}_{c}"][seed] for c in CLASSES]
            np.testing.assert_allclose(got, values)


def test_fixed_thresholds_are_those_of_seeds_and_of_the_ensemble(
    beats: Beats, scores: ArmScores
) -> None:
    probs = np.exp(predicted(beats).astype(np.float64))
    truth = beats.label == 1
    single = [(p[truth, 1] >= 0.3).mean() for p in probs]
    np.testing.assert_allclose(scores.seeds.values["test_fixed_se_S"], single)
    ensemble = (probs.mean(axis=0)[truth, 1] >= 0.4).mean()
    np.testing.assert_allclose(scores.ensemble.values["test_fixed_se_S"], [ensemble])


def test_totals_without_a_record_leave_its_beats_out(beats: Beats, scores: ArmScores) -> None:
    kept = beats.record != 1
    log_probs = predicted(beats)
    expected = [average_precision_score(beats.label[kept] == 2, p[kept, 2]) for p in log_probs]
    got = scores.seeds.without["without b"]
    np.testing.assert_allclose(got["test_auprc_V"], expected)
    # Four beats of S are left: fewer than ten are no basis for a score.
    assert np.isnan(got["test_auprc_S"]).all() and np.isnan(got["test_auprc_sv"]).all()


def test_every_record_has_a_row(beats: Beats, scores: ArmScores) -> None:
    rows = scores.per_record
    assert [row["record"] for row in rows] == ["a", "b", "c", "d"]
    assert {row["arm"] for row in rows} == {"film"}
    assert "fold" not in rows[0]
    here = beats.record == 1
    expected = [
        average_precision_score(beats.label[here] == 1, p[here, 1]) for p in predicted(beats)
    ]
    assert rows[1]["auprc_S"] == pytest.approx(np.mean(expected))
