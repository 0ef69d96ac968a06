"""The choice of an arm, by hand and against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from study.models.fusion import FUSIONS
from study.models.rules import inputs_for
from study.statistics.choice import SIMPLICITY, choose, complexity, selection_corrected
from study.statistics.predictions import ArmRuns

MakeArm = Callable[..., ArmRuns]


def test_simplicity_is_in_the_declared_order(make_arm: MakeArm) -> None:
    ways = [("opt1", "rr_only"), ("ecg", "none"), ("opt2", "none"), ("opt1", "expert_sum")]
    ways += [("opt3", "expert_sum"), ("opt1", "concat"), ("opt1", "concat_proj")]
    ways += [("opt1", "film"), ("opt1", "mhca_time"), ("opt3", "mhca_time")]
    places = [complexity(make_arm(input=i, fusion=f, draws=1, seeds=1)) for i, f in ways]
    assert places == sorted(places) and len(set(places)) == len(places)


def test_every_fusion_has_a_place(make_arm: MakeArm) -> None:
    for fusion in FUSIONS:
        arm = make_arm(input=inputs_for(fusion)[0], fusion=fusion, draws=1, seeds=1)
        assert complexity(arm)[0] < len(SIMPLICITY), fusion


def test_the_simplest_within_one_standard_error_of_the_paired_difference(
    make_arm: MakeArm,
) -> None:
    """All arms vary by .1, but film and concat together: only their difference is small."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 0.1, 1000), rng.normal(0, 0.1, (3, 1000))
    values = np.array([0.60, 0.55, 0.52])
    resampled = values[:, None] + np.stack([common, common + 0.1 * own[1], own[2]])
    arms = [
        make_arm(name, fusion=name, draws=1, seeds=1) for name in ("film", "concat", "expert_sum")
    ]
    found = choose(arms, values, resampled, resampled, resampled)
    assert found is not None
    assert found.best == "film" and found.value == 0.60
    # concat is .05 behind with an error of .01; expert_sum .08 with one of .14.
    assert found.within == ("expert_sum", "film") and found.simplest == "expert_sum"


def test_without_an_error_the_best_stands_alone(make_arm: MakeArm) -> None:
    arms = [make_arm(name, fusion=name, draws=1, seeds=1) for name in ("film", "concat")]
    scores = np.array([[0.5], [0.4]]) + np.zeros((2, 10))
    found = choose(arms, np.array([0.5, 0.4]), scores * np.nan, scores, scores)
    assert found is not None and found.within == ("film",)


def test_arms_without_a_score_are_no_candidates(make_arm: MakeArm) -> None:
    arms = [make_arm(name, fusion=name, draws=1, seeds=1) for name in ("film", "concat")]
    scores = np.array([[np.nan], [0.4]]) + np.zeros((2, 10))
    found = choose(arms, np.array([np.nan, 0.4]), scores, scores, scores)
    assert found is not None and found.best == "concat"
    assert found.selected == {"concat": 1.0}
    nothing = np.full(2, np.nan)
    assert choose(arms, nothing, scores * np.nan, scores, scores) is None


def test_the_corrected_score_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    in_bag, out_of_bag = rng.random((2, 4, 300))
    values = rng.random(4)
    in_bag[2, 5], out_of_bag[0, 6] = np.nan, np.nan
    above, plain, chosen = [], [], np.zeros(4)
    for w in range(300):
        if w in (5, 6):
            continue
        winner = max(range(4), key=lambda arm: in_bag[arm, w])
        chosen[winner] += 1
        plain.append(out_of_bag[winner, w])
        above.append(out_of_bag[winner, w] - sum(out_of_bag[:, w]) / 4)
    corrected, outside, share = selection_corrected(values, in_bag, out_of_bag)
    assert outside == pytest.approx(np.mean(plain))
    assert corrected == pytest.approx(np.mean(values) + np.mean(above))
    assert share == pytest.approx(chosen / 298)


def test_of_arms_that_differ_by_luck_alone_the_correction_takes_the_luck_away() -> None:
    """400 studies of 8 equal arms and 40 patients: the best is .04 too good, corrected it is not.

    Patients' scores are averaged, so that every figure is a mean of N(.5, .3^2).
    """
    rng = np.random.default_rng(2)
    off_best, off_corrected = [], []
    for _ in range(400):
        scores = rng.normal(0.5, 0.15, (8, 40))
        drawn = rng.multinomial(40, np.full(40, 1 / 40), 200)
        inside = scores @ drawn.T / 40
        outside = scores @ (drawn == 0).T / (drawn == 0).sum(axis=1)
        values = scores.mean(axis=1)
        off_best.append(values.max() - 0.5)
        off_corrected.append(selection_corrected(values, inside, outside)[0] - 0.5)
    assert np.mean(off_best) == pytest.approx(0.034, abs=0.005)
    assert abs(np.mean(off_corrected)) < 0.006


def test_with_no_usable_resample_there_is_no_correction() -> None:
    corrected, outside, share = selection_corrected(
        np.array([0.5, 0.4]), np.ones((2, 3)), np.full((2, 3), np.nan)
    )
    assert math.isnan(corrected) and math.isnan(outside) and not share.any()
