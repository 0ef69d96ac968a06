"""The simplest arm that is not worse by more than a standard error."""

from __future__ import annotations

import math

import pytest

from study.keys import AUPRC_MACRO, AUPRC_SV
from study.models.fusion import FUSIONS
from study.models.rules import inputs_for
from study.statistics.one_standard_error import Candidate, complexity, simplest_within_one_se

FOLDS = [0.3, 0.5, 0.7, 0.9]


def candidate(fusion: str, change: list[float], input_: str = "opt1") -> Candidate:
    """An arm whose AUPRC of S and V is that of four folds, each changed by something."""
    values = [value + more for value, more in zip(FOLDS, change, strict=True)]
    return Candidate(
        name=f"{input_}/{fusion}",
        input=input_,
        fusion=fusion,
        score=sum(values) / len(values),
        per_fold=[{"auprc_S": value, "auprc_V": value, "auprc_F": None} for value in values],
    )


BEST = candidate("mhca_time", [0.0] * 4)


@pytest.mark.parametrize(
    ("lost", "picked"),
    [
        # Lost by fold: mean .02, standard error .0141 (sd .0283 over 2), and then .01 of .0141.
        ([0.0, 0.0, 0.02, 0.06], "opt1/mhca_time"),
        ([-0.01, -0.01, 0.01, 0.05], "opt1/film"),
    ],
    ids=["outside", "within"],
)
def test_a_simpler_arm_is_taken_within_one_standard_error(lost: list[float], picked: str) -> None:
    film = candidate("film", [-value for value in lost])
    assert simplest_within_one_se([film, BEST], AUPRC_SV).name == picked


def test_differences_are_paired_and_not_confused_by_hard_folds() -> None:
    """A constant loss is far outside, though folds differ by thirty times as much."""
    film = candidate("film", [-0.02, -0.0201, -0.0199, -0.02])
    assert simplest_within_one_se([BEST, film], AUPRC_SV) is BEST


def test_the_simplest_of_several_is_taken_whatever_their_order() -> None:
    lost = [0.01, 0.01, -0.01, -0.05]
    arms = [candidate(name, lost) for name in ("film", "concat", "expert_sum", "concat_proj")]
    assert simplest_within_one_se([BEST, *arms], AUPRC_SV).fusion == "expert_sum"
    assert simplest_within_one_se([*arms[::-1], BEST], AUPRC_SV).fusion == "expert_sum"


def test_folds_in_which_a_class_does_not_count_are_left_out() -> None:
    film = candidate("film", [0.01, 0.01, -0.01, -0.05])
    assert simplest_within_one_se([BEST, film], AUPRC_MACRO).name == "opt1/film", "no F, no N"
    nothing = [{"auprc_S": math.nan, "auprc_V": None}] * 4
    empty = Candidate(name="e", input="ecg", fusion="none", score=0.1, per_fold=nothing)
    assert simplest_within_one_se([BEST, empty], AUPRC_SV) is BEST


def test_arms_have_an_order_from_no_rr_to_attention() -> None:
    arms = [candidate(f, [0.0] * 4, i) for f in FUSIONS for i in inputs_for(f)]
    ordered = [arm.name for arm in sorted(arms, key=complexity)]
    assert ordered[:4] == ["ecg/none", "opt2/none", "opt1/rr_only", "opt1/expert_sum"]
    assert ordered[4:10] == [
        "opt3/expert_sum",
        "opt1/concat",
        "opt3/concat",
        "opt1/concat_proj",
        "opt3/concat_proj",
        "opt1/film",
    ]
    attending = {"mhca", "mhca_residual", "mhca_time", "attention_pool"}
    assert {name.split("/")[1] for name in ordered[11:]} == attending
