"""The choice of an arm, by hand and against a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from study.config import INPUTS
from study.keys import AUPRC_MACRO, AUPRC_SV
from study.models.fusion import FUSIONS
from study.models.rules import inputs_for
from study.statistics.choice import (
    SIMPLICITY,
    BestOfArm,
    choose,
    selection_corrected,
    simplest_of_search,
    simplicity,
)
from tests.builders import MakeArm

FOLDS = [0.3, 0.5, 0.7, 0.9]


def best_of(fusion: str, change: list[float], input_: str = "opt1") -> BestOfArm:
    """An arm whose AUPRC of S and V is that of four folds, each changed by something."""
    values = [value + more for value, more in zip(FOLDS, change, strict=True)]
    return BestOfArm(
        name=f"{input_}/{fusion}",
        input=input_,
        fusion=fusion,
        score=sum(values) / len(values),
        per_fold=[{"auprc_S": value, "auprc_V": value, "auprc_F": None} for value in values],
    )


ORDER = """
    ecg/none ecg/attention_pool
    opt2/none opt1/rr_only opt1/expert_sum opt3/expert_sum opt1/concat opt3/concat
    opt1/concat_proj opt3/concat_proj opt1/film opt3/film
""".split()
"""From the simplest: no RR, then RR; all other arms attend to something and have RR beside it."""


def test_arms_have_one_order_from_no_rr_to_attention() -> None:
    arms = [(input_, fusion) for fusion in FUSIONS for input_ in inputs_for(fusion)]
    ordered = sorted(arms, key=lambda arm: simplicity(*arm))
    assert ["/".join(arm) for arm in ordered[: len(ORDER)]] == ORDER
    attending = ordered[len(ORDER) :]
    known = {"mhca", "mhca_residual", "mhca_time_plain", "mhca_time", "attention_pool"}
    assert {f for _, f in attending} == known
    early = [INPUTS[input_].early_rr for input_, _ in attending]
    assert early == sorted(early), "early channels come after the fusion alone"
    # Every fusion has a place; one that is plugged in is the least simple.
    assert max(simplicity(*arm)[1] for arm in arms) < len(SIMPLICITY)
    assert simplicity("opt1", "plugged_in")[1] == len(SIMPLICITY)
    # What is seen of the beat decides last: fewer inputs, then how much of a record is needed.
    seen = [(1, "none"), (1, "trailing"), (1, "learning"), (1, "record"), (2, "trailing")]
    assert sorted(seen[::-1], key=lambda s: simplicity("opt1", "film", *s)) == seen


def test_a_search_and_a_comparison_name_the_same_simplest_arm(make_arm: MakeArm) -> None:
    """Of arms that are all as good as the best, whichever of two they have."""
    pairs = [("ecg", "none"), ("opt2", "none"), ("opt1", "rr_only"), ("opt3", "concat")]
    pairs += [("opt1", "film"), ("opt1", "mhca_time")]
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 500))
    scores = np.stack([0.5 + noise[0], 0.5 + noise[1]])
    for arms in itertools.combinations(pairs, 2):
        runs = [make_arm(f"{i}/{f}", input=i, fusion=f, draws=1, seeds=1) for i, f in arms]
        compared = choose(runs, np.array([0.49, 0.5]), scores, scores, scores)
        assert compared is not None
        best_of_arms = [
            best_of(fusion, [change, -change] * 2, input_)
            for (input_, fusion), change in zip(arms, (0.1, 0.0), strict=True)
        ]
        assert simplest_of_search(best_of_arms, AUPRC_SV).name == compared.simplest, arms


def test_the_simplest_within_one_standard_error_of_a_paired_difference(make_arm: MakeArm) -> None:
    """All arms vary by .1, but film and concat together: only their difference is small."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 0.1, 1000), rng.normal(0, 0.1, (3, 1000))
    values = np.array([0.60, 0.55, 0.52])
    resampled = values[:, None] + np.stack([common, common + 0.1 * own[1], own[2]])
    names = ("film", "concat", "expert_sum")
    arms = [make_arm(name, fusion=name, draws=1, seeds=1) for name in names]
    choice = choose(arms, values, resampled, resampled, resampled)
    assert choice is not None
    assert (choice.best, choice.value) == ("film", 0.60)
    # concat is .05 behind with an error of .01; expert_sum .08 with one of .14.
    assert (choice.within, choice.simplest) == (("expert_sum", "film"), "expert_sum")
    # Without an error the best stands alone; arms without a score are left out.
    choice = choose(arms, values, resampled * np.nan, resampled, resampled)
    assert choice is not None and choice.within == ("film",)
    values[[0, 2]] = resampled[[0, 2]] = np.nan
    choice = choose(arms, values, resampled, resampled, resampled)
    assert choice is not None and choice.selected == {"concat": 1.0} and choice.best == "concat"
    assert choose(arms, values * np.nan, resampled, resampled, resampled) is None


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
    corrected, outside, share = selection_corrected(values, in_bag, out_of_bag * np.nan)
    assert math.isnan(corrected) and math.isnan(outside) and not share.any()


def test_a_simpler_arm_is_taken_within_one_standard_error_whatever_the_order() -> None:
    best = best_of("mhca_time", [0.0] * 4)
    for change, picked in (
        # Mean -.02, standard error .0141 (sd .0283 over 2), and then -.01 of .0141.
        ([0.0, 0.0, -0.02, -0.06], "mhca_time"),
        ([0.01, 0.01, -0.01, -0.05], "film"),
        # A constant loss is far outside, though folds differ by thirty times as much.
        ([-0.02, -0.0201, -0.0199, -0.02], "mhca_time"),
    ):
        film = best_of("film", change)
        assert simplest_of_search([film, best], AUPRC_SV).fusion == picked, change
    arms = [
        best_of(name, [0.01, 0.01, -0.01, -0.05])
        for name in ("film", "concat", "expert_sum", "concat_proj")
    ]
    for several in ([best, *arms], [*arms[::-1], best]):
        assert simplest_of_search(several, AUPRC_SV).fusion == "expert_sum"
    assert simplest_of_search([best, arms[0]], AUPRC_MACRO).fusion == "film", "no F, no N"
    nothing = [{"auprc_S": math.nan, "auprc_V": None}] * 4
    empty = BestOfArm(name="e", input="ecg", fusion="none", score=0.1, per_fold=nothing)
    assert simplest_of_search([best, empty], AUPRC_SV) is best
