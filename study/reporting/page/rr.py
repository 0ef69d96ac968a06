"""The value of RR: arms by entry of RR, differences from placebos, losses when RR is permuted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from study.data.rr import NORMAL_SAMPLE
from study.keys import RELIANCE_CLASSES, RELIANCE_KINDS, metric
from study.reporting.page.html import Block, Figure, missing
from study.reporting.page.svg import Whisker, whiskers
from study.reporting.results import StudyResults
from study.reporting.table import Column, Kind, Table, Value
from study.reporting.trial_tables import arms_in_order, mean_metric
from study.statistics.findings import (
    label_of,
    parts_of,
    reversed_estimate,
    score_name,
)
from study.statistics.rr_use import NO_RELIANCE
from study.wording import score_text

_ENTRY = {
    "ecg": "none",
    "opt1": "late vector",
    "opt2": "early channels",
    "opt3": "early and late",
}


def factors(results: StudyResults) -> Iterator[Block]:
    """Yield the arms by their parts, each against its placebo."""
    complete = {row.arm for row in results.ranked}
    if not complete:
        yield missing("No factors", "no trial is complete")
        return
    yield _factor_table(results)
    if not any(facts.placebo in complete for facts in results.arms.values() if facts.placebo):
        yield missing(
            "No placebo differences",
            "no arm has a complete placebo: this study does not measure the value of RR to an "
            "arm, only how much the arm relies on RR (see RR reliance)",
        )


def _factor_table(results: StudyResults) -> Table:
    measure, objective = parts_of(results.study.objective)
    quantities = list(dict.fromkeys((objective, *RELIANCE_CLASSES)))
    words = ("late RR", "window", "fusion")
    columns = [Column("entry of RR", Kind.NAME), *(Column(word, Kind.TEXT) for word in words)]
    columns += [Column(score_name(measure, of)) for of in quantities]
    real = {arm: facts for arm, facts in results.arms.items() if facts.real}
    has_placebo = not results.searches and any(facts.placebo for facts in real.values())
    if has_placebo:
        columns += [
            Column(f"{label_of(of)} minus its placebo", Kind.INTERVAL, signed=True)
            for of in quantities
        ]
    rows: list[list[Value]] = []
    for arm, facts in real.items():
        if not (trials := results.trials_of(arm)):
            continue
        row: list[Value] = [_ENTRY[facts.input], facts.late_rr or None, facts.window, facts.fusion]
        row += [mean_metric(trials, metric(measure, of)) for of in quantities]
        if has_placebo:
            row += [_minus_placebo(results, arm, facts.placebo, of) for of in quantities]
        rows.append(row)
    return Table(
        name="factors",
        title="Entry, late RR and window",
        shows=(
            "Arms with real RR by their parts, and their loss when RR is permuted within each "
            "record in both training and validation: the same network without useful RR."
        ),
        reading=(
            "Where the difference is near 0, RR as a number adds nothing to the window. A daeac "
            "window starts at the previous beat, so its stretching carries RR."
        ),
        columns=columns,
        rows=sorted(rows, key=lambda row: [str(value) for value in row[:4]]),
    )


def _minus_placebo(results: StudyResults, arm: str, placebo: str, quantity: str) -> Value:
    if not placebo:
        return "no placebo"
    if results.comparison is None:
        return "not paired"
    for pair in results.comparison.contrasts:
        if (pair.first, pair.second) == (arm, placebo):
            return pair.estimates[quantity]
        if (pair.second, pair.first) == (arm, placebo):
            return reversed_estimate(pair.estimates[quantity])
    return "placebo incomplete"


def rr_reliance(results: StudyResults) -> Iterator[Block]:
    """Yield the loss of trained models when RR is permuted."""
    complete = {row.arm for row in results.ranked}
    arms = [a for a in arms_in_order(results.study.rows, results.study.objective) if a in complete]
    if not arms:
        yield missing("No RR reliance", "complete trials measure it, and no trial is complete")
        return
    # Nothing was measured for an arm without RR; the table has a dash there.
    measured = [a for a in arms if math.isfinite(results.rr_loss(a, "total").value["S"])]
    yield Figure(
        name="reliance_lost",
        title="AUPRC lost when RR is permuted",
        shows=(
            "For each arm, the loss when RR is exchanged between beats of a record: in its "
            "inputs, in its window (only daeac windows depend on RR), and in both, from top to "
            "bottom. The line spans the permutations. Measured on all S, V and F beats and a "
            f"sample of {NORMAL_SAMPLE:,} N, each weighing as many as it stands for."
        ),
        reading=(
            "At 0 the trained model does not use RR. This shows what the model uses, not the "
            "value of RR: a model may take from the window what its inputs offer too."
        ),
        panels=[
            whiskers(
                f"AUPRC {aami_class}",
                [(arm, _losses(results, arm, aami_class)) for arm in measured],
                kind="RR reliance",
            )
            for aami_class in RELIANCE_CLASSES
        ],
        legend=RELIANCE_KINDS,
    )
    yield _reliance_table(results, arms)


def _losses(results: StudyResults, arm: str, aami_class: str) -> list[Whisker]:
    marks = []
    for kind in RELIANCE_KINDS:
        loss = results.rr_loss(arm, kind)
        value, low, high = (of[aami_class] for of in (loss.value, loss.low, loss.high))
        tip = f"{arm}, {kind}: {score_text(value, signed=True)}"
        marks.append(Whisker(value=value, low=low, high=high, tip=tip))
    return marks


def _reliance_table(results: StudyResults, arms: Sequence[str]) -> Table:
    rows: list[list[Value]] = []
    for arm in arms:
        losses = {kind: results.rr_loss(arm, kind) for kind in RELIANCE_KINDS}
        lost = [of.value[name] for name in RELIANCE_CLASSES for of in losses.values()]
        change = losses["inputs"].change
        rows.append([arm, *lost, "0 exactly" if change == 0 else change])
    return Table(
        name="reliance",
        title="RR reliance by arm",
        shows="AUPRC of S and V lost, mean over permutations, seeds and the arm's trials.",
        reading=(
            f"Within ±{score_text(NO_RELIANCE)} counts as none. A largest change of exactly 0 "
            "means that RR cannot reach the output; a dash means that there is no such RR to "
            "permute."
        ),
        columns=[
            Column("arm", Kind.NAME),
            *(
                Column(f"{name}, {kind}", signed=True)
                for name in RELIANCE_CLASSES
                for kind in RELIANCE_KINDS
            ),
            Column("largest change of a log-probability by inputs", Kind.PARAMETER),
        ],
        rows=rows,
    )
