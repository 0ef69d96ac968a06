"""The arms by score, as dots and in tables, over all records and within each record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from study.keys import MIN_BEATS_OF_RECORD, metric
from study.reporting.comparison_tables import (
    beside_table,
    choice_sentences,
    classes_table,
    floor_table,
    records_table,
)
from study.reporting.page.html import Block, Figure, Note, missing
from study.reporting.page.svg import (
    WIDTH,
    Range,
    Whisker,
    element,
    hover,
    row_label,
    scale,
    span,
    tick_svg,
    ticks,
)
from study.reporting.results import StudyResults
from study.reporting.trial_tables import arms_table, best_table, databases_table
from study.statistics.findings import (
    MEASURE_NAMES,
    ArmResult,
    Comparison,
    score_name,
)
from study.store.floors import highest_floor
from study.wording import score_text, short_names

_CELL, _ROW, _LEFT, _TOP = 40.0, 26.0, 190.0, 36.0

_WIDTH, _NAMES, _GAP, _LINE, _HEAD = 1160.0, 260.0, 30.0, 18.0, 30.0
"""Width of the drawing, and of the arms' names; gap of panels; height of a row, and of titles."""

_LONGEST = 40
"""Longest name, in characters."""


def ranking(results: StudyResults) -> Iterator[Block]:
    """Yield the arms by score, and the support of these scores."""
    if not results.study.rows:
        yield missing("No ranking", results.why("comparison", "no trial has settled"))
        return
    comparison = results.comparison
    yield arms_table(
        results.study.rows,
        results.study.objective,
        results.study.plan.kind,
        arms=results.arms,
        comparison=comparison,
        floors=results.floors,
    )
    by_database = databases_table(
        results.study.rows,
        results.study.objective,
        results.study.plan.databases,
        floors=results.floors,
    )
    if by_database is not None:
        yield by_database
    if comparison is None:
        yield missing("No intervals", results.why("comparison", "no arm can be compared"))
        return
    yield from map(Note, choice_sentences(comparison))
    if results.searches:
        best = best_table(results.study.rows, results.study.objective, comparison)
        yield best or missing("No best configurations", "no trial is complete")
    if (above := floor_table(comparison)) is not None:
        yield above
    yield beside_table(comparison)
    yield classes_table(comparison)


def records(results: StudyResults) -> Iterator[Block]:
    """Yield the scores within each record."""
    comparison = results.comparison
    if comparison is None:
        yield missing("No scores by record", results.why("comparison", "no predictions"))
        return
    for name in ("S", "V"):
        yield _heat_map(comparison, name)
    yield records_table(comparison)


def _heat_map(comparison: Comparison, aami_class: str) -> Figure:
    names = short_names(arm.name for arm in comparison.arms)
    value = {(row.arm, row.record): row.scores[aami_class] for row in comparison.records}
    beats = {row.record: row.beats[aami_class] for row in comparison.records}
    drawn = [
        name
        for name in beats
        if any(math.isfinite(value.get((arm.name, name), math.nan)) for arm in comparison.arms)
    ]
    parts = []
    for column, record in enumerate(drawn):
        x = _LEFT + (column + 0.5) * _CELL
        parts.append(f'<text x="{x}" y="14" text-anchor="middle">{escape(record)}</text>')
        parts.append(
            f'<text class="soft" x="{x}" y="28" text-anchor="middle">{beats[record]}</text>'
        )
    for row, arm in enumerate(comparison.arms):
        y = _TOP + row * _ROW
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end">'
            f"{escape(row_label(names[arm.name]))}{hover(arm.name)}</text>"
        )
        for column, record in enumerate(drawn):
            parts.append(_cell(value.get((arm.name, record), math.nan), _LEFT + column * _CELL, y))
    width = _LEFT + _CELL * len(drawn) + 4
    height = _TOP + _ROW * len(comparison.arms) + 4
    return Figure(
        name=f"records_{aami_class}",
        title=f"{aami_class} by record",
        shows=(
            f"Score of {aami_class} within each record that has {MIN_BEATS_OF_RECORD} or more of "
            "its beats (their number below the record's), draws and seeds averaged."
        ),
        reading=(
            "Darker is better. A column that is pale throughout is a patient whom no arm "
            "classifies well; rows that differ in only one column differ in one patient."
        ),
        panels=[
            element(
                "".join(parts),
                height,
                describe=f"Scores of {aami_class} by arm and record",
                width=max(width, WIDTH + 1.0),
            )
        ]
        if drawn
        else [],
        wide=True,
    )


def _cell(value: float, x: float, y: float) -> str:
    if not math.isfinite(value):
        return f'<text class="soft" x="{x + _CELL / 2}" y="{y + 17}" text-anchor="middle">-</text>'
    return (
        f'<rect class="cell cool" x="{x}" y="{y}" width="{_CELL}" height="{_ROW}" '
        f'fill-opacity="{0.04 + 0.5 * max(value, 0.0):.2f}"/>'
        f'<text x="{x + _CELL / 2}" y="{y + 17}" text-anchor="middle">'
        f"{score_text(value, digits=2)}</text>"
    )


def arms_as_dots(results: StudyResults) -> Figure | None:
    """Return the arms by score; None where they were not compared."""
    comparison = results.comparison
    if comparison is None:
        return None
    quantities = list(dict.fromkeys((comparison.quantity, "S", "V")))
    controls = [name for name, arm in results.arms.items() if not (arm.real and arm.can_use_rr)]
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
        panels=[_drawing(results, comparison, quantities, controls)],
        legend=legend,
        wide=True,
    )


def _drawing(
    results: StudyResults,
    comparison: Comparison,
    quantities: Sequence[str],
    controls: Sequence[str],
) -> str:
    measure = comparison.measure
    names = short_names(arm.name for arm in comparison.arms)
    bottom = _HEAD + _LINE * len(comparison.arms)
    parts = []
    for row, arm in enumerate(comparison.arms):
        y = _HEAD + (row + 0.5) * _LINE
        label = escape(row_label(names[arm.name], _LONGEST))
        parts.append(
            f'<text x="{_NAMES - 10}" y="{y + 4}" text-anchor="end">{label}'
            f"{hover(arm.name)}</text>"
            f'<path class="grid" d="M{_NAMES} {y}H{_WIDTH}"/>'
        )
    width = (_WIDTH - _NAMES - _GAP * (len(quantities) - 1)) / len(quantities)
    for column, quantity in enumerate(quantities):
        left = _NAMES + column * (width + _GAP)
        name = metric(measure, quantity)
        highest = highest_floor(results.floors, name)
        floor = highest.metrics[name] if highest else math.nan
        title = score_name(measure, quantity)
        parts.append(
            _panel(comparison.arms, quantity, title, (left, left + width), bottom, floor, controls)
        )
    return element(
        "".join(parts),
        bottom + 18,
        describe=f"{MEASURE_NAMES[measure]} of {len(names)} arms",
        width=_WIDTH,
    )


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
    at, left = scale(x, sides), sides[0]
    parts = [f'<text class="head" x="{left:.0f}" y="11">{escape(title)}</text>']
    for value in ticks(x):
        line = f"M{at(value):.1f} {_HEAD - 8}V{bottom}"
        parts.append(tick_svg(value, at(value), line, bottom))
    if math.isfinite(floor):
        side = "end" if at(floor) > sum(sides) / 2 else "start"
        parts.append(
            f'<path class="mark" d="M{at(floor):.1f} {_HEAD - 18}V{bottom}"/><text class="soft" '
            f'x="{at(floor) + (4 if side == "start" else -4):.1f}" y="{_HEAD - 10}" '
            f'text-anchor="{side}">floor {score_text(floor)}</text>'
        )
    for row, (arm, estimate) in enumerate(zip(arms, estimates, strict=True)):
        whisker, series = Whisker.of(estimate, arm.name), int(arm.name in controls)
        parts.append(whisker.svg(at, _HEAD + (row + 0.5) * _LINE, series))
    return "".join(parts)
