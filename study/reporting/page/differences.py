"""Paired differences: forest plot, declared contrasts, matrix of pairs, kept ECG performance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from study.reporting.comparison_tables import contrasts_table, kept_table, pair_name
from study.reporting.page.html import Block, Figure, missing
from study.reporting.page.svg import WIDTH, Whisker, element, row_label, whiskers
from study.reporting.results import StudyResults
from study.reporting.table import interval_text
from study.statistics.findings import (
    Comparison,
    Contrast,
    Estimate,
    metric_name,
    reversed_estimate,
    score_name,
)
from study.wording import score_text, short_names

_SIZE, _LEFT, _TOP = 46.0, 190.0, 26.0
"""Size of a cell of the matrix, and of the space for names, in SVG units."""


def contrasts(results: StudyResults) -> Iterator[Block]:
    """Yield forest plot, declared contrasts, matrix of pairs, and kept ECG performance."""
    comparison = results.comparison
    if results.searches:
        yield missing(
            "No paired differences",
            "a search gives its arms unequal tries, and trains few trials in full; confirm its "
            f"candidates with `python -m study.run --confirm {results.study.name}`",
        )
        return
    if comparison is None or len(comparison.arms) < 2:
        yield missing(
            "No paired differences",
            results.why("comparison", "two arms with complete trials are needed"),
        )
        return
    yield forest(comparison, comparison.primary or list(comparison.contrasts))
    yield contrasts_table(comparison) or missing(
        "No tests", "the space declares no contrasts, so there are only intervals"
    )
    yield matrix(comparison)
    yield kept_table(comparison) or missing(
        "Whether ECG performance is kept", "no arm has the bare ECG of its window to compare with"
    )


def forest(comparison: Comparison, pairs: Sequence[Contrast]) -> Figure:
    """Return the forest plot of contrasts: one panel for the objective, and for S and V."""
    measure, objective = comparison.measure, comparison.quantity
    return Figure(
        name="forest",
        title="Contrasts",
        shows=(
            "The first arm minus the second, paired within draws, folds and seeds, with 95 % "
            f"intervals from {comparison.resamples:,} resamples of patients and seeds."
        ),
        reading=(
            "To the right of 0 the first arm is better. An interval that includes 0 shows no "
            "difference; it does not prove that there is none."
        ),
        panels=[
            whiskers(
                score_name(measure, quantity),
                [
                    (name, [Whisker.of(pair.estimates[quantity], name, signed=True)])
                    for pair in pairs
                    for name in [pair_name(pair)]
                ],
                kind="Forest plot",
            )
            for quantity in dict.fromkeys((objective, "S", "V"))
        ],
    )


def matrix(comparison: Comparison) -> Figure:
    """Return the matrix of all paired differences of the objective."""
    names = short_names(arm.name for arm in comparison.arms)
    differences: dict[tuple[str, str], Estimate] = {}
    for pair in comparison.contrasts:
        estimate = pair.estimates[comparison.quantity]
        differences[pair.first, pair.second] = estimate
        differences[pair.second, pair.first] = reversed_estimate(estimate)
    sizes = [
        abs(estimate.value) for estimate in differences.values() if math.isfinite(estimate.value)
    ]
    largest = max(sizes, default=0.0) or 1.0
    parts = []
    for row, first in enumerate(names):
        y, middle = _TOP + row * _SIZE, _LEFT + (row + 0.5) * _SIZE
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + _SIZE / 2 + 4}" text-anchor="end">'
            f'{escape(row_label(names[first]))} <tspan class="soft">{row + 1}</tspan></text>'
            f'<text class="soft" x="{middle}" y="{_TOP - 8}" text-anchor="middle">{row + 1}</text>'
        )
        for column, second in enumerate(names):
            cell = differences.get((first, second))
            if cell is not None and math.isfinite(cell.value):
                tip = f"{first} - {second}: {interval_text(cell, signed=True)}"
                parts.append(matrix_cell(cell, _LEFT + column * _SIZE, y, largest, tip))
    side = _SIZE * len(names) + 4
    name = metric_name(comparison.objective)
    return Figure(
        name="matrix",
        title="All pairs",
        shows=f"{name} of the row's arm minus that of the column's arm.",
        reading=(
            "Blue: the row's arm is better; red: it is worse. Bold: the 95 % interval of the "
            "pair excludes 0. Among so many pairs some exclude it by chance; only declared "
            "contrasts are tested."
        ),
        panels=[
            element(
                "".join(parts),
                _TOP + side,
                describe=f"Differences of {name} between all arms",
                width=max(_LEFT + side, WIDTH + 1.0),
            )
        ],
        wide=True,
    )


def matrix_cell(estimate: Estimate, x: float, y: float, largest: float, tip: str) -> str:
    """Return a cell: darker for larger differences, bold where the interval excludes 0."""
    weight = ' class="clear"' if estimate.clear else ""
    return (
        f'<rect class="cell {"cool" if estimate.value > 0 else "warm"}" x="{x}" y="{y}" '
        f'width="{_SIZE}" height="{_SIZE}" '
        f'fill-opacity="{0.05 + 0.4 * abs(estimate.value) / largest:.2f}">'
        f"<title>{escape(tip)}</title></rect>"
        f'<text x="{x + _SIZE / 2}" y="{y + _SIZE / 2 + 4}" text-anchor="middle" '
        f'style="pointer-events:none"{weight}>{score_text(estimate.value, signed=True)}</text>'
    )
