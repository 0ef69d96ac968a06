"""Metrics equal scikit-learn's on random cases with ties, and are NaN where undefined."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from study.training.metrics import (
    DECISIONS,
    RANKING,
    confusion_matrix,
    threshold_counts,
)

_REFERENCE = {"auprc": reference.average_precision_score, "auroc": reference.roc_auc_score}


def _case(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores with no ties, many ties or one value only, and rare to common positives."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 200))
    score = rng.normal(size=n)
    if seed % 3:
        score = np.round(score * rng.integers(0, 5))
    positive = rng.random(n) < rng.uniform(0.02, 0.98)
    positive[:2] = [True, False]
    return score.astype(np.float32), rng.permutation(positive)


@pytest.mark.parametrize("name", RANKING)
def test_ranking_metrics_equal_scikit_learn(name: str) -> None:
    assert RANKING.keys() == _REFERENCE.keys()
    for seed in range(150):
        score, positive = _case(seed)
        ours = RANKING[name](*threshold_counts(score, positive))
        assert ours == pytest.approx(_REFERENCE[name](positive, score), abs=1e-12), seed


def test_decision_metrics_equal_scikit_learn() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label, decided = rng.integers(0, 4, size=(2, 60))
        confusion = confusion_matrix(label, decided, n_rows=4, n_columns=4)
        precision, recall, f1, _ = reference.precision_recall_fscore_support(label, decided)
        specificity = [reference.recall_score(label != c, decided != c) for c in range(4)]
        expected = {"f1": f1, "se": recall, "ppv": precision, "sp": specificity}
        assert DECISIONS.keys() == expected.keys()
        for name, function in DECISIONS.items():
            np.testing.assert_allclose(function(confusion), expected[name], atol=1e-12)
