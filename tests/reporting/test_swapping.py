"""Swap tests against plain loops, and on arms that do not differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, rankdata
from sklearn.metrics import average_precision_score

from study.keys import CLASSES
from study.reporting.predictions import ArmRuns, Beats
from study.reporting.swapping import Swaps, SwapTest, draw_swaps, swap_test

MakeArm = Callable[..., ArmRuns]


def by_loops(beats: Beats, one: ArmRuns, other: ArmRuns, swapped: NDArray[np.bool_]) -> float:
    """Return the difference in S and V where some records [G] change arms."""
    of_classes = []
    for name in ("S", "V"):
        c, of_folds = CLASSES.index(name), []
        for fold in range(beats.n_folds):
            rows = np.flatnonzero(beats.fold == fold)
            moved, positive = swapped[beats.record[rows]], beats.label[rows] == c
            of_runs = []
            for run in range(len(one.draw)):
                a, b = (rankdata(arm.log_probs[run, rows, c]) for arm in (one, other))
                first, second = np.where(moved, b, a), np.where(moved, a, b)
                of_runs.append(
                    average_precision_score(positive, first)
                    - average_precision_score(positive, second)
                )
            of_folds.append(np.mean(of_runs))
        of_classes.append(np.mean(of_folds))
    return float(np.mean(of_classes))


def without_signs(swaps: Swaps) -> Swaps:
    """Return swaps of records alone."""
    return Swaps(swaps.records, np.zeros_like(swaps.signs))


def test_differences_after_swaps_equal_plain_loops(beats: Beats, make_arm: MakeArm) -> None:
    one, other, third = make_arm("one"), make_arm("other"), make_arm("third", better=1.0)
    swaps = without_signs(draw_swaps(beats, 3, 12, np.random.default_rng(0)))
    pairs = [(one, other), (third, other)]
    found = swap_test(beats, pairs, classes=("S", "V"), measure="auprc", swaps=swaps)
    none = np.zeros(9, dtype=bool)
    for k, (a, b) in enumerate(pairs):
        assert found.observed[k] == pytest.approx(by_loops(beats, a, b, none), abs=1e-12)
        expected = [by_loops(beats, a, b, swapped) for swapped in swaps.records]
        assert found.null[k] == pytest.approx(expected, abs=1e-12)


def test_signs_turn_around_what_seeds_differ_by(beats: Beats, make_arm: MakeArm) -> None:
    """No record is swapped: what is left of a swap is observed plus the seeds' part."""
    one, other = make_arm("one"), make_arm("other")
    n = 40
    signs = draw_swaps(beats, 3, n, np.random.default_rng(0)).signs
    swaps = Swaps(np.zeros((n, 9), dtype=bool), signs)
    found = swap_test(beats, [(one, other)], classes=("S",), measure="auprc", swaps=swaps)
    expected = np.full(n, found.observed[0])
    for fold in range(2):
        rows = np.flatnonzero(beats.fold == fold)
        positive = beats.label[rows] == 1
        scores = [
            [average_precision_score(positive, run[rows, 1]) for run in arm.log_probs]
            for arm in (one, other)
        ]
        of_seeds = np.subtract(*scores).reshape(2, 3).mean(axis=0)
        part = signs[:, fold] * (of_seeds - of_seeds.mean())
        expected += part.sum(axis=1) / np.sqrt(3 * 2) / 2
    assert found.null[0] == pytest.approx(expected, abs=1e-12)


def test_one_seed_has_nothing_to_turn_around(beats: Beats, make_arm: MakeArm) -> None:
    pair = (make_arm("one", seeds=1), make_arm("other", seeds=1))
    swaps = draw_swaps(beats, 1, 30, np.random.default_rng(0))
    found, plain = (
        swap_test(beats, [pair], classes=("V",), measure="auprc", swaps=some)
        for some in (swaps, without_signs(swaps))
    )
    assert found.null.tolist() == plain.null.tolist()


def test_runs_are_paired_by_draw_and_seed(beats: Beats, make_arm: MakeArm) -> None:
    one, order = make_arm("one"), [3, 1, 5, 0, 2, 4]
    shuffled = replace(
        one,
        name="shuffled",
        log_probs=one.log_probs[order],
        draw=one.draw[order],
        seed=one.seed[order],
    )
    swaps = draw_swaps(beats, 3, 30, np.random.default_rng(0))
    found = swap_test(beats, [(one, shuffled)], classes=("S",), measure="auroc", swaps=swaps)
    assert found.observed[0] == 0.0 and not found.null.any()
    assert found.p.tolist() == [1.0] and found.p_adjusted.tolist() == [1.0]


def test_swapping_everything_turns_the_difference_around(beats: Beats, make_arm: MakeArm) -> None:
    records = np.stack([np.zeros(9, dtype=bool), np.ones(9, dtype=bool)])
    swaps = Swaps(records, np.zeros((2, 2, 3)))
    pair = (make_arm("one"), make_arm("other", better=0.5))
    found = swap_test(beats, [pair], classes=("V",), measure="auprc", swaps=swaps)
    assert found.null[0] == pytest.approx([found.observed[0], -found.observed[0]])


def test_records_of_one_patient_are_swapped_together(beats: Beats) -> None:
    swaps = draw_swaps(beats, 3, 500, np.random.default_rng(0))
    assert (swaps.records[:, 1] == swaps.records[:, 3]).all()
    assert not (swaps.records[:, 0] == swaps.records[:, 1]).all()
    assert swaps.records.mean(axis=0) == pytest.approx([0.5] * 9, abs=0.08)
    assert swaps.signs.shape == (500, 2, 3) and set(np.unique(swaps.signs)) == {-1.0, 1.0}


def equal_arms(
    rng: np.random.Generator, *, n_seeds: int, seed_luck: float
) -> tuple[Beats, list[ArmRuns]]:
    """Return twelve patients in two folds, and four arms that differ by luck alone.

    Luck is a patient's with an arm, and that of a fold's seed, which all its patients share.
    """
    label = np.tile([0] * 12 + [1] * 4, 12)
    record = np.repeat(np.arange(12), 16)
    names = tuple(map(str, range(12)))
    beats = Beats(
        label=label,
        record=record,
        record_names=names,
        patient_of_record=names,
        fold_of_record=(0, 1) * 6,
    )
    shared = 1.5 * (label == 1) + rng.normal(size=12)[record]
    arms = []
    for name in "abcd":
        log_probs = np.zeros((n_seeds, len(label), 4), dtype=np.float32)
        of_seed = rng.normal(0, seed_luck, (n_seeds, 2))[:, record % 2] * (label == 1)
        noise = rng.normal(0, 0.5, (n_seeds, len(label)))
        log_probs[..., 1] = shared + rng.normal(0, 0.7, 12)[record] + of_seed + noise
        arms.append(
            ArmRuns(
                name=name,
                log_probs=log_probs,
                draw=np.zeros(n_seeds, dtype=np.int64),
                seed=np.arange(n_seeds),
                input="opt1",
                segmentation="beat",
                fusion="film",
            )
        )
    return beats, arms


def test_p_is_uniform_where_arms_differ_by_patients_luck_alone() -> None:
    p = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        beats, (one, other, *_) = equal_arms(rng, n_seeds=1, seed_luck=0.0)
        swaps = draw_swaps(beats, 1, 199, rng)
        found = swap_test(beats, [(one, other)], classes=("S",), measure="auprc", swaps=swaps)
        p.append(found.p[0])
    assert kstest(p, "uniform").pvalue > 0.01


def test_equal_arms_with_lucky_seeds_are_rarely_told_apart() -> None:
    """200 data sets of 3 contrasts; limits are 5 % and 3 standard errors of such a share."""
    p, smallest, records_alone = [], [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        beats, (reference, *others) = equal_arms(rng, n_seeds=3, seed_luck=0.6)
        swaps = draw_swaps(beats, 3, 199, rng)
        pairs = [(arm, reference) for arm in others]
        found, alone = (
            swap_test(beats, pairs, classes=("S",), measure="auprc", swaps=some)
            for some in (swaps, without_signs(swaps))
        )
        assert (found.p_adjusted >= found.p).all()
        p.append(found.p[0])
        smallest.append(found.p_adjusted.min())
        records_alone.append(alone.p[0])
    limit = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    print([float(np.mean(np.array(x) < 0.05)) for x in (p, smallest, records_alone)])
    assert np.mean(np.array(p) < 0.05) < limit
    assert np.mean(np.array(smallest) < 0.05) < limit
    assert np.mean(np.array(records_alone) < 0.05) > limit


def test_adjusted_p_is_that_of_step_down_max_t() -> None:
    """Westfall & Young 1993, algorithm 4.1, written out contrast by contrast."""
    rng = np.random.default_rng(5)
    null = rng.normal(size=(4, 500)) * np.array([[1.0], [2.0], [0.5], [1.0]])
    observed = np.array([2.1, -1.0, 1.2, 0.1])
    test = SwapTest(observed, null)
    t = np.abs(observed) / test.spread
    order, expected, before = np.argsort(-t), np.empty(4), 0.0
    for place, k in enumerate(order):
        rest = order[place:]
        largest = (np.abs(null[rest]) / test.spread[rest, None]).max(axis=0)
        before = max(before, (1 + (largest >= t[k]).sum()) / 501)
        expected[k] = before
    assert test.p_adjusted == pytest.approx(expected)
    assert test.p == pytest.approx(
        [(1 + (np.abs(row) >= abs(x)).sum()) / 501 for row, x in zip(null, observed, strict=True)]
    )
    largest = (np.abs(null) / test.spread[:, None]).max(axis=0)
    assert test.critical == np.quantile(largest, 0.95)
