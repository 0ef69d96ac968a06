"""Decision thresholds: chosen on one set of predictions, used on another.

A threshold belongs to one class against all others: a beat is called S if its probability of S
reaches the threshold of S, whatever its other probabilities are.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES
from study.training.metrics import DECISIONS, threshold_counts

Float = NDArray[np.float64]


def best_f1_thresholds(log_probs: NDArray[np.floating], label: NDArray[np.int64]) -> Float:
    """Return the probability [C] at which F1 of each class is highest, seeds taken together.

    The log-probabilities [S, N, C] must be of beats that their models did not train on. A
    threshold lies halfway to the next lower probability; a class without beats, or without
    others, has NaN.
    """
    probs = np.exp(log_probs.astype(np.float64))
    thresholds = np.full(len(CLASSES), np.nan)
    for c in range(len(CLASSES)):
        positive = np.tile(label == c, len(probs))
        if positive.any() and not positive.all():
            thresholds[c] = _best(probs[:, :, c].ravel(), positive)
    return thresholds


def _best(score: Float, positive: NDArray[np.bool_]) -> float:
    true, false = threshold_counts(score, positive)
    best = int(np.argmax(2 * true / (true + false + positive.sum())))
    # Halfway, so that rounding does not decide about the beat at the threshold.
    levels = np.unique(score)[::-1]
    return float(levels[best : best + 2].mean())


def decisions_at(
    log_probs: NDArray[np.floating], label: NDArray[np.int64], thresholds: Float
) -> dict[str, Float]:
    """Return every metric of `DECISIONS` at given thresholds, [S, C]; NaN where undefined.

    Thresholds [C] are probabilities, chosen on other predictions than these [S, N, C].
    """
    called = np.exp(log_probs.astype(np.float64)) >= thresholds
    positive = label[:, None] == np.arange(len(CLASSES))
    # Rows: others, the class; columns: not called, called.
    confusion = np.stack(
        [
            np.stack([(rows & ~called).sum(axis=1), (rows & called).sum(axis=1)], axis=-1)
            for rows in (~positive, positive)
        ],
        axis=-2,
    )
    undefined = np.isnan(thresholds)
    decisions = {}
    for name, metric in DECISIONS.items():
        values = metric(confusion)[..., 1]
        decisions[name] = np.where(undefined, np.nan, values)
    return decisions
