"""The matrix of all paired differences."""

from __future__ import annotations

import math
from html import escape

from study.reporting.layout import short
from study.reporting.page.blocks import Figure
from study.reporting.page.results import StudyResults
from study.reporting.page.svg import WIDTH, element
from study.reporting.page.words import interval_text, objective_name, quantity_of
from study.statistics.findings import Comparison, Estimate

_SIZE, _LEFT, _TOP = 46.0, 190.0, 26.0
_LONGEST = 27


def matrix(comparison: Comparison, results: StudyResults) -> Figure:
    """Return the matrix of all paired differences of the objective."""
    names = [arm.name for arm in comparison.arms]
    found: dict[tuple[str, str], Estimate] = {}
    for pair in comparison.contrasts:
        one = pair.estimates[quantity_of(results)]
        found[pair.first, pair.second] = one
        found[pair.second, pair.first] = _turned(one)
    sizes = [abs(one.value) for one in found.values() if math.isfinite(one.value)]
    largest = max(sizes, default=0.0) or 1.0
    parts = []
    for row, first in enumerate(names):
        y, middle = _TOP + row * _SIZE, _LEFT + (row + 0.5) * _SIZE
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + _SIZE / 2 + 4}" text-anchor="end">'
            f'{escape(shortened(first))} <tspan class="soft">{row + 1}</tspan></text>'
            f'<text class="soft" x="{middle}" y="{_TOP - 8}" text-anchor="middle">{row + 1}</text>'
        )
        for column, second in enumerate(names):
            cell = found.get((first, second))
            if cell is not None and math.isfinite(cell.value):
                said = f"{first} - {second}: {interval_text(cell, signed=True)}"
                parts.append(_cell(cell, _LEFT + column * _SIZE, y, largest, said))
    side = _SIZE * len(names) + 4
    name = objective_name(results.objective)
    return Figure(
        name="matrix",
        title="All pairs",
        shows=f"{name} of the arm of the row minus that of the column.",
        reading=(
            "Blue: the row is better, red: worse; bold where the 95 % interval of the pair leaves "
            "out 0. With this many pairs some do so by chance: only declared contrasts are tested."
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


def shortened(name: str) -> str:
    """Return a name that fits beside a row."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _turned(one: Estimate) -> Estimate:
    """Return the difference the other way round."""
    return Estimate(value=-one.value, se=one.se, low=-one.high, high=-one.low, remark=one.remark)


def _cell(one: Estimate, x: float, y: float, largest: float, said: str) -> str:
    clear = one.low > 0 or one.high < 0
    weight = ' class="clear"' if clear else ""
    return (
        f'<rect class="cell {"cool" if one.value > 0 else "warm"}" x="{x}" y="{y}" '
        f'width="{_SIZE}" height="{_SIZE}" '
        f'fill-opacity="{0.05 + 0.4 * abs(one.value) / largest:.2f}">'
        f"<title>{escape(said)}</title></rect>"
        f'<text x="{x + _SIZE / 2}" y="{y + _SIZE / 2 + 4}" text-anchor="middle" '
        f'style="pointer-events:none"{weight}>{short(one.value, signed=True)}</text>'
    )
