"""Learning curves: every trial's objective by epoch, told apart by how it ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from study.keys import Outcome
from study.reporting.page.blocks import Block, Figure, Section, missing
from study.reporting.page.results import StudyResults
from study.reporting.page.svg import Panel, span
from study.reporting.page.words import objective_name, plural

ENDINGS = ("complete", "pruned", "failed", "not settled", "screened")
"""How a line is drawn, in the order of its styles."""


def learning_curves(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="learning", title="Learning curves", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    drawn = {number: curve for number, curve in results.curves.items() if curve}
    if not drawn:
        yield missing("No learning curves", "no trial has reported an epoch")
        return
    outcome = {row.number: row.outcome for row in results.rows}
    ended = {number: _ending(outcome.get(number)) for number in drawn}
    values = [value for curve in drawn.values() for value in curve.values()]
    epochs = int(results.plan["epochs"])
    panels = []
    for title, endings in _PANELS:
        mine = [number for number in drawn if ended[number] in endings]
        if not mine:
            continue
        panel = Panel(
            x=(1.0, max(float(epochs), 2.0)),
            y=span(values),
            title=f"{title}: {plural(len(mine), 'trial')}",
            x_label="epoch",
            y_label=objective_name(results.objective),
            height=260,
        )
        for number in mine:
            _draw(panel, drawn[number], ENDINGS.index(ended[number]), number)
        panels.append(panel.svg())
    counts = ", ".join(
        f"{n} {ending}" for ending in ENDINGS if (n := list(ended.values()).count(ending))
    )
    yield Figure(
        name="learning",
        title="Objective by epoch",
        shows=(
            f"{objective_name(results.objective)} after every epoch of "
            f"{plural(len(drawn), 'trial')}: {counts}."
        ),
        reading=(
            "A trial's score is that of its last epoch. Pruned and screened trials end early with "
            "a dot and are never compared with complete ones; where lines still rise at the end, "
            "the budget of epochs decides."
        ),
        panels=panels,
        legend=[ending if ending in ended.values() else "" for ending in ENDINGS],
    )


_PANELS = (
    ("Complete", ("complete",)),
    ("Stopped early", ("pruned",)),
    ("Screened", ("screened",)),
    ("Failed or not settled", ("failed", "not settled")),
)


def _ending(outcome: Outcome | None) -> str:
    return str(outcome) if outcome is not None and str(outcome) in ENDINGS else "not settled"


def _draw(panel: Panel, curve: Mapping[int, float], series: int, number: int) -> None:
    points = sorted(curve.items())
    panel.line([x for x, _ in points], [y for _, y in points], style=f"line thin s{series}")
    x, y = points[-1]
    if math.isfinite(y):
        panel.dot(x, y, style=f"f{series}", radius=2.5, tip=f"trial {number}: {y:.3f}")
