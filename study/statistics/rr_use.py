"""Whether the networks of an arm use RR: the one rule, on what they lose when RR is permuted.

`study.training.reliance` measures the losses; the page draws the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from study.keys import MAX_CHANGE, RELIANCE_CLASSES, reliance
from study.wording import listing, score_text

NO_RELIANCE = 0.01
"""A loss of AUPRC by permuted RR, or a gain, counts as none up to this size."""


class RRUse(StrEnum):
    """Whether an arm's networks use the RR in their inputs, or in their window."""

    ABSENT = "absent"
    """There is no such RR to permute."""
    CANNOT = "cannot"
    """Permuting it changes no output at all."""
    NO = "no"
    """No permutation changes AUPRC of S or V by more than `NO_RELIANCE`."""
    UNCLEAR = "not shown"
    """Some permutations do, others do not, or a score is undefined."""
    YES = "yes"
    """Every permutation does, for S or for V: also one that gains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RRLoss:
    """What an arm's networks lose when RR is permuted: means over trials, NaN where undefined."""

    value: Mapping[str, float]  # loss of AUPRC by class of `RELIANCE_CLASSES`
    low: Mapping[str, float]  # the smallest of any permutation
    high: Mapping[str, float]  # the largest
    change: float  # the largest change of any log-probability

    @classmethod
    def of(cls, trials: Sequence[Mapping[str, float]], kind: str) -> RRLoss:
        """Return the loss by a kind of `RELIANCE_KINDS`, from the final metrics of trials."""

        def mean(name: str) -> float:
            values = [trial.get(name, math.nan) for trial in trials]
            finite = [value for value in values if math.isfinite(value)]
            return fmean(finite) if finite else math.nan

        value, low, high = (
            {name: mean(reliance(kind, name) + end) for name in RELIANCE_CLASSES}
            for end in ("", "_min", "_max")
        )
        return cls(value=value, low=low, high=high, change=mean(reliance(kind, MAX_CHANGE)))

    @property
    def use(self) -> RRUse:
        """Whether the networks use this RR."""
        if self.change == 0:
            return RRUse.CANNOT
        if all(map(math.isnan, [self.change, *self.value.values()])):
            return RRUse.ABSENT
        ends = [(self.low[name], self.high[name]) for name in RELIANCE_CLASSES]
        if all(-NO_RELIANCE <= low and high <= NO_RELIANCE for low, high in ends):
            return RRUse.NO
        if any(low > NO_RELIANCE or high < -NO_RELIANCE for low, high in ends):
            return RRUse.YES
        return RRUse.UNCLEAR

    @property
    def size(self) -> float:
        """The larger of the losses, or gains, of S and V; infinite where none is defined."""
        return max((abs(v) for v in self.value.values() if math.isfinite(v)), default=math.inf)

    @property
    def text(self) -> str:
        """The loss in words: +.150 of AUPRC S and +.020 of AUPRC V."""
        # Rounded first: what is shown as 0 has no sign.
        return listing(
            f"{score_text(round(value, 3), signed=True)} of AUPRC {name}"
            for name, value in self.value.items()
        )
