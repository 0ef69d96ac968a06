"""The factor table: where RR enters, which features, which window, each against its placebo."""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import metric
from study.reporting.page.blocks import Block, Cell, Section, Table, missing, score, text
from study.reporting.page.results import StudyResults
from study.reporting.page.words import interval, mean, objective_name, quantity_of


def factors(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="factors", title="Factors", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    ranked = {row.arm for row in results.ranked}
    if not ranked:
        yield missing("No factors", "no trial is complete")
        return
    yield _table(results)
    if not any(facts.stand_in in ranked for facts in results.arms.values() if facts.stand_in):
        yield missing(
            "No placebo differences",
            "no arm has a complete placebo beside it: what RR is worth to an arm is not "
            "measured by this study, only how much it relies on it (see RR reliance)",
        )


def _table(results: StudyResults) -> Table:
    names = (results.objective, metric("auprc", "S"), metric("auprc", "V"))
    header = [
        "entry of RR",
        "late RR",
        "segmentation",
        "fusion",
        objective_name(results.objective),
    ]
    header += ["minus its placebo [95 %]", "AUPRC S", "S minus placebo [95 %]", "AUPRC V"]
    header += ["V minus placebo [95 %]"]
    rows = []
    for arm, facts in results.arms.items():
        mine = [row for row in results.ranked if row.arm == arm]
        if not facts.real or not mine:
            continue
        cells = [text(_ENTRY[facts.input]), text(facts.late_rr), text(facts.segmentation)]
        cells.append(text(facts.fusion))
        for name, quantity in zip(names, (quantity_of(results), "S", "V"), strict=True):
            cells.append(score(mean(row.metric(name) for row in mine)))
            cells.append(_minus_placebo(results, arm, facts.stand_in, quantity))
        rows.append(cells)
    rows.sort(key=lambda row: tuple(cell.text for cell in row[:4]))
    return Table(
        name="factors",
        title="Entry, late RR and segmentation",
        shows=(
            "Arms with real RR by what they are made of, and what they lose when RR is permuted "
            "within each record in training and validation alike: the same network without it."
        ),
        reading=(
            "A difference near 0 says that RR as a number adds nothing to what the window tells. "
            "A daeac window starts at the previous beat, so that its stretch carries RR."
        ),
        header=header,
        rows=rows,
        text_columns=(1, 2, 3),
    )


_ENTRY = {
    "ecg": "none",
    "opt1": "late vector",
    "opt2": "early channels",
    "opt3": "early and late",
}


def _minus_placebo(results: StudyResults, arm: str, placebo: str, quantity: str) -> Cell:
    if not placebo:
        return Cell("no placebo")
    if results.searches or results.comparison is None:
        return Cell("not paired")
    for pair in results.comparison.contrasts:
        if (pair.first, pair.second) == (arm, placebo):
            return interval(pair.estimates[quantity], signed=True)
        if (pair.second, pair.first) == (arm, placebo):
            found = pair.estimates[quantity]
            return score(-found.value if math.isfinite(found.value) else math.nan, signed=True)
    return Cell("placebo incomplete")
