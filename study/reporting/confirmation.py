"""The table of a confirmation: scores in the search, and scores on fresh seeds and folds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from study.reporting.table import Column, Kind, Spread, Table, Value, prose
from study.statistics.findings import metric_name
from study.wording import plural, score_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """One configuration, or a floor, in the search and in the confirmation."""

    arm: str  # its name
    searched: float  # objective in the search; NaN where the search has none
    values: tuple[float, ...]  # objective in each partition; NaN where it has none

    @property
    def mean(self) -> float:
        """Mean over partitions; NaN where one is missing."""
        return fmean(self.values)

    @property
    def change(self) -> float:
        """Its score in the search minus its confirmed score."""
        return self.searched - self.mean


def confirmation_text(
    arms: Sequence[Confirmed],
    floor: Confirmed | None,
    *,
    search: str,
    objective: str,
    reference: str,
    epochs: str = "",
) -> str:
    """Return the table, best confirmed value first, and the conclusions that it allows.

    Args:
        arms: What was confirmed.
        floor: A floor on the same folds, or None. Nobody chose it: its change comes from the folds
            alone.
        search: Name of the search.
        objective: The metric in the table.
        reference: The arm that others are compared with.
        epochs: Epochs of the search and of the confirmation if they differ, else empty.
    """
    paired_with = next(arm for arm in arms if arm.arm == reference)
    ordered = sorted(arms, key=lambda a: (math.isnan(a.mean), -a.mean, a.arm))
    partitions = plural(len(paired_with.values), "fold partition")
    table = Table(
        name="confirmation",
        title=f"Confirmation of '{search}'",
        shows=f"{metric_name(objective)}: mean ± sd over {partitions}, seeds averaged.",
        reading="Differences are paired within partitions.",
        columns=[
            Column("arm", Kind.NAME),
            Column("search"),
            Column("confirmed"),
            Column("search - confirmed", signed=True),
            Column(f"minus {reference}", signed=True),
            Column("above 0", Kind.TEXT),
        ],
        rows=[_row(arm, paired_with) for arm in (*ordered, *([floor] if floor else []))],
    )
    return "\n\n".join([table.text(), *map(prose, _conclusions(arms, floor, epochs))])


def _row(arm: Confirmed, reference: Confirmed) -> list[Value]:
    confirmed = Spread.of(arm.values) if math.isfinite(arm.mean) else None
    row: list[Value] = [arm.arm, arm.searched, confirmed, arm.change]
    paired = [a - b for a, b in zip(arm.values, reference.values, strict=True)]
    finite = [value for value in paired if math.isfinite(value)]
    if arm.arm == reference.arm or not finite:
        return [*row, None, None]
    above = f"{sum(value > 0 for value in finite)} of {len(finite)}"
    return [*row, Spread.of(finite), above]


def _conclusions(arms: Sequence[Confirmed], floor: Confirmed | None, epochs: str) -> list[str]:
    changes = [arm.change for arm in arms if math.isfinite(arm.change)]
    lines = []
    if epochs:
        lines.append(
            f"Epochs of the search: {epochs}. Search - confirmed mixes the effects of other "
            "training, of other folds and of the search's optimism, which cannot be separated."
        )
    elif changes:
        optimism = score_text(fmean(changes), signed=True)
        lines.append(f"Optimism seen: {optimism}, mean of search - confirmed.")
    if changes and floor is not None and math.isfinite(floor.change):
        lines.append(
            "Nobody chose the floor: its search - confirmed, "
            f"{score_text(floor.change, signed=True)}, is due to the folds alone."
        )
    lines.append(
        "Optimism that remains: seeds and folds are fresh, patients are not. The configurations "
        "were chosen on these records and are confirmed on the same ones. Only patients that no "
        "search has seen can remove that optimism from the figures."
    )
    return lines
