"""The arms by score, over all records and within each record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from study.keys import MIN_BEATS_OF_RECORD
from study.reporting.comparison_tables import (
    beside_table,
    choice_sentences,
    classes_table,
    floor_table,
    records_table,
)
from study.reporting.page.html import Block, Figure, Note, missing
from study.reporting.page.svg import WIDTH, element, hover, shortened
from study.reporting.results import StudyResults
from study.reporting.trial_tables import arms_table, best_table, databases_table
from study.statistics.findings import Comparison
from study.wording import score_text, without_shared_parts

_CELL, _ROW, _LEFT, _TOP = 40.0, 26.0, 190.0, 36.0


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
    names = without_shared_parts(arm.name for arm in comparison.arms)
    value = {(row.arm, row.record): row.scores[aami_class] for row in comparison.records}
    beats = {row.record: row.beats[aami_class] for row in comparison.records}
    shown = [
        name
        for name in beats
        if any(math.isfinite(value.get((arm.name, name), math.nan)) for arm in comparison.arms)
    ]
    parts = []
    for column, record in enumerate(shown):
        x = _LEFT + (column + 0.5) * _CELL
        parts.append(f'<text x="{x}" y="14" text-anchor="middle">{escape(record)}</text>')
        parts.append(
            f'<text class="soft" x="{x}" y="28" text-anchor="middle">{beats[record]}</text>'
        )
    for row, arm in enumerate(comparison.arms):
        y = _TOP + row * _ROW
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end">'
            f"{escape(shortened(names[arm.name]))}{hover(arm.name)}</text>"
        )
        for column, record in enumerate(shown):
            parts.append(_cell(value.get((arm.name, record), math.nan), _LEFT + column * _CELL, y))
    width = _LEFT + _CELL * len(shown) + 4
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
        if shown
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
