"""The arms by score, as dots with intervals: the objective, and AUPRC or AUROC of S and V."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from study.keys import metric
from study.reporting.page.html import Figure
from study.reporting.page.svg import Range, element, hover, shown, span, ticks
from study.reporting.results import StudyResults
from study.reporting.table import interval_text
from study.statistics.findings import (
    MEASURE_NAMES,
    ArmResult,
    Comparison,
    Estimate,
    label_of,
    parts_of,
)
from study.wording import score_text, without_shared_parts

_WIDTH, _NAMES, _GAP, _ROW, _TOP = 1160.0, 260.0, 30.0, 18.0, 30.0
"""Width of the drawing, and of the arms' names; gap of panels; height of a row, and of titles."""

_LONGEST = 40
"""Longest name, in characters."""


def arms_as_dots(results: StudyResults) -> Figure | None:
    """Return the arms by score; None where they were not compared."""
    comparison = results.comparison
    if comparison is None:
        return None
    measure, objective = parts_of(comparison.objective)
    quantities = list(dict.fromkeys((objective, "S", "V")))
    controls = [name for name, arm in results.arms.items() if not (arm.real and arm.uses_rr)]
    legend = ["RR can reach the output"]
    if any(arm.name in controls for arm in comparison.arms):
        legend.append("RR cannot, or is permuted")
    best = (
        "The best trial of each arm, which is optimistic: a search has chosen it"
        if results.searches
        else "Every arm"
    )
    return Figure(
        name="arms",
        title="Arms by score",
        shows=f"{best}, with 95 % intervals over patients and seeds.",
        reading=(
            "The dashed line is the highest floor. Arms share patients: intervals that overlap do "
            "not mean equal arms."
        ),
        panels=[_drawing(results, comparison, measure, quantities, controls)],
        legend=legend,
        wide=True,
    )


def _drawing(
    results: StudyResults,
    comparison: Comparison,
    measure: str,
    quantities: Sequence[str],
    controls: Sequence[str],
) -> str:
    names = without_shared_parts(arm.name for arm in comparison.arms)
    bottom = _TOP + _ROW * len(comparison.arms)
    parts = []
    for row, arm in enumerate(comparison.arms):
        y = _TOP + (row + 0.5) * _ROW
        name = names[arm.name]
        cut = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        parts.append(
            f'<text x="{_NAMES - 10}" y="{y + 4}" text-anchor="end">{escape(cut)}'
            f"{hover(arm.name)}</text>"
            f'<path class="grid" d="M{_NAMES} {y}H{_WIDTH}"/>'
        )
    width = (_WIDTH - _NAMES - _GAP * (len(quantities) - 1)) / len(quantities)
    for column, quantity in enumerate(quantities):
        left = _NAMES + column * (width + _GAP)
        floor = _highest_floor(results, metric(measure, quantity))
        title = f"{MEASURE_NAMES[measure]} {label_of(quantity)}"
        parts.append(
            _panel(comparison.arms, quantity, title, (left, left + width), bottom, floor, controls)
        )
    return element(
        "".join(parts),
        bottom + 18,
        describe=f"{MEASURE_NAMES[measure]} of {len(names)} arms",
        width=_WIDTH,
    )


def _highest_floor(results: StudyResults, name: str) -> float:
    values = [floor.metrics.get(name, math.nan) for floor in results.floors]
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def _panel(
    arms: Sequence[ArmResult],
    quantity: str,
    title: str,
    sides: Range,
    bottom: float,
    floor: float,
    controls: Sequence[str],
) -> str:
    estimates = [arm.estimates[quantity] for arm in arms]
    x = span([v for e in estimates for v in (e.value, e.low, e.high)] + [floor])
    left, right = sides

    def at(value: float) -> float:
        return left + (value - x[0]) / (x[1] - x[0]) * (right - left)

    parts = [f'<text class="head" x="{left:.0f}" y="11">{escape(title)}</text>']
    for value in ticks(x):
        parts.append(
            f'<path class="grid" d="M{at(value):.1f} {_TOP - 8}V{bottom}"/><text class="soft" '
            f'x="{at(value):.1f}" y="{bottom + 13}" text-anchor="middle">{shown(value)}</text>'
        )
    if math.isfinite(floor):
        side = "end" if at(floor) > (left + right) / 2 else "start"
        parts.append(
            f'<path class="mark" d="M{at(floor):.1f} {_TOP - 18}V{bottom}"/><text class="soft" '
            f'x="{at(floor) + (4 if side == "start" else -4):.1f}" y="{_TOP - 10}" '
            f'text-anchor="{side}">floor {score_text(floor)}</text>'
        )
    for row, (arm, estimate) in enumerate(zip(arms, estimates, strict=True)):
        text = f"{arm.name}: {interval_text(estimate)}"
        parts.append(
            _dot(estimate, at, _TOP + (row + 0.5) * _ROW, int(arm.name in controls), text)
        )
    return "".join(parts)


def _dot(
    estimate: Estimate, at: Callable[[float], float], y: float, series: int, text: str
) -> str:
    if not math.isfinite(estimate.value):
        return ""
    line = ""
    if math.isfinite(estimate.low):
        line = (
            f'<path class="whisker s{series}" '
            f'd="M{at(estimate.low):.1f} {y}H{at(estimate.high):.1f}"/>'
        )
    return (
        f'{line}<circle class="f{series}" cx="{at(estimate.value):.1f}" cy="{y}" r="4">'
        f"{hover(text)}</circle>"
    )
