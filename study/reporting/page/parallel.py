"""Parallel coordinates: a line for each trial, from its parameters to its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from study.config import ARM_PARTS
from study.keys import metric
from study.models import rules
from study.reporting.importance import of_one_budget
from study.reporting.page.html import Block, Figure, missing
from study.reporting.page.svg import element, hover, shown, span, ticks
from study.reporting.results import StudyResults
from study.statistics.findings import metric_name, parts_of
from study.store.trials import TrialRow
from study.wording import UNDEFINED, plural, score_text

MOST_LINES = 300
"""Largest number of trials that are drawn, the best ones: more would hide each other."""

_WIDTH, _SIDE, _TOP, _HEIGHT = 1160.0, 70.0, 40.0, 260.0
_SERIES = 8
"""Number of the page's colours."""

_MOST_WORDS = 8
"""With more values than this, numbers are drawn on a scale."""

Line = Mapping[str, object]
"""A trial's parameters and scores by axis, without the parameters that its arm does not have."""


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    ends: tuple[float, float]  # of its scale
    marks: Mapping[float, str]  # what is written beside it, by place on the scale
    places: Mapping[str, float]  # place of each value; empty for a scale of numbers

    def at(self, value: object) -> float:
        """Return the height of a value, in SVG units."""
        place = self.places[str(value)] if self.places else float(str(value))
        share = (place - self.ends[0]) / (self.ends[1] - self.ends[0])
        return _TOP + _HEIGHT * (1 - share)


def parallel_coordinates(results: StudyResults) -> Block:
    """Return the trials' parameters and scores as lines across parallel axes."""
    objective = results.study.objective
    rows, kind = of_one_budget(results.study.rows, objective)
    rows = [row for row in rows if math.isfinite(row.metric(objective))]
    lines = {row.number: _parameters(results, row) for row in rows}
    names = _varying(list(lines.values()))
    if len(rows) < 2 or not names:
        return missing("No parallel coordinates", "two trials that differ are needed")
    measure, quantity = parts_of(objective)
    scores = [metric(measure, of) for of in dict.fromkeys(("S", "V", quantity))]
    best = sorted(rows, key=lambda row: row.metric(objective))[-MOST_LINES:]
    drawn = {
        row.number: {**lines[row.number], **{name: row.metric(name) for name in scores}}
        for row in best
    }
    kept = "" if len(best) == len(rows) else f", the best {len(best)} of {len(rows)}"
    colours = sorted({str(line["fusion"]) for line in drawn.values()})
    axes = [_axis(name, [line.get(name) for line in drawn.values()]) for name in names]
    axes += [_scale(name, [line[name] for line in drawn.values()]) for name in scores]
    return Figure(
        name="parallel",
        title="Parameters and scores of every trial",
        shows=f"A line for each of {plural(len(rows), f'{kind} trial')}{kept}, by fusion.",
        reading=(
            f"A line at {UNDEFINED} has no such parameter. Lines that part on an axis and end at "
            "the same height say that it matters little. A sampler tries good regions more often."
        ),
        panels=[_drawing(results, axes, drawn, colours)],
        legend=colours[:_SERIES],
        wide=True,
    )


def _parameters(results: StudyResults, row: TrialRow) -> dict[str, object]:
    return dict(rules.active_parameters(results.study.configs[row.number]))


def _varying(lines: Sequence[Line]) -> list[str]:
    """Return the parameters that differ between lines that have them, the parts of an arm first.

    A part of an arm also counts as differing if some lines lack it.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    order = dict.fromkeys([*(name for name in ARM_PARTS if name in names), *names])
    values = {name: {str(line[name]) for line in lines if name in line} for name in order}
    everywhere = {name for name in order if all(name in line for line in lines)}
    return [
        name
        for name, there in values.items()
        if len(there) > 1 or (name in ARM_PARTS and name not in everywhere)
    ]


def _axis(name: str, values: Sequence[object]) -> _Axis:
    """Return the axis of a parameter: a scale for many numbers, else a place for each value."""
    there = {value for value in values if value is not None}
    numbers = all(isinstance(value, int | float) for value in there)
    if numbers and len(there) > _MOST_WORDS and len(there) == len(set(values)):
        return _scale(name, values)
    words = sorted(there, key=lambda value: (float(str(value)) if numbers else 0.0, str(value)))
    texts = [UNDEFINED] * (None in values) + [_text(word) for word in words]
    keys = ["None"] * (None in values) + [str(word) for word in words]
    return _Axis(
        name,
        (-0.5, len(keys) - 0.5),
        {float(place): text for place, text in enumerate(texts)},
        {key: float(place) for place, key in enumerate(keys)},
    )


def _scale(name: str, values: Sequence[object]) -> _Axis:
    ends = span([float(str(value)) for value in values])
    return _Axis(name, ends, {value: shown(value) for value in ticks(ends)}, {})


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _drawing(
    results: StudyResults,
    axes: Sequence[_Axis],
    drawn: Mapping[int, Line],
    colours: Sequence[str],
) -> str:
    step = (_WIDTH - 2 * _SIDE) / (len(axes) - 1)
    x = [_SIDE + step * index for index in range(len(axes))]
    arms = {row.number: row.arm for row in results.study.rows}
    objective, parts = results.study.objective, []
    for number, line in drawn.items():
        series = min(colours.index(str(line["fusion"])), _SERIES - 1)
        points = "L".join(
            f"{at:.1f} {axis.at(line.get(axis.name)):.1f}"
            for at, axis in zip(x, axes, strict=True)
        )
        words = f"trial {number}, {arms[number]}: {score_text(float(str(line[objective])))}"
        parts.append(f'<path class="line way s{series}" d="M{points}">{hover(words)}</path>')
    for index, (at, axis) in enumerate(zip(x, axes, strict=True)):
        # Names of narrow axes stand in turn higher and lower.
        name_at = 14 if step < 100 and index % 2 else 28
        name = metric_name(axis.name) if axis.name.startswith("val_") else axis.name
        parts.append(
            f'<path class="axis" d="M{at:.1f} {_TOP}V{_TOP + _HEIGHT}"/>'
            f'<text class="head" x="{at:.1f}" y="{name_at}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
        for value, text in axis.marks.items():
            share = (value - axis.ends[0]) / (axis.ends[1] - axis.ends[0])
            y = _TOP + _HEIGHT * (1 - share) + 4
            parts.append(
                f'<text class="over" x="{at:.1f}" y="{y:.1f}" text-anchor="middle">'
                f"{escape(text)}</text>"
            )
    describe = f"Parallel coordinates of {plural(len(drawn), 'trial')}"
    return element("".join(parts), _TOP + _HEIGHT + 10, describe=describe, width=_WIDTH)
