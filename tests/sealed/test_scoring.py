from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import average_precision_score, confusion_matrix

from study.sealed.scoring import ArmScores, Exclusion, exclusions, score_arm
from study.sealed.thresholds import Thresholds
from study.statistics.predictions import Beats

allclose = np.testing.assert_allclose


@pytest.fixture
def log_probs(beats: Beats) -> np.ndarray:
    """What three seeds say."""
    logits = np.random.default_rng(5).normal(size=(3, len(beats.label), 4))
    logits += np.eye(4)[beats.label]
    return log_softmax(logits, axis=2).astype(np.float32)


@pytest.fixture
def scores(beats: Beats, log_probs: np.ndarray) -> ArmScores:
    fixed = Thresholds(single=np.full(4, 0.3), ensemble=np.full(4, 0.4), source="a test")
    return score_arm("film", log_probs, beats, fixed, exclusions(beats, ["p4"]))


def test_dominating_records_are_found_in_the_data(beats: Beats) -> None:
    assert exclusions(beats, ["p4", "p9"]) == [
        Exclusion(label="without b", records=("b",), why="80% of S"),
        Exclusion(label="without a", records=("a",), why="38% of V"),
        Exclusion(label="without c", records=("c",), why="100% of F"),
        Exclusion(label="without d", records=("d",), why="the patient also trains"),
    ]
    assert [e.label for e in exclusions(beats, [])] == ["without b", "without a", "without c"]


def test_the_ensemble_is_the_mean_probability_and_has_its_own_thresholds(
    beats: Beats, log_probs: np.ndarray, scores: ArmScores
) -> None:
    probs = np.exp(log_probs.astype(np.float64))
    mean = probs.mean(axis=0)
    expected = average_precision_score(beats.label == 1, mean[:, 1])
    allclose(scores.ensemble.values["test_auprc_S"], [expected])
    matrix = confusion_matrix(beats.label, mean.argmax(axis=1), labels=range(4))
    np.testing.assert_array_equal(scores.ensemble.confusion, matrix)
    of_s = probs[:, beats.label == 1, 1]
    allclose(scores.seeds.values["test_fixed_se_S"], (of_s >= 0.3).mean(axis=1))
    allclose(scores.ensemble.values["test_fixed_se_S"], [(of_s.mean(axis=0) >= 0.4).mean()])


def test_totals_without_a_record_leave_its_beats_out_and_every_record_has_a_row(
    beats: Beats, log_probs: np.ndarray, scores: ArmScores
) -> None:
    def auprc(beats_of: np.ndarray, c: int) -> list[float]:
        truth = beats.label[beats_of] == c
        return [average_precision_score(truth, p[beats_of, c]) for p in log_probs]

    without = scores.seeds.without["without b"]
    allclose(without["test_auprc_V"], auprc(beats.record != 1, 2))
    # Four beats of S are left: fewer than ten are no basis for a score.
    assert np.isnan(without["test_auprc_S"]).all() and np.isnan(without["test_auprc_sv"]).all()
    rows = scores.per_record
    assert [(row["arm"], row["record"]) for row in rows] == [("film", name) for name in "abcd"]
    assert "fold" not in rows[0]
    assert rows[1]["auprc_S"] == pytest.approx(np.mean(auprc(beats.record == 1, 1)))
