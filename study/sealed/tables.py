"""The tables of a sealed test, for the console and for `tables.txt`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.keys import AGGREGATES, CLASSES, MIN_EFFECTIVE_PATIENTS, sealed_metric
from study.reporting.comparison_tables import kept_table
from study.reporting.table import Column, Kind, Table, Value
from study.sealed.plan import SealedPlan
from study.sealed.scoring import RARE, ArmScores, Exclusion
from study.statistics.ec57 import ECTOPIC, STATISTICS
from study.statistics.estimates import with_means
from study.statistics.findings import (
    MEASURE_NAMES,
    QUANTITIES,
    Comparison,
    label_of,
    reversed_estimate,
    score_name,
)
from study.wording import UNDEFINED

Float = NDArray[np.float64]

_ARM = Column("arm", Kind.NAME)
_HEADINGS = {"se": "Se", "ppv": "+P", "f1": "F1"}
_QUANTITIES = (*AGGREGATES, *CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the tables show."""

    plan: SealedPlan
    how: str  # opening, commit, data and arithmetic, in words
    arms: Sequence[ArmScores]  # scores of every arm in the plan's order, then of the floors
    left_out: Sequence[Exclusion]  # records that additional totals leave out
    comparisons: Mapping[str, Comparison]  # by metric; at least one of each measure
    ensembles: Comparison  # of the seed ensembles, on the primary metric
    records: str = "DS2"  # name of the records: DS2, or another folder
    macro: tuple[str, ...] = CLASSES  # classes that the macro is the mean of

    def of_measure(self, measure: str) -> Comparison:
        """Return the first comparison of a measure, `auprc` or `auroc`."""
        return next(c for name, c in self.comparisons.items() if name.startswith(measure))


def tables(findings: Findings) -> Iterator[Table]:
    """Yield all tables, each with an explanation."""
    yield _classes(findings)
    for measure in MEASURE_NAMES:
        yield _ranking(findings, measure)
    for metric in findings.plan.test.metrics:
        yield _contrasts(findings, metric)
    if kept := kept_table(findings.of_measure("auprc")):
        yield kept
    yield _ensembles(findings)
    yield _decisions(findings.arms, "")
    yield _decisions(findings.arms, "fixed_")
    yield _thresholds(findings.arms)
    if findings.left_out:
        yield _without(findings.arms, findings.left_out)
    yield ec57_table({arm.name: arm.seeds.ec57 for arm in findings.arms})
    yield _confusions(findings.arms)


def result_text(findings: Findings) -> str:
    """Return the result's origin, all tables, and notes that concern several."""
    every = [*findings.comparisons.values(), findings.ensembles]
    notes = dict.fromkeys(note for comparison in every[:-1] for note in comparison.notes)
    # Remarks on existing intervals stand below their tables.
    remarks = {
        estimate.remark
        for comparison in every
        for estimates in (
            *(arm.estimates for arm in comparison.arms),
            *(pair.estimates for pair in comparison.contrasts),
        )
        for estimate in estimates.values()
        if estimate.remark and not math.isfinite(estimate.low)
    }
    undefined = (
        f"{UNDEFINED} is undefined: in some seed no beat is of the class, or none was called so."
    )
    below = "\n".join(f"note: {note}" for note in (*notes, *sorted(remarks), undefined))
    return "\n\n".join([findings.how, *(table.text() for table in tables(findings)), below])


def _classes(findings: Findings) -> Table:
    rows: list[list[Value]] = [
        [
            fact.name,
            fact.beats,
            fact.records,
            f"{fact.largest_record} ({fact.largest_share:.0%})" if fact.beats else None,
            f"{fact.effective_patients:.1f}" + ("" if fact.estimable else " (n. e.)"),
            fact.chance,
        ]
        for fact in findings.of_measure("auprc").classes
    ]
    return Table(
        name="classes",
        title=f"What {findings.records} has of each class",
        shows="Effective patients are the number of equal patients that would weigh as much.",
        reading=(
            f"Below {MIN_EFFECTIVE_PATIENTS:g} a class is not estimable (n. e.): no interval, no "
            "test."
        ),
        columns=[
            Column("class", Kind.NAME),
            Column("beats", Kind.COUNT),
            Column("records", Kind.COUNT),
            Column("largest record", Kind.PARAMETER),
            Column("effective patients", Kind.PARAMETER),
            Column("chance AUPRC"),
        ],
        rows=rows,
    )


def _ranking(findings: Findings, measure: str) -> Table:
    comparison = findings.of_measure(measure)
    estimates = {arm.name: arm.estimates for arm in comparison.arms}
    first = findings.plan.test.metrics[0].partition("_")
    primary = first[2] if first[0] == measure else "sv"
    quantities = list(dict.fromkeys([primary, *_QUANTITIES]))
    rows: list[list[Value]] = []
    for arm in findings.arms:
        cells = [estimates[arm.name][quantity] for quantity in quantities]
        spread = _sd(arm.seeds.values[sealed_metric(measure, primary)])
        rows.append([arm.name, cells[0], spread, *cells[1:]])
    by_class = np.asarray([fact.chance for fact in comparison.classes])
    levels = with_means(by_class, findings.macro).tolist()
    chance = dict(zip(QUANTITIES, levels, strict=True))
    rows.append(["chance", chance[primary], "", *(chance[name] for name in quantities[1:])])
    heading = "the primary metric first" if first[0] == measure else "beside it"
    return Table(
        name=measure,
        title=f"{MEASURE_NAMES[measure]} on {findings.records}, {heading}",
        shows=f"Mean over seeds, with 95 % intervals from {comparison.resamples:,} resamples of "
        "patients and seeds, conditional on what trains.",
        reading="Arms share patients: do not judge by overlap of intervals, but by the contrasts.",
        columns=[
            _ARM,
            Column(label_of(primary), Kind.INTERVAL),
            Column("sd seeds"),
            *(Column(label_of(name), Kind.INTERVAL) for name in quantities[1:]),
        ],
        rows=rows,
    )


def _contrasts(findings: Findings, metric: str) -> Table:
    declared, comparison = findings.plan.test.contrasts, findings.comparisons[metric]
    measure, _, quantity = metric.partition("_")
    shown = list(dict.fromkeys([quantity, *RARE]))
    computed = {(pair.first, pair.second): pair for pair in comparison.contrasts}
    paired = [set(pair) for pair in declared]
    to_floor = [(arm.name, findings.plan.floor_of(arm)) for arm in findings.plan.arms]
    to_floor = [pair for pair in to_floor if {*pair} not in paired]
    rows: list[list[Value]] = []
    for first, second in (*declared, *to_floor):
        pair = computed.get((first, second)) or computed[second, first]
        cells = [pair.estimates[name] for name in shown]
        if pair.first != first:
            cells = [reversed_estimate(estimate) for estimate in cells]
        tests: list[Value] = [pair.p, pair.p_adjusted] if pair.primary else ["", ""]
        rows.append([f"{first} - {second}", cells[0], *tests, *cells[1:]])
    name = score_name(measure, quantity)
    reading = (
        f"p of {name} by {comparison.permutations:,} swaps of whole records, and adjusted for all "
        f"{len(declared)} that the plan declares (min-P); the others have intervals only."
        if declared
        else "The plan declares none: there are intervals, and no test."
    )
    of_shown = [Column(label_of(name), Kind.INTERVAL, signed=True) for name in shown]
    tested = [Column("p", Kind.P), Column("adjusted", Kind.P)]
    return Table(
        name=f"contrasts_{metric}",
        title=f"Contrasts in {MEASURE_NAMES[measure]}",
        shows="Paired over the same beats and seeds; a floor's one model stands for all seeds.",
        reading=reading,
        columns=[Column("contrast", Kind.NAME), of_shown[0], *tested, *of_shown[1:]],
        rows=rows,
    )


def _ensembles(findings: Findings) -> Table:
    plan = findings.plan
    measure, _, quantity = plan.test.metrics[0].partition("_")
    shown = list(dict.fromkeys([quantity, *_QUANTITIES]))
    estimates = {arm.name: arm.estimates for arm in findings.ensembles.arms}
    return Table(
        name="ensembles",
        title=f"{MEASURE_NAMES[measure]} of the seed ensembles",
        shows=f"Each is the mean probability of all {plan.seeds} seeds: another model, "
        "not a mean of scores.",
        reading="Intervals are over patients alone.",
        columns=[_ARM, *(Column(label_of(name), Kind.INTERVAL) for name in shown)],
        rows=[[arm.name, *(estimates[arm.name][name] for name in shown)] for arm in plan.arms],
    )


def _decisions(arms: Sequence[ArmScores], prefix: str) -> Table:
    columns = [(m, c) for c in CLASSES for m in _HEADINGS]
    names = [sealed_metric(prefix + m, c) for m, c in columns]
    names.append(sealed_metric(f"{prefix}f1", "macro"))
    at = "thresholds that are best for F1 on what trains" if prefix else "the most probable class"
    return Table(
        name=f"{prefix}decisions",
        title=f"Decisions at {at}",
        shows="Mean over seeds" + ("; each class against all others." if prefix else "."),
        reading="",
        columns=[_ARM, *(Column(f"{_HEADINGS[m]} {c}") for m, c in columns), Column("F1 macro")],
        rows=[[arm.name, *_means(arm.seeds.values, names)] for arm in arms],
    )


def _thresholds(arms: Sequence[ArmScores]) -> Table:
    return Table(
        name="thresholds",
        title="The thresholds, and the out-of-fold predictions that they were chosen on",
        shows="",
        reading="",
        columns=[_ARM, *map(Column, CLASSES), Column("chosen on", Kind.TEXT)],
        rows=[[a.name, *a.thresholds.single.tolist(), a.thresholds.source] for a in arms],
    )


def _without(arms: Sequence[ArmScores], left_out: Sequence[Exclusion]) -> Table:
    columns = [(m, of) for m in MEASURE_NAMES for of in (*AGGREGATES, *RARE)]
    names = [sealed_metric(*column) for column in columns]
    rows: list[list[Value]] = []
    for arm in arms:
        rows.append([arm.name, "all", *_means(arm.seeds.values, names)])
        for exclusion in left_out:
            values = arm.seeds.without[exclusion.label]
            rows.append(["", exclusion.label, *_means(values, names)])
    reasons = "; ".join(f"{exclusion.label}: {exclusion.why}" for exclusion in left_out)
    return Table(
        name="without",
        title="Without some records, mean over seeds",
        shows=f"{reasons}.",
        reading="",
        columns=[
            _ARM,
            Column("records", Kind.TEXT),
            *(Column(score_name(m, of)) for m, of in columns),
        ],
        rows=rows,
    )


def ec57_table(
    arms: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Float]]]], how: str = ""
) -> Table:
    """Return the table of arms' `gross_and_average`; `how` ends its title."""
    columns = [(beat_type, name) for beat_type in ECTOPIC for name in STATISTICS]
    return Table(
        name="ec57",
        title=f"AAMI EC57 at the most probable class, mean over seeds{how}",
        shows="Gross is over all beats, average over the records in which a statistic is defined.",
        reading="",
        columns=[
            _ARM,
            Column("statistics", Kind.TEXT),
            *(Column(f"{beat_type} {STATISTICS[name]}") for beat_type, name in columns),
        ],
        rows=[
            [
                arm if kind == "gross" else "",
                kind,
                *(float(ec57[of][kind][name].mean()) for of, name in columns),
            ]
            for arm, ec57 in arms.items()
            for kind in ("gross", "average")
        ],
    )


def _confusions(arms: Sequence[ArmScores]) -> Table:
    return Table(
        name="confusions",
        title="Beats by true and called class, all seeds added up",
        shows="",
        reading="",
        columns=[
            _ARM,
            Column("true", Kind.TEXT),
            *(Column(f"called {c}", Kind.COUNT) for c in CLASSES),
        ],
        rows=[
            [arm.name if c == 0 else "", aami_class, *map(int, arm.seeds.confusion[c])]
            for arm in arms
            for c, aami_class in enumerate(CLASSES)
        ],
    )


def _means(values: Mapping[str, Float], names: Iterable[str]) -> list[Value]:
    """Return the means over seeds; undefined where one of them is."""
    return [float(values[name].mean()) for name in names]


def _sd(values: Float) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
