"""Calibration: reliability curves of S and V, and Brier scores of every arm."""

from __future__ import annotations

from collections.abc import Iterator

from study.keys import CLASSES, RELIANCE_CLASSES
from study.reporting.page.curves import QUARTERS, shown_arms
from study.reporting.page.html import Block, Figure, missing
from study.reporting.page.svg import Panel
from study.reporting.results import StudyResults
from study.reporting.table import Column, Kind, Table, Value
from study.statistics.calibration import BINS, Calibration, calibration
from study.statistics.predictions import Beats
from study.wording import listing

_CLASSES = {name: CLASSES.index(name) for name in RELIANCE_CLASSES}


def calibrations(results: StudyResults) -> Iterator[Block]:
    """Yield the reliability curves of a few arms, and the Brier scores of all."""
    beats = results.beats
    if beats is None or not results.runs:
        yield missing("No calibration", results.why("comparison", "no predictions"))
        return
    by_arm = {
        run.name: {name: calibration(beats, run.log_probs, c) for name, c in _CLASSES.items()}
        for run in results.runs
    }
    drawn = [arm.name for arm in shown_arms(results)]
    yield Figure(
        name="reliability",
        title="Are the predicted probabilities right?",
        shows=(
            f"Out-of-fold probabilities of {listing(drawn)} in {BINS} bins of equally many beats: "
            "the mean probability of each bin, and the share of the class in it."
        ),
        reading=(
            "On the dashed line probabilities are right; below it they are too high. Most bins "
            "lie at the lower left: most beats are normal, with low probabilities of S and V."
        ),
        panels=[_panel(name, [by_arm[arm][name] for arm in drawn]) for name in _CLASSES],
        legend=drawn,
    )
    yield _table(beats, by_arm)


def _panel(name: str, drawn: list[Calibration | None]) -> str:
    panel = Panel(
        x=(0.0, 1.0),
        y=(0.0, 1.0),
        x_ticks=QUARTERS,
        y_ticks=QUARTERS,
        title=name,
        x_label="predicted probability",
        y_label=f"share of {name} among these beats",
        height=260,
    )
    panel.line((0.0, 1.0), (0.0, 1.0), style="mark")
    for series, curve in enumerate(drawn):
        if curve is not None:
            panel.line(curve.probability, curve.share, style=f"line s{series}")
    return panel.svg()


def _table(beats: Beats, by_arm: dict[str, dict[str, Calibration | None]]) -> Table:
    validated = beats.label[beats.held_out[beats.record]]
    share = {name: float((validated == c).mean()) for name, c in _CLASSES.items()}
    columns, guess = [Column("arm", Kind.NAME)], list[Value](["always the class's share"])
    for name in _CLASSES:
        columns += [Column(f"Brier {name}", digits=4), Column(f"mean probability of {name}")]
        guess += [share[name] * (1 - share[name]), share[name]]
    rows = [guess]
    for arm, of_class in by_arm.items():
        row: list[Value] = [arm]
        for scores in of_class.values():
            row += [None, None] if scores is None else [scores.brier, scores.mean]
        rows.append(row)
    return Table(
        name="calibration",
        title="Calibration",
        shows=(
            "Brier score, the mean squared difference of a beat's probability and its label (0 or "
            "1), of a class against the rest; and the mean probability of the class."
        ),
        reading=(
            "Lower Brier scores are better. In the first row every beat has the share of the "
            "class as its probability. A mean probability above that share is too high."
        ),
        columns=columns,
        rows=rows,
    )
