"""The table of a confirmation: what a search said, and what fresh seeds and folds say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from study.reporting.layout import UNDEFINED, number, plus_minus, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """One configuration, or a floor, before and after.

    Args:
        arm: Its name.
        searched: Objective in the search; NaN where there is none.
        values: Objective in each partition; NaN where it has none.
    """

    arm: str
    searched: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over partitions; NaN where one is missing."""
        return fmean(self.values)

    @property
    def change(self) -> float:
        """What the search said too much."""
        return self.searched - self.mean


def confirmation_table(
    arms: Sequence[Confirmed],
    floor: Confirmed | None,
    *,
    reference: str,
    heading: str,
    epochs: str = "",
    markdown: bool = False,
) -> str:
    """Return the table, best confirmed value first, and what may be concluded from it.

    Args:
        arms: What was confirmed.
        floor: A floor on the same folds: nobody chose it, so that its change is that of the
            folds alone. None where there is none.
        reference: Arm that the others are paired with.
        heading: What the figures are.
        epochs: Epochs of the search and here, where they differ; empty where they do not.
        markdown: A GitHub table instead of plain text.
    """
    known = {arm.arm: arm for arm in arms}
    ordered = sorted(arms, key=lambda a: (math.isnan(a.mean), -a.mean, a.arm))
    rows = [_row(arm, known[reference]) for arm in [*ordered, *([floor] if floor else [])]]
    header = ["arm", "search", "confirmed", "search - confirmed", f"minus {reference}", "above 0"]
    parts = [heading, table(header, rows, markdown=markdown), _reading(arms, floor, epochs)]
    return "\n\n".join(parts)


def _row(arm: Confirmed, reference: Confirmed) -> list[str]:
    paired = [a - b for a, b in zip(arm.values, reference.values, strict=True)]
    finite = [value for value in paired if math.isfinite(value)]
    own = arm.arm == reference.arm
    values = [value for value in arm.values if math.isfinite(value)]
    return [
        arm.arm,
        number(arm.searched),
        plus_minus(values) if len(values) == len(arm.values) else UNDEFINED,
        _signed(arm.change),
        UNDEFINED if own else _spread(finite),
        UNDEFINED if own or not finite else f"{sum(v > 0 for v in finite)} of {len(finite)}",
    ]


def _reading(arms: Sequence[Confirmed], floor: Confirmed | None, epochs: str) -> str:
    changes = [arm.change for arm in arms if math.isfinite(arm.change)]
    lines = []
    if epochs:
        lines.append(
            f"Epochs of the search: {epochs}. Search - confirmed has other training, other folds "
            "and the search's optimism in it, and the last cannot be told apart."
        )
    elif changes:
        lines.append(f"Optimism seen: {fmean(changes):+.3f}, mean of search - confirmed.")
    if changes and floor is not None and math.isfinite(floor.change):
        lines.append(
            f"Of the floor, which nobody chose, search - confirmed is {floor.change:+.3f}: that "
            "much is the folds."
        )
    lines.append(
        "Optimism that remains: seeds and folds are fresh, patients are not. The configurations "
        "were chosen on these records and are confirmed on the same ones; what the choice owes to "
        "them is still in these figures, and only patients that no search has seen take it out."
    )
    return "\n".join(lines)


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else UNDEFINED


def _spread(values: Sequence[float]) -> str:
    if not values:
        return UNDEFINED
    return _signed(fmean(values)) + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
