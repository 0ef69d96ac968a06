"""What a study answers: which arm leads, what is shown of it, and why there is no answer.

The console words it in a sentence, the page in a question with its answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from study.keys import UNRANKED, Outcome
from study.reporting.results import StudyResults
from study.reporting.table import NOT_ESTIMABLE, interval_text
from study.reporting.trial_tables import arms_in_order
from study.statistics.findings import Choice, Contrast, parts_of, reversed_contrast

FIRST = 3
"""How many arms of a search are named; `--confirm` compares more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """The arm that leads a study, and what a comparison says of it."""

    arm: str  # empty where no arm is ranked
    quantity: str  # what the differences are of; empty where the arms were not compared
    choice: Choice | None  # why it leads; None where the arms were not compared
    contrast: Contrast | None  # its most telling contrast, as the minuend; None without any
    over_floor: Contrast | None  # it minus the highest floor; None without any

    @property
    def verdict(self) -> str:
        """What the contrast shows; empty without one."""
        if self.contrast is None:
            return ""
        difference = self.contrast.estimates[self.quantity]
        if math.isnan(difference.low):
            return NOT_ESTIMABLE
        if not self.contrast.shown(self.quantity):
            return "a difference is not shown"
        if math.isfinite(self.contrast.p_adjusted):
            return "a difference is shown"
        return f"the interval is {'above' if difference.low > 0 else 'below'} 0"

    def beside_floor(self, above: str, below: str, unclear: str) -> str:
        """Return the words for where the interval of what it is above the floor lies."""
        if self.over_floor is None or not self.over_floor.estimates[self.quantity].clear:
            return unclear
        return above if self.over_floor.estimates[self.quantity].value > 0 else below

    def difference(self, pair: Contrast) -> str:
        """Return a difference with its interval."""
        return interval_text(pair.estimates[self.quantity], signed=True)


def lead(results: StudyResults) -> Lead:
    """Return what a study says of the arm that leads it."""
    arm, comparison = leading(results), results.comparison
    above = () if comparison is None else comparison.above_floor
    return Lead(
        arm=arm,
        quantity="" if comparison is None else parts_of(results.study.objective)[1],
        choice=None if comparison is None else comparison.choice,
        contrast=contrast_of(results, arm),
        over_floor=next((pair for pair in above if pair.first == arm), None),
    )


def leading(results: StudyResults) -> str:
    """Return the arm that leads; empty where no arm is ranked."""
    comparison = results.comparison
    if comparison is not None and comparison.choice is not None:
        return comparison.choice.best
    if comparison is not None and comparison.arms:
        return comparison.arms[0].name
    return next(iter(arms_in_order(results.ranked, results.study.objective)), "")


def contrast_of(results: StudyResults, arm: str) -> Contrast | None:
    """Return the most telling contrast of an arm.

    This is the contrast with its placebo if there is one, else with the reference, else the first
    declared contrast of the arm, whichever way round it is declared, else that with the next arm.
    """
    comparison = results.comparison
    if comparison is None or arm not in results.arms:
        return None
    pairs = [
        pair if pair.first == arm else reversed_contrast(pair)
        for pair in comparison.contrasts
        if arm in (pair.first, pair.second)
    ]
    for other in (results.arms[arm].placebo, results.study.space.reference):
        for pair in pairs:
            if pair.second == other:
                return pair
    return next((pair for pair in pairs if pair.primary), pairs[0] if pairs else None)


def why_none(results: StudyResults) -> str:
    """Return why no arm is ranked; empty where one is."""
    if results.ranked:
        return ""
    failed = results.count(Outcome.FAILED)
    if failed and failed == len(results.study.rows):
        return "the only trial failed" if failed == 1 else f"all {failed} trials failed"
    if results.study.objective == UNRANKED:
        return "every record trains, so that nothing is scored"
    return "no trial is complete"
