"""Curves: precision over recall and ROC of each class, with bands; the objective by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from study.keys import BARE_ECG, CLASSES, Outcome
from study.reporting.answer import leading
from study.reporting.page.curve_bands import GRID, RESAMPLES, Curve, curves
from study.reporting.page.html import Block, Figure, Note, missing
from study.reporting.page.svg import Panel, span
from study.reporting.results import StudyResults
from study.statistics.findings import ClassFacts, metric_name
from study.statistics.predictions import ArmRuns
from study.wording import listing, plural, score_text

MOST_ARMS = 4
BANDS = 2
"""Number of arms with bands: further bands would hide each other."""
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)

ENDINGS = ("complete", "pruned", "failed", "not settled", "screened")
"""Kinds of learning curves, in the order of their styles."""

_LEARNING_PANELS = (
    ("Complete", ("complete",)),
    ("Stopped early", ("pruned",)),
    ("Screened", ("screened",)),
    ("Failed or not settled", ("failed", "not settled")),
)


def class_curves(results: StudyResults) -> Iterator[Block]:
    """Yield the curves of each class against the rest."""
    comparison, beats = results.comparison, results.beats
    if comparison is None or beats is None:
        yield missing("No curves", results.why("comparison", "no predictions"))
        return
    arms = shown_arms(results)
    names = [arm.name for arm in arms]
    drawn = [
        [
            curves(beats, arm, c, resamples=RESAMPLES if index < BANDS else 0)
            for c in range(len(CLASSES))
        ]
        for index, arm in enumerate(arms)
    ]
    recall = "recall (sensitivity)"
    for index, (name, title, x_label, y_label) in enumerate(
        (
            ("pr", "Precision and recall", recall, "precision (+P)"),
            ("roc", "ROC", "false positive rate", "sensitivity"),
        )
    ):
        yield Figure(
            name=name,
            title=title,
            shows=(
                f"Each class against the rest, for {listing(names)}: within each fold, averaged "
                "over the folds that count and over seeds, as the score is."
            ),
            reading=(
                f"The bands of {listing(names[:BANDS])} hold 95 % of the curves of resampled "
                "patients; a class that is not estimable has none. "
                + (
                    "The dashed line is chance: the prevalence."
                    if index == 0
                    else "For a rare class a small false positive rate may still mean that most "
                    "alarms are false: see precision."
                )
            ),
            panels=[
                _panel(
                    comparison.classes[c],
                    [of_arm[c][index] for of_arm in drawn],
                    x_label,
                    y_label,
                    chance=index == 0,
                )
                for c in range(len(CLASSES))
            ],
            legend=names,
        )
    left_out = len(results.runs) - len(arms)
    if left_out:
        yield Note(
            f"{plural(left_out, 'more arm')} not drawn, to keep lines apart. The tables have all "
            "scores."
        )


def shown_arms(results: StudyResults) -> list[ArmRuns]:
    """Return the arms whose curves are drawn.

    First the leading arm, its placebo, the reference and the bare ECG of its window; then others
    by score.
    """
    first = leading(results)
    facts = results.arms.get(first)
    bare = [
        name
        for name, other in results.arms.items()
        if facts is not None
        and (other.input, other.fusion) == BARE_ECG
        and other.window == facts.window
    ]
    wanted = [first, facts.placebo if facts else "", results.study.space.reference, *bare]
    order = [arm.name for arm in results.comparison.arms] if results.comparison else []
    by_name = {run.name: run for run in results.runs}
    names = [name for name in dict.fromkeys([*wanted, *order]) if name in by_name]
    return [by_name[name] for name in names[:MOST_ARMS]]


def _panel(
    fact: ClassFacts, drawn: Sequence[Curve], x_label: str, y_label: str, *, chance: bool
) -> str:
    panel = Panel(
        x=(0.0, 1.0),
        y=(0.0, 1.0),
        x_ticks=QUARTERS,
        y_ticks=QUARTERS,
        title=f"{fact.name}: {fact.beats:,} beats of {fact.records} records",
        x_label=x_label,
        y_label=y_label,
        height=260,
    )
    for series, curve in enumerate(drawn[:BANDS]):
        if fact.estimable:
            panel.band(GRID, curve.low, curve.high, series=series)
    for series, curve in enumerate(drawn):
        panel.line(GRID, curve.value, style=f"line s{series}")
    if chance and np.isfinite(fact.chance):
        panel.level(fact.chance, "chance" if fact.chance < 0.8 else "")
    if not fact.estimable:
        panel.words(326, 60 if chance else 205, "not estimable: no band", anchor="end", soft=True)
    return panel.svg()


def learning_curves(results: StudyResults) -> Iterator[Block]:
    """Yield every trial's objective by epoch, styled by the trial's outcome."""
    drawn = {number: curve for number, curve in results.study.trials.curves.items() if curve}
    if not drawn:
        yield missing("No learning curves", "no trial has reported an epoch")
        return
    outcome = {row.number: row.outcome for row in results.study.rows}
    ended = {number: _ending(outcome.get(number)) for number in drawn}
    values = [value for curve in drawn.values() for value in curve.values()]
    epochs = results.study.plan.epochs
    panels = []
    for title, endings in _LEARNING_PANELS:
        numbers = [number for number in drawn if ended[number] in endings]
        if not numbers:
            continue
        panel = Panel(
            x=(1.0, max(float(epochs), 2.0)),
            y=span(values),
            title=f"{title}: {plural(len(numbers), 'trial')}",
            x_label="epoch",
            y_label=metric_name(results.study.objective),
            height=260,
        )
        for number in numbers:
            _draw(panel, drawn[number], ENDINGS.index(ended[number]), number)
        panels.append(panel.svg())
    counts = ", ".join(
        f"{n} {ending}" for ending in ENDINGS if (n := list(ended.values()).count(ending))
    )
    yield Figure(
        name="learning",
        title="Objective by epoch",
        shows=(
            f"{metric_name(results.study.objective)} after every epoch of "
            f"{plural(len(drawn), 'trial')}: {counts}."
        ),
        reading=(
            "A trial's score is that of its last epoch. Pruned and screened trials end early, at "
            "a dot, and are never compared with complete ones. Where lines still rise at the end, "
            "more epochs would change the scores."
        ),
        panels=panels,
        legend=[ending if ending in ended.values() else "" for ending in ENDINGS],
    )


def _ending(outcome: Outcome | None) -> str:
    return str(outcome) if outcome is not None and str(outcome) in ENDINGS else "not settled"


def _draw(panel: Panel, curve: Mapping[int, float], series: int, number: int) -> None:
    points = sorted(curve.items())
    panel.line([x for x, _ in points], [y for _, y in points], style=f"line thin s{series}")
    x, y = points[-1]
    if math.isfinite(y):
        panel.dot(x, y, style=f"f{series}", radius=2.5, tip=f"trial {number}: {score_text(y)}")
