"""Precision-recall and ROC curves of each class, with bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from study.keys import CLASSES
from study.reporting.page.blocks import Block, Figure, Note, Section, missing
from study.reporting.page.curve_bands import GRID, Curve, curves
from study.reporting.page.first_screen import leading
from study.reporting.page.results import StudyResults
from study.reporting.page.svg import Panel
from study.reporting.page.words import listing
from study.statistics.findings import ClassFacts
from study.statistics.predictions import ArmRuns

MOST_ARMS = 4
BANDS = 2
"""Arms with bands: more would hide each other."""
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def class_curves(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="curves", title="Curves", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    comparison, beats = results.comparison, results.beats
    if comparison is None or beats is None:
        yield missing("No curves", results.why("comparison", "no predictions"))
        return
    arms = shown_arms(results)
    names = [arm.name for arm in arms]
    found = [[curves(beats, arm, c) for c in range(len(CLASSES))] for arm in arms]
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
                f"Bands, of {listing(names[:BANDS])}, are 95 % of what resampled patients give; "
                "there is none where a class is not estimable. "
                + (
                    "The dashed line is chance: the prevalence."
                    if index == 0
                    else "The axis of false positives hides what a rare class costs: see "
                    "precision."
                )
            ),
            panels=[
                _panel(
                    comparison.classes[c],
                    [of_arm[c][index] for of_arm in found],
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
            f"{left_out} more arms are not drawn, to keep lines apart; their scores are in the "
            "tables."
        )


def shown_arms(results: StudyResults) -> list[ArmRuns]:
    """Return the arms whose curves are drawn.

    The leading one, its placebo, the reference and the bare ECG of its window; then by score.
    """
    first = leading(results)
    facts = results.arms.get(first)
    bare = [
        name
        for name, other in results.arms.items()
        if facts is not None
        and other.input == "ecg"
        and other.fusion == "none"
        and other.segmentation == facts.segmentation
    ]
    wanted = [first, facts.stand_in if facts else "", results.reference, *bare]
    order = [arm.name for arm in results.comparison.arms] if results.comparison else []
    by_name = {run.name: run for run in results.runs}
    names = [name for name in dict.fromkeys([*wanted, *order]) if name in by_name]
    return [by_name[name] for name in names[:MOST_ARMS]]


def _panel(
    fact: ClassFacts, found: Sequence[Curve], x_label: str, y_label: str, *, chance: bool
) -> str:
    panel = Panel(
        x=(0.0, 1.0),
        y=(0.0, 1.0),
        x_ticks=_QUARTERS,
        y_ticks=_QUARTERS,
        title=f"{fact.name}: {fact.beats:,} beats of {fact.records} records",
        x_label=x_label,
        y_label=y_label,
        height=260,
    )
    for series, curve in enumerate(found[:BANDS]):
        if fact.estimable:
            panel.band(GRID, curve.low, curve.high, series=series)
    for series, curve in enumerate(found):
        panel.line(GRID, curve.value, style=f"line s{series}")
    if chance and np.isfinite(fact.chance):
        panel.level(fact.chance, "chance" if fact.chance < 0.8 else "")
    if not fact.estimable:
        panel.words(326, 60 if chance else 205, "not estimable: no band", anchor="end", soft=True)
    return panel.svg()
