"""Swap tests against plain loops, and on arms that do not differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

from study.keys import CLASSES
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.swapping import SwapTest, draw_swaps, swap_test
from tests.builders import MakeArm


def by_loops(beats: Beats, one: ArmRuns, other: ArmRuns, swapped: NDArray[np.bool_]) -> float:
    """Return the difference in S and V where some records [G] change arms."""
    differences = np.zeros((2, beats.n_folds, len(one.draw)))
    for k, fold, run in np.ndindex(differences.shape):
        rows, c = (
            np.flatnonzero(beats.fold[0] == fold),
            (CLASSES.index("S"), CLASSES.index("V"))[k],
        )
        moved, positive = swapped[beats.record[rows]], beats.label[rows] == c
        a, b = (rankdata(arm.log_probs[run, rows, c]) for arm in (one, other))
        ranks = (np.where(moved, b, a), np.where(moved, a, b))
        first, second = (average_precision_score(positive, rank) for rank in ranks)
        differences[k, fold, run] = first - second
    return float(differences.mean())


def test_differences_after_swaps_equal_plain_loops(beats: Beats, make_arm: MakeArm) -> None:
    one, other, third = make_arm("one"), make_arm("other"), make_arm("third", better=1.0)
    swaps = draw_swaps(beats, 6, np.random.default_rng(0))
    pairs = [(one, other), (third, other)]
    found = swap_test(beats, pairs, classes=("S", "V"), measure="auprc", swaps=swaps)
    none = np.zeros(9, dtype=bool)
    for k, (a, b) in enumerate(pairs):
        assert found.observed[k] == pytest.approx(by_loops(beats, a, b, none), abs=1e-6)
        expected = [by_loops(beats, a, b, swapped) for swapped in swaps]
        assert found.null[k] == pytest.approx(expected, abs=1e-6)


def test_runs_are_paired_and_swapping_all_turns_the_sign(beats: Beats, make_arm: MakeArm) -> None:
    one, order = make_arm("one"), [3, 1, 5, 0, 2, 4]
    shuffled = {name: getattr(one, name)[order] for name in ("log_probs", "draw", "seed")}
    again, other = replace(one, name="again", **shuffled), make_arm("other", better=0.5)
    swaps = np.stack([np.zeros(9, dtype=bool), np.ones(9, dtype=bool)])
    pairs = [(one, again), (one, other)]
    found = swap_test(beats, pairs, classes=("V",), measure="auroc", swaps=swaps)
    assert found.observed[0] == 0.0 and not found.null[0].any()
    assert found.p[0] == 1.0 and found.p_adjusted[0] == 1.0
    assert found.null[1] == pytest.approx([found.observed[1], -found.observed[1]])


def test_records_of_one_patient_are_swapped_together(beats: Beats) -> None:
    swaps = draw_swaps(beats, 500, np.random.default_rng(0))
    assert (swaps[:, 1] == swaps[:, 3]).all()
    assert not (swaps[:, 0] == swaps[:, 1]).all()
    assert swaps.mean(axis=0) == pytest.approx([0.5] * 9, abs=0.08)


def test_stretching_widens_and_never_narrows() -> None:
    test = SwapTest(np.array([2.0, 2.0]), np.array([[1.0, -1.0, 1.0], [3.0, -3.0, 3.0]]))
    assert test.spread.tolist() == [1.0, 3.0]
    wider = test.stretched(np.array([2.5, 2.5]))
    assert wider.null.tolist() == [[2.5, -2.5, 2.5], [3.0, -3.0, 3.0]]
    assert wider.observed.tolist() == [2.0, 2.0]
    assert test.p.tolist() == [0.25, 1.0] and wider.p.tolist() == [1.0, 1.0]


def test_adjusted_p_is_that_of_step_down_min_p() -> None:
    """Westfall & Young 1993, algorithm 2.8, written out contrast by contrast."""
    rng = np.random.default_rng(5)
    null = rng.normal(size=(4, 500)) * np.array([[1.0], [2.0], [0.5], [1.0]])
    observed = np.array([2.1, -1.0, 1.2, 0.1])
    test = SwapTest(observed, null)
    sizes = np.abs(np.column_stack([observed, null]))
    p = np.array([[(row >= size).mean() for size in row] for row in sizes])
    order, expected, before = np.argsort(p[:, 0]), np.empty(4), 0.0
    for rank, k in enumerate(order):
        smallest = p[order[rank:]].min(axis=0)
        before = max(before, (smallest <= p[k, 0]).mean())
        expected[k] = before
    assert test.p_adjusted == pytest.approx(expected)
    assert test.p == pytest.approx(p[:, 0])


def test_adjusted_p_is_at_most_bonferroni_s_where_differences_are_bounded() -> None:
    """15 contrasts, one beyond all its swaps: with max-T the wide tails of others hid it."""
    rng = np.random.default_rng(0)
    null = rng.standard_t(2, size=(15, 9_999))
    null[0] = rng.choice([-0.1, 0.1], 9_999)  # bounded: no statistic above 1
    observed = np.full(15, 0.1)
    observed[0] = 0.2
    test = SwapTest(observed, null)
    assert test.p[0] == pytest.approx(0.0001)
    assert test.p_adjusted[0] <= 15 * 0.0001 + 1e-12


def test_a_difference_at_the_critical_size_has_an_adjusted_p_of_5_percent() -> None:
    null = np.random.default_rng(1).normal(size=(3, 2_000)) * np.array([[1.0], [2.0], [0.5]])
    critical = SwapTest(np.zeros(3), null).critical
    for k in range(3):
        for factor, reached in ((1.02, True), (0.98, False)):
            observed = np.zeros(3)
            observed[k] = critical[k] * factor
            assert (SwapTest(observed, null).p_adjusted[k] < 0.05) == reached
