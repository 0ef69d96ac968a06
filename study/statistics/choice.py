"""The choice of an arm: the best, a simpler one that is as good, and the choice's corrected score.

The simplest arm within one standard error is that of Breiman et al. 1984 (Classification and
Regression Trees, 3.4.3). A comparison has the error of the paired difference to the best arm from
resamples of patients and seeds. A search has it from folds, which share training patients: it is
rough there, and picks what to confirm.

Shapes: A arms, W resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from study.config import INPUTS
from study.statistics.estimates import spread
from study.statistics.findings import Choice, classes_in, parts_of
from study.statistics.predictions import ArmRuns
from study.statistics.weighted_metrics import Float

SIMPLICITY = (
    "none",
    "ratio2 early",
    "rr_only",
    "expert_sum",
    "concat",
    "concat_proj",
    "film",
    "attention",
)
"""Ways of using RR from the simplest, declared before any result."""

_ATTENTION = ("mhca", "mhca_residual", "mhca_time_plain", "mhca_time", "attention_pool")


TEMPLATES_BY_NEED = ("none", "trailing", "learning", "record")
"""Templates by how much of a record they need, the least first."""


def simplicity(
    input_: str, fusion: str, shapes: int = 1, template: str = "none"
) -> tuple[bool, int, bool, int, int]:
    """Return the key that sorts arms, the simplest first.

    Fewer inputs come before more, so no RR before RR; then the order of `SIMPLICITY`, where a
    fusion that it does not know is last; then early channels beside a fusion after it alone. Arms
    that only differ in what they see of the beat come last: fewer inputs of shape before more,
    then by template.
    """
    early, late = INPUTS[input_].early_rr, INPUTS[input_].late_rr
    way = "attention" if fusion in _ATTENTION else fusion
    if way == "none" and early:
        way = "ratio2 early"
    rank = SIMPLICITY.index(way) if way in SIMPLICITY else len(SIMPLICITY)
    beside = early and fusion != "none"
    return early or late, rank, beside, shapes, TEMPLATES_BY_NEED.index(template)


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfArm:
    """The best configuration of an arm of a search, by its score."""

    name: str
    input: str  # where RR enters
    fusion: str  # fusion type
    score: float  # its objective
    per_fold: Sequence[Mapping[str, float | None]]  # its scores by fold, as `scores.json` has them
    shapes: int = 1  # inputs of shape: windows, and distances
    template: str = "none"  # the template that these are beside


def simplest_of_search(arms: Sequence[BestOfArm], objective: str) -> BestOfArm:
    """Return the simplest arm within one standard error over folds of the best."""
    best = max(arms, key=lambda arm: arm.score)
    within = [best, *(arm for arm in arms if arm is not best and _within(best, arm, objective))]
    return min(within, key=lambda arm: (_simplicity(arm), -arm.score, arm.name))


def _simplicity(arm: BestOfArm | ArmRuns) -> tuple[bool, int, bool, int, int]:
    return simplicity(arm.input, arm.fusion, arm.shapes, arm.template)


def _within(best: BestOfArm, other: BestOfArm, objective: str) -> bool:
    measure, quantity = parts_of(objective)
    behind = []
    for of_best, of_other in zip(best.per_fold, other.per_fold, strict=True):
        keys = [f"{measure}_{name}" for name in classes_in(quantity)]
        pairs = [(of_best.get(key), of_other.get(key)) for key in keys]
        differences = [a - b for a, b in pairs if a is not None and b is not None]
        finite = [value for value in differences if math.isfinite(value)]
        behind += [fmean(finite)] if finite else []
    return len(behind) > 1 and fmean(behind) <= stdev(behind) / math.sqrt(len(behind))


def choose(
    arms: Sequence[ArmRuns], values: Float, resampled: Float, in_bag: Float, out_of_bag: Float
) -> Choice | None:
    """Return the best of some arms and its alternatives; None where no arm has a score.

    Scores are [A], resampled, in-bag and out-of-bag scores [A, W]. Where resampled scores are NaN,
    because they are not estimable, the best has no alternatives.

    The best arm was chosen by its score, so that score is too high. Bootstrap bias-corrected
    cross-validation (Tsamardinos, Greasidou & Borboudakis 2018, doi:10.1007/s10994-018-5714-4)
    chooses on the patients of a resample and scores on those that it left out. These are fewer
    than a fold has, and fewer patients are easier to rank: their scores are too high for all arms.
    So the figure is the mean score of all arms, plus how far the chosen one is above the mean of
    all arms out of bag.
    """
    defined = [index for index in range(len(arms)) if np.isfinite(values[index])]
    if not defined:
        return None
    arms = [arms[index] for index in defined]
    values, resampled = values[defined], resampled[defined]
    best = int(values.argmax())
    # Equal arms have no error to be within.
    behind = values[best] - values
    errors = [spread(resampled[best] - of_arm) for of_arm in resampled]
    within = [
        index for index in range(len(arms)) if index == best or behind[index] <= errors[index]
    ]
    within.sort(key=lambda index: (_simplicity(arms[index]), behind[index]))
    corrected, outside, chosen = selection_corrected(values, in_bag[defined], out_of_bag[defined])
    often = {
        arms[index].name: float(chosen[index]) for index in np.argsort(-chosen, kind="stable")
    }
    return Choice(
        best=arms[best].name,
        value=float(values[best]),
        corrected=corrected,
        out_of_bag=outside,
        selected={name: share for name, share in often.items() if share > 0},
        simplest=arms[within[0]].name,
        within=tuple(arms[index].name for index in within),
    )


def selection_corrected(
    values: Float, in_bag: Float, out_of_bag: Float
) -> tuple[float, float, Float]:
    """Return the corrected score, the plain out-of-bag score, and how often each arm is chosen.

    Scores are [A], in-bag and out-of-bag scores [A, W].

    Resamples in which an arm is undefined, in or out of bag, are left out.
    """
    usable = np.isfinite(in_bag).all(axis=0) & np.isfinite(out_of_bag).all(axis=0)
    if not usable.any():
        return float("nan"), float("nan"), np.zeros(len(values))
    inside, outside = in_bag[:, usable], out_of_bag[:, usable]
    winner = inside.argmax(axis=0)
    scored = np.take_along_axis(outside, winner[None], axis=0)[0]
    above = float((scored - outside.mean(axis=0)).mean())
    share = np.bincount(winner, minlength=len(values)) / len(winner)
    return float(values.mean()) + above, float(scored.mean()), share
