"""Metrics of one set of scores, pure NumPy; `study.training.scores` gathers them over a trial.

To add a metric: one function, and its line in `RANKING` or `DECISIONS`. The values of every class,
the macro mean, the mean of S and V, folds and patients follow from it. Undefined is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from study.beats import mean_of_defined, ratio

Counts = NDArray[np.int64]
Sums = NDArray[np.int64] | NDArray[np.float64]
"""Numbers of beats, or sums of their weights."""


def mean_probability(log_probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean probability [N, C] of the seeds that predicted a beat; NaN if none did."""
    return mean_of_defined(np.exp(log_probs.astype(np.float64)), axis=0)


def threshold_counts(
    score: NDArray[np.floating],
    positive: NDArray[np.bool_],
    weight: NDArray[np.float64] | None = None,
) -> tuple[Sums, Sums]:
    """Return true and false positives at every distinct threshold, from the highest down.

    Beats with equal scores pass a threshold together, so that the order of tied beats does not
    matter. With weights, each beat counts as many times.
    """
    order = np.argsort(-score)
    ranked = score[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    if weight is None:
        true = np.cumsum(positive[order])[last_of_tie]
        return true, last_of_tie + 1 - true
    weighted = weight[order]
    true, both = (np.cumsum(w)[last_of_tie] for w in (weighted * positive[order], weighted))
    return true, both - true


def average_precision(true: Sums, false: Sums) -> float:
    """Return the area under the precision-recall curve as a step function (no interpolation)."""
    if true[-1] == 0:
        return float("nan")
    gained = np.diff(true, prepend=0)
    return float(np.sum(gained * (true / (true + false))) / true[-1])


def area_under_roc(true: Sums, false: Sums) -> float:
    """Return the area under the ROC curve; a tie counts half."""
    if true[-1] == 0 or false[-1] == 0:
        return float("nan")
    heights = true - np.diff(true, prepend=0) / 2
    return float(np.sum(np.diff(false, prepend=0) * heights) / (true[-1] * false[-1]))


RANKING: dict[str, Callable[[Sums, Sums], float]] = {
    "auprc": average_precision,
    "auroc": area_under_roc,
}
"""Metrics of a ranking, one class against the rest."""


def confusion_matrix(
    rows: NDArray[np.int64], columns: NDArray[np.int64], *, n_rows: int, n_columns: int
) -> Counts:
    """Return how often each pair occurs, [n_rows, n_columns]: true classes by decided ones."""
    cells = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return cells.reshape(n_rows, n_columns)


def f1(confusion: Counts) -> NDArray[np.float64]:
    """Return F1 by class [..., C] of confusion matrices [..., C, C]."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return ratio(2 * hits, confusion.sum(axis=-1) + confusion.sum(axis=-2))


def sensitivity(confusion: Counts) -> NDArray[np.float64]:
    """Return Se = TP / (TP + FN) by class [..., C] of confusion matrices [..., C, C]."""
    return ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def precision(confusion: Counts) -> NDArray[np.float64]:
    """Return +P = TP / (TP + FP) by class [..., C] of confusion matrices [..., C, C]."""
    return ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-2))


def specificity(confusion: Counts) -> NDArray[np.float64]:
    """Return Sp = TN / (TN + FP) by class [..., C] of confusion matrices [..., C, C]."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    others = confusion.sum(axis=(-2, -1))[..., None] - confusion.sum(axis=-1)
    return ratio(others - (confusion.sum(axis=-2) - hits), others)


DECISIONS: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "f1": f1,
    "se": sensitivity,
    "ppv": precision,
    "sp": specificity,
}
"""Metrics of decisions at the most probable class."""
