"""Precision-recall and ROC curves, computed within folds and averaged over folds, like the score.

A curve is the mean of each ranking's precision (or sensitivity) at the points of a grid: over
runs, over the folds of a partition that count, and over partitions. Its band holds 95 % of the
curves of resampled patients.

Shapes: U distinct weightings of a fold, W resamples, G records, T thresholds, P points,
J partitions into folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.beats import scorable
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.resampling import draw_patients
from study.statistics.weighted_metrics import Ranking

Float = NDArray[np.float64]

GRID = np.linspace(0.01, 1.0, 100)
"""Grid of recall, or of the false positive rate."""

RESAMPLES = 400
MOST_RUNS = 5
"""Largest number of runs of an arm in each fold: further runs change a curve little."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A mean curve [P] and the ends of its band [P]; NaN where no fold of a partition counts."""

    value: Float
    low: Float
    high: Float


def curves(
    beats: Beats, arm: ArmRuns, aami_class: int, *, resamples: int = RESAMPLES
) -> tuple[Curve, Curve]:
    """Return precision over recall, and sensitivity over the false positive rate.

    Without resamples they have no bands, and take a hundredth of the time.
    """
    drawn = draw_patients(beats, resamples, np.random.default_rng(0))
    weights = np.vstack([np.ones(len(beats.record_names)), drawn])
    total = np.zeros((beats.n_partitions, 2, len(weights), len(GRID)))  # [J, 2, 1 + W, P]
    n_folds = np.zeros((beats.n_partitions, 1, len(weights), 1))
    for held in beats.folds:
        positive = held.label == aami_class
        if not positive.any() or positive.all():
            continue
        distinct, index = held.distinct(weights)
        counted = scorable(distinct @ beats.counts[held.records])[index, aami_class]
        read = np.zeros((2, len(distinct), len(GRID)))
        every = arm.runs_on(held.partition, beats.n_partitions)
        some = np.linspace(0, len(every) - 1, min(MOST_RUNS, len(every))).astype(int)
        for run in arm.log_probs[every[some]]:
            score = run[held.rows, aami_class]
            ranking = Ranking.of(score, positive, held.record, len(held.records))
            read += _read(ranking, distinct)
        total[held.partition][:, counted] += read[:, index][:, counted] / len(some)
        n_folds[held.partition, 0, :, 0] += counted
    with np.errstate(invalid="ignore"):
        mean = np.where(n_folds > 0, total / n_folds, np.nan).mean(axis=0)
    return _curve(mean[0]), _curve(mean[1])


def _read(ranking: Ranking, weights: Float) -> Float:
    """Return precision and sensitivity [2, U, P] under weightings [U, G]."""
    single = weights.astype(np.float32)
    true, decided = single @ ranking.positives, single @ ranking.beats
    false, negatives = decided - true, weights @ ranking.negatives
    read = np.full((2, len(weights), len(GRID)), np.nan)
    for u in range(len(weights)):
        positives = float(true[u, -1])
        if positives == 0 or negatives[u] == 0:
            continue
        at = np.searchsorted(true[u], ((GRID - 1e-9) * positives).astype(np.float32))
        at = np.minimum(at, true.shape[1] - 1)
        read[0, u] = true[u, at] / decided[u, at]
        passed = np.searchsorted(false[u], (GRID * negatives[u]).astype(np.float32), side="right")
        read[1, u] = np.where(passed > 0, true[u, passed - 1], 0) / positives
    return read


def _curve(values: Float) -> Curve:
    resampled = values[1:]
    whole = np.isfinite(resampled).all(axis=1)
    if not whole.any():
        return Curve(values[0], *np.full((2, len(GRID)), np.nan))
    low, high = np.percentile(resampled[whole], [2.5, 97.5], axis=0)
    return Curve(values[0], low, high)
