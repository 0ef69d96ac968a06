"""Scores of every arm under many weightings of the records, and the draws that make them.

Patients are drawn within folds, since a fold's beats are ranked by its own members. Of n patients
n - 1 are drawn with replacement, and likewise of the seeds: n of n would understate the variance
by (n - 1) / n, a quarter in a fold of four (Rao & Wu 1988, doi:10.1080/01621459.1988.10478591).
A fold has few patients and so few distinct weightings: each is scored once, and thousands of
resamples look it up.

With several partitions into folds a patient is in another fold of each. Then patients are drawn
from all folds together, as many as fold by fold: a patient is drawn as often in every partition,
and weights vary as much within folds. Partitions are drawn like seeds, and seeds within them.

Shapes: W weightings, G records, P partitions, F folds of all of them, U distinct weightings of a
fold, A arms, D draws, S seeds of a partition, R runs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from study.beats import ratio, scorable
from study.keys import CLASSES
from study.statistics.predictions import ArmRuns, Beats, HeldOut
from study.statistics.weighted_metrics import MEASURES, Float, Int, Ranking


def draw_patients(beats: Beats, n_resamples: int, rng: np.random.Generator) -> Float:
    """Return how often each record is drawn, [W, G]; records of one patient together."""
    weights = np.zeros((n_resamples, len(beats.record_names)))
    strata, fewer = _patients_by_fold(beats), 1
    if beats.n_partitions > 1:
        strata, fewer = [[of_patient for fold in strata for of_patient in fold]], beats.n_folds
    for records in strata:
        n = len(records)
        drawn = rng.multinomial(max(n - fewer, 1), np.full(n, 1 / n), size=n_resamples)
        for patient, of_patient in enumerate(records):
            weights[:, of_patient] = drawn[:, [patient]]
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class SeedShares:
    """How much of each mean over runs a partition and a seed have, in each resample."""

    partition: Float  # [W, P]
    seed: Float  # [W, F, S] in each fold: seeds have no stream in common

    @classmethod
    def drawn(cls, beats: Beats, n_seeds: int, n_resamples: int, rng: np.random.Generator) -> Self:
        """Draw seeds and partitions; `n_seeds` is of all partitions together."""
        n_partitions = beats.n_partitions
        n_folds = n_partitions * beats.n_folds
        seed = _shares(n_seeds // n_partitions, (n_resamples, n_folds), rng)
        return cls(partition=_shares(n_partitions, (n_resamples,), rng), seed=seed)


def _shares(n: int, size: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Draw n - 1 of n with replacement; return the share of each, [*size, n]."""
    n_drawn = max(n - 1, 1)
    return np.asarray(rng.multinomial(n_drawn, np.full(n, 1 / n), size=size) / n_drawn)


Bool = NDArray[np.bool_]

ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedScores:
    """The scores of every arm and run, fold by fold, under every distinct weighting."""

    # All by fold, the folds of one partition after those of the other
    values: tuple[Float, ...]  # [A, D, S, U, C]; NaN where undefined
    beats: tuple[Float, ...]  # [U, C] weighted beats
    combination: Int  # [W, F] index of each weighting among a fold's distinct ones
    n_partitions: int

    @classmethod
    def of(
        cls,
        beats: Beats,
        arms: Sequence[ArmRuns],
        weights: Float,
        measure: str,
        progress: Callable[[str], None] | None = None,
        *,
        classes: Sequence[str] = CLASSES,
    ) -> Self:
        """Score comparable arms (see `check_comparable`) under weights of records [W, G].

        Classes not asked for are NaN.
        """
        counts, folds = beats.counts, list(beats.folds)
        distinct, combinations = zip(*(held.distinct(weights) for held in folds), strict=True)
        by_arm = []
        for index, arm in enumerate(arms):
            if progress:
                progress(f"scoring {arm.name} ({index + 1} of {len(arms)})")
            by_arm.append(
                [
                    _fold_values(beats, arm, held, unique, measure, classes)
                    for held, unique in zip(folds, distinct, strict=True)
                ]
            )
        return cls(
            values=tuple(np.stack(of_fold) for of_fold in zip(*by_arm, strict=True)),
            beats=tuple(u @ counts[held.records] for u, held in zip(distinct, folds, strict=True)),
            combination=np.stack(combinations, axis=1),
            n_partitions=beats.n_partitions,
        )

    @property
    def partitions(self) -> list[range]:
        """The folds of each partition."""
        size = len(self.values) // self.n_partitions
        return [range(p * size, (p + 1) * size) for p in range(self.n_partitions)]

    def counted(self, fold: int, weightings: slice = ALL) -> Bool:
        """Return whether a fold counts for each class, [W, C]: enough of its beats, and others."""
        return scorable(self.beats[fold][self.combination[weightings, fold]])

    def by_fold(
        self, fold: int, weightings: slice = ALL, seeds: SeedShares | None = None
    ) -> Float:
        """Return the scores of a fold, draws averaged, [A, W, C], whether it counts or not.

        Without shares of seeds their mean.
        """
        values = self.values[fold].mean(axis=1)[:, :, self.combination[weightings, fold]]
        if seeds is None:
            return np.asarray(values.mean(axis=1))
        return np.asarray(np.einsum("aswc,ws->awc", values, seeds.seed[:, fold]))

    def by_class(self, weightings: slice = ALL, seeds: SeedShares | None = None) -> Float:
        """Return the mean over the folds that count, then over partitions, [A, W, C].

        NaN where a partition has no fold that counts. Without shares of seeds and partitions their
        mean.
        """
        means = np.stack(
            [self._by_class(folds, weightings, seeds) for folds in self.partitions], axis=-1
        )
        if seeds is None:
            return np.asarray(means.mean(axis=-1))
        # What a resample does not draw takes no part, even where it is undefined.
        shares = seeds.partition[:, None]
        return np.asarray(np.where(shares > 0, means * shares, 0.0).sum(axis=-1))

    def _by_class(self, folds: range, weightings: slice, seeds: SeedShares | None) -> Float:
        """Return the mean over the folds of a partition that count, [A, W, C]; NaN without any."""
        counted = np.stack([self.counted(fold, weightings) for fold in folds])
        scores = np.stack([self.by_fold(fold, weightings, seeds) for fold in folds])
        total = np.where(counted[:, None], scores, 0.0).sum(axis=0)
        return ratio(total, counted.sum(axis=0))


def _fold_values(
    beats: Beats,
    arm: ArmRuns,
    held: HeldOut,
    weights: Float,
    measure: str,
    classes: Sequence[str],
) -> Float:
    """Return one arm's scores of a fold, [D, S, U, C]."""
    order = arm.runs_on(held.partition, beats.n_partitions)
    distinct = order[:1] if arm.one_model else order
    values = np.full((len(distinct), len(weights), len(CLASSES)), np.nan)
    for c in map(CLASSES.index, classes):
        positive = held.label == c
        if not positive.any():
            continue
        for index, run in enumerate(distinct):
            score = arm.log_probs[run, held.rows, c]
            ranking = Ranking.of(score, positive, held.record, len(held.records))
            values[index, :, c] = MEASURES[measure](ranking, weights)
    n_draws = len(np.unique(arm.draw))
    every = np.broadcast_to(values, (len(order), *values.shape[1:]))
    return every.reshape(n_draws, -1, *values.shape[1:])


def _patients_by_fold(beats: Beats) -> list[list[Int]]:
    """Return the records of each patient, fold by fold of the first partition."""
    patients = np.asarray(beats.patient_of_record)
    return [
        [held.records[patients[held.records] == patient] for patient in names]
        for held in beats.folds
        if held.partition == 0
        for names in [sorted(set(patients[held.records]))]
    ]
