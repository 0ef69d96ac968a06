"""Scores of every arm under many weightings of the records, and the draws that make them.

Patients are drawn within folds, since a fold's beats are ranked by its own members. Of n patients
n - 1 are drawn with replacement, and likewise of the seeds: n of n would understate the variance
by (n - 1) / n, a quarter in a fold of four (Rao & Wu 1988, doi:10.1080/01621459.1988.10478591).
A fold has few patients and so few distinct weightings: each is scored once, and thousands of
resamples look it up.

Shapes: W weightings, G records, F folds, U distinct weightings of a fold, A arms, D draws,
S seeds, R runs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from study.beats import scorable
from study.keys import CLASSES
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.weighted_metrics import MEASURES, Float, Int, Ranking


def draw_patients(beats: Beats, n_resamples: int, rng: np.random.Generator) -> Float:
    """Return how often each record is drawn, [W, G]; records of one patient together."""
    weights = np.zeros((n_resamples, len(beats.record_names)))
    for records in _patients_by_fold(beats):
        n = len(records)
        drawn = rng.multinomial(max(n - 1, 1), np.full(n, 1 / n), size=n_resamples)
        for patient, of_patient in enumerate(records):
            weights[:, of_patient] = drawn[:, [patient]]
    return weights


def draw_seeds(n_seeds: int, n_folds: int, n_resamples: int, rng: np.random.Generator) -> Float:
    """Return the share of each seed, [W, F, S], in each fold: seeds have no stream in common."""
    n_drawn = max(n_seeds - 1, 1)
    drawn = rng.multinomial(n_drawn, np.full(n_seeds, 1 / n_seeds), size=(n_resamples, n_folds))
    return drawn / n_drawn


Bool = NDArray[np.bool_]

ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedScores:
    """The scores of every arm and run, fold by fold, under every distinct weighting."""

    values: tuple[Float, ...]  # by fold, [A, D, S, U, C]; NaN where undefined
    beats: tuple[Float, ...]  # by fold, [U, C] weighted beats
    combination: Int  # [W, F] index of each weighting among a fold's distinct ones

    @classmethod
    def of(
        cls,
        beats: Beats,
        arms: Sequence[ArmRuns],
        weights: Float,
        measure: str,
        progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Score comparable arms (see `check_comparable`) under weights of records [W, G]."""
        counts = beats.counts
        rows = [np.flatnonzero(beats.fold == fold) for fold in range(beats.n_folds)]
        records = [
            np.flatnonzero(np.asarray(beats.fold_of_record) == fold)
            for fold in range(beats.n_folds)
        ]
        distinct, combinations = [], []
        for in_fold in records:
            unique, combination = np.unique(weights[:, in_fold], axis=0, return_inverse=True)
            distinct.append(unique)
            combinations.append(combination.reshape(-1))
        by_arm = []
        for index, arm in enumerate(arms):
            if progress:
                progress(f"scoring {arm.name} ({index + 1} of {len(arms)})")
            by_arm.append(
                [
                    _fold_values(beats, arm, fold_rows, in_fold, unique, measure)
                    for fold_rows, in_fold, unique in zip(rows, records, distinct, strict=True)
                ]
            )
        return cls(
            values=tuple(np.stack(of_fold) for of_fold in zip(*by_arm, strict=True)),
            beats=tuple(u @ counts[in_fold] for u, in_fold in zip(distinct, records, strict=True)),
            combination=np.stack(combinations, axis=1),
        )

    def counted(self, fold: int, weightings: slice = ALL) -> Bool:
        """Return whether a fold counts for each class, [W, C]: enough of its beats, and others."""
        return scorable(self.beats[fold][self.combination[weightings, fold]])

    def by_fold(self, fold: int, weightings: slice = ALL, seeds: Float | None = None) -> Float:
        """Return the scores of a fold, draws averaged, [A, W, C], whether it counts or not.

        Seeds have shares [W, F, S]; None is the mean.
        """
        values = self.values[fold].mean(axis=1)[:, :, self.combination[weightings, fold]]
        if seeds is None:
            return np.asarray(values.mean(axis=1))
        return np.asarray(np.einsum("aswc,ws->awc", values, seeds[:, fold]))

    def by_class(self, weightings: slice = ALL, seeds: Float | None = None) -> Float:
        """Return the mean over the folds that count, [A, W, C]; NaN where there is none.

        Seeds have shares [W, F, S]; None is the mean.
        """
        folds = range(len(self.values))
        counted = np.stack([self.counted(fold, weightings) for fold in folds])
        scores = np.stack([self.by_fold(fold, weightings, seeds) for fold in folds])
        total = np.where(counted[:, None], scores, 0.0).sum(axis=0)
        n_folds = counted.sum(axis=0)
        mean = np.full(total.shape, np.nan)
        np.divide(total, n_folds, out=mean, where=n_folds > 0)
        return mean


def _fold_values(
    beats: Beats, arm: ArmRuns, rows: Int, records: Int, weights: Float, measure: str
) -> Float:
    """Return one arm's scores of a fold, [D, S, U, C]."""
    row_of = np.full(len(beats.record_names), -1)
    row_of[records] = np.arange(len(records))
    record, label = row_of[beats.record[rows]], beats.label[rows]
    order = np.lexsort((arm.seed, arm.draw))
    values = np.full((len(order), len(weights), len(CLASSES)), np.nan)
    for c in range(len(CLASSES)):
        positive = label == c
        if not positive.any():
            continue
        for index, run in enumerate(order):
            ranking = Ranking.of(arm.log_probs[run, rows, c], positive, record, len(records))
            values[index, :, c] = MEASURES[measure](ranking, weights)
    n_draws = len(np.unique(arm.draw))
    return values.reshape(n_draws, -1, *values.shape[1:])


def _patients_by_fold(beats: Beats) -> list[list[Int]]:
    """Return the records of each patient, fold by fold."""
    patients = np.asarray(beats.patient_of_record)
    folds = np.asarray(beats.fold_of_record)
    return [
        [np.flatnonzero((patients == patient) & (folds == fold)) for patient in names]
        for fold in range(beats.n_folds)
        for names in [sorted(set(patients[folds == fold]))]
    ]
