"""The tables of a sealed test, as the console shows them and `tables.txt` keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.keys import AGGREGATES, CLASSES, sealed_metric
from study.reporting.comparison_tables import kept_table
from study.reporting.layout import part, table
from study.reporting.table import Column, Kind
from study.sealed.plan import SealedPlan
from study.sealed.scoring import RARE, ArmScores, Exclusion
from study.spaces.sealed_test import FLOOR
from study.statistics.ec57 import ECTOPIC, STATISTICS
from study.statistics.estimates import with_means
from study.statistics.findings import (
    MEASURE_NAMES,
    QUANTITIES,
    Comparison,
    Contrast,
    label_of,
    reversed_estimate,
)
from study.wording import UNDEFINED, p_text, score_text

Float = NDArray[np.float64]

_HEADINGS = {"se": "Se", "ppv": "+P", "f1": "F1"}
_QUANTITIES = (*AGGREGATES, *CLASSES)

_INTERVAL = Column("", Kind.INTERVAL)
_DIFFERENCE = Column("", Kind.INTERVAL, signed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that the tables show.

    Args:
        plan: The plan.
        how: Opening, commit, data and arithmetic, in words.
        arms: Scores of every arm in the plan's order, the floor last.
        left_out: What totals are also given without.
        comparisons: By metric; of both measures at least one.
        ensembles: Of the seed ensembles, on the primary metric.
        records: What the records are called: DS2, or a folder of others.
        macro: Classes that the macro is the mean of.
    """

    plan: SealedPlan
    how: str
    arms: Sequence[ArmScores]
    left_out: Sequence[Exclusion]
    comparisons: Mapping[str, Comparison]
    ensembles: Comparison
    records: str = "DS2"
    macro: tuple[str, ...] = CLASSES

    def of_measure(self, measure: str) -> Comparison:
        """Return the first comparison of a measure, `auprc` or `auroc`."""
        return next(c for name, c in self.comparisons.items() if name.startswith(measure))


def result_text(findings: Findings) -> str:
    """Return all tables, each with a line that says how to read it."""
    arms = findings.arms
    parts = [
        findings.how,
        _classes(findings),
        *(_ranking(findings, measure) for measure in MEASURE_NAMES),
        *(_contrasts(findings, metric) for metric in findings.plan.test.metrics),
        kept.text() if (kept := kept_table(findings.of_measure("auprc"))) else "",
        _ensembles(findings),
        _decisions(arms, ""),
        _decisions(arms, "fixed_"),
        _without(arms, findings.left_out),
        _ec57(arms),
        _confusions(arms),
        _notes(findings),
    ]
    return "\n\n".join(text for text in parts if text)


def _classes(findings: Findings) -> str:
    comparison = findings.of_measure("auprc")
    rows = [
        [
            fact.name,
            f"{fact.beats:,}",
            str(fact.records),
            f"{fact.largest_record} ({fact.largest_share:.0%})" if fact.beats else UNDEFINED,
            f"{fact.effective_patients:.1f}" + ("" if fact.estimable else " (n. e.)"),
            score_text(fact.chance),
        ]
        for fact in comparison.classes
    ]
    header = ["class", "beats", "records", "largest record", "effective patients", "chance AUPRC"]
    return part(
        f"What {findings.records} has of each class. Effective patients are (sum n)^2 / "
        "sum n^2 of the patients' beats n; below 4 a class is not estimable (n. e.): no interval, "
        "no test.",
        table(header, rows),
    )


def _ranking(findings: Findings, measure: str) -> str:
    comparison = findings.of_measure(measure)
    estimates = {arm.name: arm.estimates for arm in comparison.arms}
    first = findings.plan.test.metrics[0].partition("_")
    primary = first[2] if first[0] == measure else "sv"
    quantities = list(dict.fromkeys([primary, *_QUANTITIES]))
    rows = []
    for arm in findings.arms:
        cells = [_INTERVAL.text(estimates[arm.name][quantity]) for quantity in quantities]
        spread = arm.seeds.values[sealed_metric(measure, primary)]
        rows.append([arm.name, cells[0], score_text(_sd(spread)), *cells[1:]])
    chance = _chance(comparison, findings.macro)
    levels = [score_text(chance[quantity]) for quantity in quantities]
    rows.append(["chance", levels[0], "", *levels[1:]])
    heading = "the primary metric first" if first[0] == measure else "beside it"
    return part(
        f"{MEASURE_NAMES[measure]} on {findings.records}, {heading}: mean over seeds, with "
        f"95 % intervals from {comparison.resamples:,} resamples of patients and seeds, "
        "conditional on DS1. Arms share patients: whether intervals overlap says nothing, the "
        "contrasts do.",
        table(["arm", label_of(primary), "sd seeds", *map(label_of, quantities[1:])], rows),
    )


def _chance(comparison: Comparison, macro: tuple[str, ...]) -> dict[str, float]:
    by_class = np.asarray([fact.chance for fact in comparison.classes])
    return dict(zip(QUANTITIES, with_means(by_class, macro).tolist(), strict=True))


def _contrasts(findings: Findings, metric: str) -> str:
    declared, comparison = findings.plan.test.contrasts, findings.comparisons[metric]
    measure, _, quantity = metric.partition("_")
    shown = list(dict.fromkeys([quantity, *RARE]))
    computed = {(pair.first, pair.second): pair for pair in comparison.contrasts}
    paired = [set(pair) for pair in declared]
    to_floor = [(a.name, FLOOR) for a in findings.plan.arms if {a.name, FLOOR} not in paired]
    rows = []
    for first, second in (*declared, *to_floor):
        pair = computed.get((first, second)) or _reversed(computed[second, first])
        cells = [_DIFFERENCE.text(pair.estimates[name]) for name in shown]
        tests = [p_text(pair.p), p_text(pair.p_adjusted)] if pair.primary else ["", ""]
        rows.append([f"{first} - {second}", cells[0], *tests, *cells[1:]])
    name = f"{MEASURE_NAMES[measure]} {label_of(quantity)}"
    note = (
        f"p of {name} by {comparison.permutations:,} swaps of whole records, and adjusted for all "
        f"{len(declared)} that the plan declares (max-T); the others have intervals only."
        if declared
        else "The plan declares none: there are intervals, and no test."
    )
    return part(
        f"Contrasts in {MEASURE_NAMES[measure]}, paired over the same beats and seeds; the "
        f"floor's one model stands for all seeds. {note}",
        table(["contrast", label_of(quantity), "p", "adjusted", *map(label_of, shown[1:])], rows),
    )


def _reversed(pair: Contrast) -> Contrast:
    return Contrast(
        first=pair.second,
        second=pair.first,
        primary=pair.primary,
        estimates={name: reversed_estimate(estimate) for name, estimate in pair.estimates.items()},
        p=pair.p,
        p_adjusted=pair.p_adjusted,
        detectable=pair.detectable,
    )


def _ensembles(findings: Findings) -> str:
    measure, _, quantity = findings.plan.test.metrics[0].partition("_")
    shown = list(dict.fromkeys([quantity, *_QUANTITIES]))
    estimates = {arm.name: arm.estimates for arm in findings.ensembles.arms}
    rows = [
        [arm.name, *(_INTERVAL.text(estimates[arm.name][name]) for name in shown)]
        for arm in findings.arms
        if arm.name != FLOOR
    ]
    return part(
        f"{MEASURE_NAMES[measure]} of the seed ensembles, each the mean probability of all "
        f"{findings.plan.seeds} seeds: another model, not a mean of scores. Intervals are over "
        "patients alone.",
        table(["arm", *map(label_of, shown)], rows),
    )


def _decisions(arms: Sequence[ArmScores], prefix: str) -> str:
    header = ["arm", *(f"{_HEADINGS[m]} {c}" for c in CLASSES for m in _HEADINGS), "F1 macro"]
    rows = []
    for arm in arms:
        names = [sealed_metric(prefix + m, c) for c in CLASSES for m in _HEADINGS]
        names.append(sealed_metric(f"{prefix}f1", "macro"))
        rows.append([arm.name, *(_mean(arm.seeds.values[name]) for name in names)])
    if not prefix:
        return part("Decisions at the most probable class, mean over seeds.", table(header, rows))
    fixed = [
        [arm.name, *map(score_text, arm.thresholds.single), arm.thresholds.source] for arm in arms
    ]
    decided = part(
        "Decisions at thresholds that are best for F1 on DS1, each class against all others, mean "
        "over seeds.",
        table(header, rows),
    )
    chosen = part(
        "The thresholds, and the out-of-fold predictions that they were chosen on.",
        table(["arm", *CLASSES, "chosen on"], fixed),
    )
    return f"{decided}\n\n{chosen}"


def _without(arms: Sequence[ArmScores], left_out: Sequence[Exclusion]) -> str:
    if not left_out:
        return ""
    columns = [("auprc", of) for of in (*AGGREGATES, *RARE)]
    columns += [("auroc", of) for of in (*AGGREGATES, *RARE)]
    rows = []
    for arm in arms:
        rows.append([arm.name, "all", *_cells(arm.seeds.values, columns)])
        for exclusion in left_out:
            values = arm.seeds.without[exclusion.label]
            rows.append(["", exclusion.label, *_cells(values, columns)])
    header = ["arm", "records", *(f"{MEASURE_NAMES[m]} {label_of(of)}" for m, of in columns)]
    why = "; ".join(f"{exclusion.label}: {exclusion.why}" for exclusion in left_out)
    return part(f"Without some records, mean over seeds. {why}.", table(header, rows))


def _ec57(arms: Sequence[ArmScores]) -> str:
    header = ["arm", "statistics"]
    header += [f"{beat_type} {name}" for beat_type in ECTOPIC for name in STATISTICS.values()]
    rows = []
    for arm in arms:
        for kind in ("gross", "average"):
            cells = [
                _mean(arm.seeds.ec57[beat_type][kind][name])
                for beat_type in ECTOPIC
                for name in STATISTICS
            ]
            rows.append([arm.name if kind == "gross" else "", kind, *cells])
    return part(
        "AAMI EC57 at the most probable class, mean over seeds: gross over all beats, average "
        "over the records in which a statistic is defined.",
        table(header, rows),
    )


def _confusions(arms: Sequence[ArmScores]) -> str:
    rows = []
    for arm in arms:
        for c, aami_class in enumerate(CLASSES):
            counts = [f"{n:,}" for n in arm.seeds.confusion[c]]
            rows.append([arm.name if c == 0 else "", aami_class, *counts])
    header = ["arm", "true", *(f"called {c}" for c in CLASSES)]
    return part("Beats by true and called class, all seeds added up.", table(header, rows))


def _notes(findings: Findings) -> str:
    every = [*findings.comparisons.values(), findings.ensembles]
    notes = dict.fromkeys(note for comparison in every[:-1] for note in comparison.notes)
    remarks = {
        estimate.remark
        for comparison in every
        for estimates in (
            *(arm.estimates for arm in comparison.arms),
            *(pair.estimates for pair in comparison.contrasts),
        )
        for estimate in estimates.values()
        if estimate.remark
    }
    undefined = "- is undefined: nothing of the class, or nothing called so, in some seed."
    return "\n".join(f"note: {note}" for note in (*notes, *sorted(remarks), undefined))


def _cells(values: Mapping[str, Float], columns: Iterable[tuple[str, str]]) -> list[str]:
    return [_mean(values[sealed_metric(*column)]) for column in columns]


def _mean(values: Float) -> str:
    """Return the mean over seeds; undefined where it is for one of them."""
    return score_text(float(values.mean()))


def _sd(values: Float) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
