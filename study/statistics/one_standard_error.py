"""The one-standard-error rule (Breiman et al. 1984, "Classification and Regression Trees", 3.4.3).

Of all arms that are not worse than the best one by more than a standard error, take the simplest.
Differences are paired within folds. Folds share training patients, so that the standard error is
a rough one: the rule picks a candidate to confirm, and shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from study.keys import CLASSES

SIMPLICITY = (
    ("ecg", "none"),
    ("opt2", "none"),
    ("", "rr_only"),
    ("", "expert_sum"),
    ("", "concat"),
    ("", "concat_proj"),
    ("", "film"),
)
"""Input and fusion from the simplest; an empty input is any, fusions not listed attend and come
last. At one fusion, early channels beside a late vector are the less simple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The best configuration of an arm.

    Args:
        name: Name of the arm.
        input: Where RR enters.
        fusion: Fusion type.
        score: Its objective.
        per_fold: Its scores by fold, as `scores.json` has them.
    """

    name: str
    input: str
    fusion: str
    score: float
    per_fold: Sequence[Mapping[str, float | None]]


def complexity(candidate: Candidate) -> tuple[int, bool, str]:
    """Return what candidates are ordered by, the simplest first."""
    places = [
        place
        for place, (input_, fusion) in enumerate(SIMPLICITY)
        if candidate.fusion == fusion and input_ in ("", candidate.input)
    ]
    place = places[0] if places else len(SIMPLICITY)
    return place, candidate.input in ("opt2", "opt3"), candidate.name


def simplest_within_one_se(candidates: Sequence[Candidate], objective: str) -> Candidate:
    """Return the simplest candidate within one standard error of the best.

    Args:
        candidates: One or more, each with finite scores.
        objective: A metric of `study.keys.OBJECTIVES`.
    """
    best = max(candidates, key=lambda candidate: candidate.score)
    within = [best, *(c for c in candidates if c is not best and _within(best, c, objective))]
    return min(within, key=complexity)


def _within(best: Candidate, other: Candidate, objective: str) -> bool:
    _, name, over = objective.split("_")
    classes = CLASSES if over == "macro" else tuple(over.upper())
    lost = []
    for one, two in zip(best.per_fold, other.per_fold, strict=True):
        pairs = [(one.get(f"{name}_{c}"), two.get(f"{name}_{c}")) for c in classes]
        each = [a - b for a, b in pairs if a is not None and b is not None]
        finite = [value for value in each if math.isfinite(value)]
        lost += [fmean(finite)] if finite else []
    return len(lost) > 1 and fmean(lost) <= stdev(lost) / math.sqrt(len(lost))
