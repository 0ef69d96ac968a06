"""Calibration: of the beats that are told a probability, which share is of the class?

Shapes: R runs, N beats, C classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.statistics.predictions import Beats

BINS = 50
"""Bins of equal count. Few beats are S: with fewer bins, one would hold all that look so."""

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
    """Return the calibration of out-of-fold log-probabilities [R, N, C]; None without such beats.

    A bin may hold fewer beats where many have one probability.
    """
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    validated = beats.held_out[beats.record]
    positive = np.tile(beats.label[validated] == aami_class, len(log_probs))
    if not positive.any():
        return None
    probability = np.exp(log_probs[:, validated, aami_class].astype(np.float64)).ravel()
    share, means = calibration_curve(positive, probability, n_bins=BINS, strategy="quantile")
    brier = brier_score_loss(positive, probability)
    mean = float(probability.mean())
    return Calibration(probability=means, share=share, mean=mean, brier=float(brier))
