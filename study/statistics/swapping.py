"""Tests of paired differences by swapping whole records between two arms.

If two arms do not differ, which of them ranked a patient's beats may as well be exchanged. A
patient's ranks within the fold are swapped in every draw, seed and partition at once, and the
difference is computed again. Ranks, because log-probabilities of two arms have no common scale.
The same swaps serve all contrasts, so that the smallest p of each swap adjusts p for all of them
(min-P, step-down: Westfall & Young 1993, Resampling-Based Multiple Testing, algorithm 2.8). The
largest difference over its standard deviation (max-T) would not do: differences are bounded, some
more tightly than others, and an adjusted p could be forty times the raw one.

Swaps alone spread too little. All patients of a fold share the luck of a seed, which no swap of
records changes; and a patient whose ranks change shifts the ranks of all others. So where the
resamples of patients and seeds spread wider, the swaps' differences are stretched to that spread
(`docs/statistics.md` has simulations of it).

Shapes: N beats, G records, R runs, K contrasts, Q swaps, U distinct swaps of a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES
from study.statistics.findings import LEVEL
from study.statistics.predictions import ArmRuns, Beats, HeldOut
from study.statistics.weighted_metrics import MEASURES, Float, Int, Ranking

_EQUAL = 1e-6
"""Differences so close are equal: scores are computed in single precision."""


@dataclass(frozen=True, slots=True, eq=False)
class SwapTest:
    """Differences as they are, and as they are after every swap."""

    observed: Float  # [K] difference of each contrast
    null: Float  # [K, Q] the same after each swap

    @property
    def spread(self) -> Float:
        """Standard deviation of each contrast's differences after swaps, [K]."""
        return np.asarray(np.sqrt(np.mean(self.null**2, axis=1)))

    def stretched(self, se: Float) -> SwapTest:
        """Return the test with every contrast's differences spread no less than its error [K]."""
        spread = np.where(self.spread > 0, self.spread, 1.0)
        factor = np.maximum(se / spread, 1.0)
        return SwapTest(self.observed, self.null * factor[:, None])

    @property
    def p(self) -> Float:
        """Two-sided p of each contrast by itself, [K].

        It is the share of swaps at least as extreme, the observed one included (Phipson & Smyth
        2010, doi:10.2202/1544-6115.1585).
        """
        return np.asarray(self._reached[:, 0] / self._reached.shape[1])

    @property
    def p_adjusted(self) -> Float:
        """Two-sided p adjusted for all contrasts (step-down min-P), [K]."""
        reached = self._reached
        order = np.argsort(reached[:, 0], kind="stable")
        # Each contrast is held against the smallest of itself and all that have a larger p.
        smallest = np.minimum.accumulate(reached[order][::-1], axis=0)[::-1]
        adjusted = np.empty(len(order))
        adjusted[order] = np.maximum.accumulate((smallest <= smallest[:, :1]).mean(axis=1))
        return adjusted

    @property
    def critical(self) -> Float:
        """The difference of each contrast from which its adjusted p is below 5 %, [K].

        It is that of the contrast with the smallest p: none comes before it.
        """
        smallest = self._reached.min(axis=0) / self._reached.shape[1]
        p = np.quantile(smallest, LEVEL, method="lower")
        return np.asarray(np.quantile(np.abs(self.null), 1 - p, axis=1, method="higher"))

    @property
    def _reached(self) -> Int:
        """How many differences are as extreme as the observed, and as each swap's, [K, 1 + Q]."""
        sizes = np.abs(np.column_stack([self.observed, self.null]))
        least = sizes - _EQUAL
        smaller = [
            np.searchsorted(np.sort(row), of_row) for row, of_row in zip(sizes, least, strict=True)
        ]
        return np.asarray(sizes.shape[1] - np.stack(smaller), dtype=np.int64)


def draw_swaps(beats: Beats, n_swaps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which records change arms, [Q, G]; records of one patient together."""
    _, patient = np.unique(np.asarray(beats.patient_of_record), return_inverse=True)
    patient = patient.reshape(-1)
    return np.asarray(rng.random((n_swaps, int(patient.max()) + 1))[:, patient] < 0.5)


def swap_test(
    beats: Beats,
    pairs: Sequence[tuple[ArmRuns, ArmRuns]],
    *,
    classes: Sequence[str],
    measure: str,
    swaps: NDArray[np.bool_],
    progress: Callable[[str], None] | None = None,
) -> SwapTest:
    """Test differences of pairs of comparable arms, first minus second, in a mean of classes.

    Swaps are [Q, G]: the records that change arms.
    """
    observed = np.zeros(len(pairs))
    null = np.zeros((len(pairs), len(swaps)))
    folds = list(beats.folds)
    with_none = np.vstack([np.zeros_like(swaps[:1]), swaps])
    for number, held in enumerate(folds, start=1):
        if progress:
            progress(f"swapping records (fold {number} of {len(folds)})")
        distinct, combination = held.distinct(with_none)
        counted = beats.counted[held.partition]
        for c in [CLASSES.index(name) for name in classes]:
            if not counted[held.fold, c]:
                continue
            share = 1.0 / (beats.n_partitions * len(classes) * counted[:, c].sum())
            differences = _differences(beats, pairs, held, c, measure, distinct)
            for k, difference in enumerate(differences):
                looked_up = difference[combination] * share
                observed[k] += looked_up[0]
                null[k] += looked_up[1:]
    return SwapTest(observed, null)


def _differences(
    beats: Beats,
    pairs: Sequence[tuple[ArmRuns, ArmRuns]],
    held: HeldOut,
    c: int,
    measure: str,
    swapped: NDArray[np.bool_],
) -> list[Float]:
    """Return each pair's difference in one fold and class after each swap, [U], runs averaged."""
    n_records = len(held.records)
    # Both arms' ranks in one list, the second's records apart: to swap is to weight.
    positive = np.tile(held.label == c, 2)
    record = np.append(held.record, held.record + n_records)
    first, second = np.hstack([~swapped, swapped]) * 1.0, np.hstack([swapped, ~swapped]) * 1.0
    arms = {arm.name: arm for pair in pairs for arm in pair}
    ranks = {
        name: [
            _ranks(arm, run, held.rows, c)
            for run in arm.runs_on(held.partition, beats.n_partitions)
        ]
        for name, arm in arms.items()
    }
    differences = []
    for left, right in pairs:
        total = np.zeros(len(swapped))
        for both in zip(ranks[left.name], ranks[right.name], strict=True):
            ranking = Ranking.of(np.concatenate(both), positive, record, 2 * n_records)
            total += MEASURES[measure](ranking, first) - MEASURES[measure](ranking, second)
        differences.append(total / len(ranks[left.name]))
    return differences


def _ranks(arm: ArmRuns, run: int, rows: Int, c: int) -> NDArray[np.float32]:
    """Return the ranks within a fold, equal ones averaged; exact in float32 up to 2^23 beats."""
    _, rank, equal = np.unique(
        arm.log_probs[run, rows, c], return_inverse=True, return_counts=True
    )
    last = np.cumsum(equal)
    return np.asarray((last - (equal - 1) / 2)[rank], dtype=np.float32)
