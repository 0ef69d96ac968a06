"""Weighted metrics against scikit-learn's, weighting by weighting, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from study.statistics.weighted_metrics import MEASURES, Ranking
from study.training.metrics import RANKING, threshold_counts

SKLEARN = {"auprc": average_precision_score, "auroc": roc_auc_score}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_every_weighting_equals_scikit_learn(measure: str, decimals: int) -> None:
    """At 0 decimals nearly every score is tied, at 6 none: more thresholds than a block has."""
    rng = np.random.default_rng(decimals)
    score = np.round(rng.normal(size=1000), decimals).astype(np.float32)
    positive, record = rng.random(1000) < 0.6, rng.integers(0, 5, 1000)
    weights = rng.integers(0, 4, (70, 5)).astype(np.float64)
    weights = weights[weights.any(axis=1)]
    ranking = Ranking.of(score, positive, record, 5)
    for weight, value in zip(weights, MEASURES[measure](ranking, weights), strict=True):
        expected = SKLEARN[measure](positive, score, sample_weight=weight[record])
        assert value == pytest.approx(expected, abs=1e-6)
    trained = RANKING[measure](*threshold_counts(score, positive))
    assert MEASURES[measure](ranking, np.ones((1, 5))) == pytest.approx([trained], abs=1e-6)


def test_without_positives_or_others_a_metric_is_undefined() -> None:
    score, record = np.array([3.0, 2.0, 1.0]), np.array([0, 1, 2])
    ranking = Ranking.of(score, np.array([True, True, False]), record, 3)
    weights = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    undefined = np.isnan([ranking.average_precision(weights), ranking.area_under_roc(weights)])
    assert undefined.tolist() == [[True, False, True, False], [True, True, True, False]]
