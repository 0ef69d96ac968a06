"""Calibration: of the beats given some probability of a class, which share is of that class?

Shapes: R runs, N beats, C classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.statistics.predictions import Beats

BINS = 50
"""Bins of equal count. Few beats are S: with fewer bins, one would hold all that look like S."""

_LEAST = 1e-12
"""Lowest probability whose logarithm is taken."""

_LOG_TEMPERATURES = (-2.0, 2.0)

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """How an arm's probabilities of a class compare with its beats, all runs together."""

    probability: Float  # [B] mean probability in each bin, in rising order
    share: Float  # [B] share of the class among the bin's beats
    mean: float  # mean probability
    # Mean squared difference of probability and label (Brier 1950,
    # doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2), of the class against the rest
    brier: float


def calibration(
    beats: Beats, log_probs: NDArray[np.floating], aami_class: int
) -> Calibration | None:
    """Return the calibration of out-of-fold log-probabilities [R, N, C], None without such beats.

    A bin may hold fewer beats where many have one probability.
    """
    validated = beats.held_out[beats.record]
    positive = np.tile(beats.label[validated] == aami_class, len(log_probs))
    if not positive.any():
        return None
    probability = np.exp(log_probs[:, validated, aami_class].astype(np.float64)).ravel()
    edges = np.percentile(probability, np.linspace(0, 100, BINS + 1))
    of_bin = np.searchsorted(edges[1:-1], probability)
    n = np.bincount(of_bin, minlength=BINS)
    told, found = np.bincount(of_bin, probability, BINS), np.bincount(of_bin, positive, BINS)
    return Calibration(
        probability=told[n > 0] / n[n > 0],
        share=found[n > 0] / n[n > 0],
        mean=float(probability.mean()),
        brier=float(((probability - positive) ** 2).mean()),
    )


def fit_temperature(probs: NDArray[np.floating], label: NDArray[np.int64]) -> float:
    """Return the temperature of probabilities [N, C] at which labels [N] are most likely.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599. It is one number: a bias for each class
    beside it fits some 20 patients better and others worse (docs/predict.md).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logs = np.log(np.maximum(probs.astype(np.float64), _LEAST))
    own = logs[np.arange(len(label)), label]

    def loss(log_temperature: float) -> float:
        slope = np.exp(-log_temperature)
        return float((logsumexp(slope * logs, axis=1) - slope * own).mean())

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def log_loss(probs: NDArray[np.floating], label: NDArray[np.int64]) -> float:
    """Return the mean of -log of the probability of the own class, of [N, C]."""
    own = probs[np.arange(len(label)), label].astype(np.float64)
    return float(-np.log(np.maximum(own, _LEAST)).mean())


def brier_score(probs: NDArray[np.floating], label: NDArray[np.int64]) -> float:
    """Return the mean squared distance of probabilities [N, C] and labels, 0 to 2 (Brier 1950)."""
    own = np.eye(probs.shape[1])[label]
    return float(((probs - own) ** 2).sum(axis=1).mean())
