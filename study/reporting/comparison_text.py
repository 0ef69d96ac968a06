"""A comparison as text: tables for 120 columns, each with words that say how to read it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from statistics import median

from study.reporting.layout import UNDEFINED, short, table
from study.statistics.findings import (
    MEASURE_NAMES,
    Comparison,
    Contrast,
    Estimate,
    label_of,
    parts_of,
)

PLACEBO_SUFFIX = "_placebo"
"""What a space appends to the name of an arm for its placebo."""

CAUTION = "*"
"""Marks an interval that has a remark, which is told below."""

_WIDTH = 110


def comparison_text(comparison: Comparison, *, markdown: bool = False) -> str:
    """Return the tables of a comparison, each with a line that says how to read it."""
    parts = [
        _classes(comparison, markdown=markdown),
        _arms(comparison, markdown=markdown),
        _beside(comparison, markdown=markdown),
        _primary(comparison, markdown=markdown),
        kept_table(comparison, markdown=markdown),
        _choice(comparison),
        _notes(comparison, markdown=markdown),
    ]
    return "\n\n".join(part for part in parts if part)


def _classes(comparison: Comparison, *, markdown: bool) -> str:
    n_folds = len({record.fold for record in comparison.records})
    rows = [
        [
            fact.name,
            f"{fact.beats:,}",
            str(fact.records),
            f"{fact.largest_record} ({fact.largest_share:.0%})" if fact.beats else UNDEFINED,
            f"{fact.effective_patients:.1f}" + ("" if fact.estimable else " (n. e.)"),
            f"{len(fact.folds)} of {n_folds}",
            short(fact.chance),
        ]
        for fact in comparison.classes
    ]
    header = ["class", "beats", "records", "largest record", "effective patients"]
    header += ["folds that count", f"chance {_measure(comparison)}"]
    return part(
        "Arms compared on the same draws, folds and seeds, from the predictions that they left. "
        "What each class rests on; effective patients are (sum n)^2 / sum n^2 of the patients' "
        "beats n. Below 4 a class is not estimable (n. e.): no interval, no test.",
        table(header, rows, markdown=markdown),
    )


def _arms(comparison: Comparison, *, markdown: bool) -> str:
    shown = _shown(comparison)
    rows = [
        [
            arm.name,
            *(interval(arm.estimates[name]) for name in shown),
            *(short(sd) for sd in (arm.sd_seeds, arm.sd_draws, arm.sd_folds)),
        ]
        for arm in comparison.arms
    ]
    name = _name(comparison, shown[0])
    header = ["arm", *(_name(comparison, quantity) for quantity in shown)]
    return part(
        f"Arms by {name}, with 95 % intervals from {comparison.resamples:,} resamples of patients "
        "and seeds within folds, conditional on these training sets. Arms share patients: whether "
        "intervals overlap says nothing, the contrasts below do. Last, the standard deviation of "
        f"{name} over seeds, draws and folds, each by itself.",
        table([*header, "sd seeds", "draws", "folds"], rows, markdown=markdown),
    )


def _beside(comparison: Comparison, *, markdown: bool) -> str:
    shown = _shown(comparison)
    largest = {fact.name: fact.largest_record for fact in comparison.classes}
    classes = [name for name in shown if name in largest]
    rows = [
        [
            arm.name,
            *(short(arm.without_largest[name]) for name in shown),
            *(short(arm.patient_mean[name]) for name in classes),
            *(f"{short(arm.pooled[name])} ({_signed(arm.gap[name])})" for name in classes),
        ]
        for arm in comparison.arms
    ]
    header = ["arm"]
    header += [f"{label_of(name)} w/o {largest.get(name, 'them')}" for name in shown]
    header += [f"{name} by record" for name in classes]
    header += [f"{name} pooled (gap)" for name in classes]
    return part(
        f"Beside this {_measure(comparison)}: without the record that has most of the class; the "
        "mean over records of their own; and of all folds pooled, where the gap is what is lost "
        "because probabilities of different members do not compare.",
        table(header, rows, markdown=markdown),
    )


def _primary(comparison: Comparison, *, markdown: bool) -> str:
    contrasts = [pair for pair in comparison.contrasts if pair.primary]
    if not contrasts:
        return ""
    shown = _shown(comparison)
    rows = [
        [
            _pair(pair),
            interval(pair.estimates[shown[0]], signed=True),
            p_value(pair.p),
            p_value(pair.p_adjusted),
            *(interval(pair.estimates[name], signed=True) for name in shown[1:]),
        ]
        for pair in contrasts
    ]
    name = _name(comparison, shown[0])
    header = ["contrast", name, "p", "adjusted"]
    header += [_name(comparison, quantity) for quantity in shown[1:]]
    return part(
        "Declared contrasts, paired within draws, folds and seeds, with 95 % intervals; p of "
        f"{name} by {comparison.permutations:,} swaps of whole records between the two arms, and "
        f"adjusted for all {len(contrasts)} (max-T). Of other pairs there are intervals only.",
        table(header, rows, markdown=markdown),
        _detectable(contrasts, name),
    )


def _detectable(contrasts: Sequence[Contrast], name: str) -> str:
    found = [pair.detectable for pair in contrasts if math.isfinite(pair.detectable)]
    if not found:
        return ""
    return (
        "Smallest difference that such a study finds (80 % power, 5 % for all contrasts "
        f"together): {short(median(found))} in {name}; by contrast {short(min(found))} to "
        f"{short(max(found))}."
    )


def kept_table(comparison: Comparison, *, markdown: bool = False) -> str:
    """Return what arms lose of N and V against the ECG of their window; empty without such."""
    if not comparison.non_inferiority:
        return ""
    rows = []
    for found in comparison.non_inferiority:
        row = [f"{found.arm} - {found.reference}"]
        for name, difference in found.differences.items():
            row += [interval(difference, signed=True, digits=4), found.verdicts[name]]
        rows.append(row)
    header = ["arm - bare ECG of its window"]
    for name in comparison.non_inferiority[0].differences:
        header += [_name(comparison, name), "kept?"]
    return part(
        "Is the performance of ECG alone kept? Yes where the whole interval is above "
        f"{_signed(-comparison.margin)}, no where it is below, else this study cannot say.",
        table(header, rows, markdown=markdown),
    )


def _choice(comparison: Comparison) -> str:
    choice = comparison.choice
    if choice is None:
        return ""
    _, quantity = parts_of(comparison.objective)
    name = _name(comparison, quantity)
    often = [f"{arm} {share:.0%}" for arm, share in list(choice.selected.items())[:4]]
    others = [arm for arm in choice.within if arm != choice.best]
    lines = [
        f"Best, placebos left out: {choice.best}; in resamples {', '.join(often)}. {name} to "
        f"quote: {short(choice.corrected)}, chosen on the patients of each resample and scored on "
        f"the others; its own {short(choice.value)} is too good, because it was chosen by it.",
        f"Simplest within one standard error of its difference to the best: {choice.simplest} "
        + (f"(within it: {', '.join(others)})." if others else "(no other is within it)."),
        _budget(comparison),
    ]
    if math.isnan(comparison.arms[0].estimates[quantity].se):
        lines[1] = "Simplest within one standard error: not estimable."
    return "\n".join(_prose(line) for line in lines)


def _budget(comparison: Comparison) -> str:
    by_size: dict[tuple[int, int], list[str]] = {}
    for arm in comparison.arms:
        by_size.setdefault((arm.trials, arm.beats_trained), []).append(arm.name)
    parts = [
        f"{trials} trial{'s' if trials > 1 else ''}, {beats:,} beats trained"
        + ("" if len(by_size) == 1 else f" ({', '.join(names)})")
        for (trials, beats), names in by_size.items()
    ]
    return f"Budget of {'every' if len(by_size) == 1 else 'each'} arm: {'; '.join(parts)}."


def _notes(comparison: Comparison, *, markdown: bool) -> str:
    shown = [arm.estimates for arm in comparison.arms]
    shown += [pair.estimates for pair in comparison.contrasts]
    shown += [found.differences for found in comparison.non_inferiority]
    remarks = {
        found.remark
        for estimates in shown
        for found in estimates.values()
        if math.isfinite(found.low) and found.remark
    }
    notes = [*comparison.notes, *(f"{CAUTION} {remark}" for remark in sorted(remarks))]
    return "\n".join(f"{'- ' if markdown else 'note: '}{note}" for note in notes)


def _shown(comparison: Comparison) -> tuple[str, ...]:
    """Return the quantities that get intervals in tables: the objective, and classes of rhythm."""
    _, quantity = parts_of(comparison.objective)
    return tuple(dict.fromkeys((quantity, "S", "V")))


def _measure(comparison: Comparison) -> str:
    return MEASURE_NAMES[parts_of(comparison.objective)[0]]


def _name(comparison: Comparison, quantity: str) -> str:
    return f"{_measure(comparison)} {label_of(quantity)}"


def _pair(pair: Contrast) -> str:
    placebo = pair.second == pair.first + PLACEBO_SUFFIX
    return f"{pair.first} - {'its placebo' if placebo else pair.second}"


def interval(found: Estimate, *, signed: bool = False, digits: int = 3) -> str:
    """Return an estimate with its interval as a table shows it."""
    value, low, high = (
        short(x, signed=signed, digits=digits) for x in (found.value, found.low, found.high)
    )
    if not math.isfinite(found.low):
        return f"{value} (n. e.)" if found.remark else value
    return f"{value} [{low}, {high}]{CAUTION if found.remark else ''}"


def _signed(value: float) -> str:
    return short(value, signed=True)


def p_value(value: float) -> str:
    """Return a p value as a table shows it."""
    return "<.001" if value < 0.001 else short(value)


def part(title: str, body: str, below: str = "") -> str:
    """Return a table under the words that say how to read it, and more words below."""
    return "\n\n".join(text for text in (_prose(title), body, _prose(below)) if text)


def _prose(text: str) -> str:
    return textwrap.fill(text, _WIDTH)
