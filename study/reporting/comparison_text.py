"""A comparison as text: tables of at most 120 columns, each with a line that says how to read it.

Also as CSV: every pair of arms, and every record.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from statistics import median

from study.keys import CLASSES
from study.reporting.findings import (
    MEASURE_NAMES,
    Comparison,
    Contrast,
    Estimate,
    members_of,
    parts_of,
)
from study.reporting.layout import UNDEFINED, short, table

PLACEBO_SUFFIX = "_placebo"
"""What a space appends to the name of an arm for its placebo."""


def comparison_text(comparison: Comparison, *, markdown: bool = False) -> str:
    """Return the tables of a comparison, each with a line that says how to read it."""
    parts = [
        _classes(comparison, markdown=markdown),
        _arms(comparison, markdown=markdown),
        _beside(comparison, markdown=markdown),
        _primary(comparison, markdown=markdown),
        _kept(comparison, markdown=markdown),
        _choice(comparison),
        "\n".join(f"{'- ' if markdown else 'note: '}{note}" for note in comparison.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def pairs_csv(comparison: Comparison) -> str:
    """Return every pair of arms as CSV: differences with their intervals, by quantity."""
    rows = []
    for pair in comparison.contrasts:
        for quantity, found in pair.estimates.items():
            tested = quantity == parts_of(comparison.objective)[1]
            rows.append(
                [pair.first, pair.second, pair.primary, quantity]
                + [_exact(value) for value in (found.value, found.se, found.low, found.high)]
                + [_exact(value) if tested else "" for value in (pair.p, pair.p_adjusted)]
                + [found.remark]
            )
    header = ["first", "second", "primary", "quantity", "difference", "se", "low", "high"]
    return _csv([*header, "p", "p_adjusted", "remark"], rows)


def records_csv(comparison: Comparison) -> str:
    """Return every record's own scores as CSV, arm by arm."""
    measure, _ = parts_of(comparison.objective)
    header = ["arm", "record", "patient", "fold", *(f"beats_{name}" for name in CLASSES)]
    rows = [
        [row.arm, row.record, row.patient, row.fold]
        + [row.beats[name] for name in CLASSES]
        + [_exact(row.scores[name]) for name in CLASSES]
        for row in comparison.records
    ]
    return _csv([*header, *(f"{measure}_{name}" for name in CLASSES)], rows)


def _classes(comparison: Comparison, *, markdown: bool) -> str:
    rows = []
    n_folds = 1 + max((fold for fact in comparison.classes for fold in fact.folds), default=0)
    for fact in comparison.classes:
        largest = f"{fact.largest_record} ({fact.largest_share:.0%})" if fact.beats else UNDEFINED
        rows.append(
            [
                fact.name,
                f"{fact.beats:,}",
                str(fact.records),
                f"{fact.effective_patients:.1f}",
                largest,
                f"{len(fact.folds)} of {n_folds}",
                short(fact.chance),
                "" if fact.estimable else "not estimable",
            ]
        )
    title = (
        "What each class rests on. Effective patients: as many equal ones weigh as much; below 4 a "
        "class is not\nestimable: no interval, no test."
    )
    header = ["class", "beats", "records", "effective patients", "largest record"]
    header += ["folds that count", f"chance {_measure(comparison)}", ""]
    return f"{title}\n\n{table(header, rows, markdown=markdown)}"


def _arms(comparison: Comparison, *, markdown: bool) -> str:
    shown = _shown(comparison)
    rows = [
        [
            arm.name,
            *(_interval(arm.estimates[name]) for name in shown),
            *(short(sd) for sd in (arm.sd_seeds, arm.sd_draws, arm.sd_folds)),
        ]
        for arm in comparison.arms
    ]
    name = _name(comparison, shown[0])
    title = (
        f"Arms by {name}, with 95 % intervals from {comparison.resamples:,} resamples of patients "
        "and seeds within folds.\nThey are conditional on these training sets. Beside them the "
        f"standard deviation of {name} over seeds,\ndraws and folds, each by itself."
    )
    header = ["arm", *(_name(comparison, quantity) for quantity in shown)]
    body = table([*header, "sd seeds", "draws", "folds"], rows, markdown=markdown)
    return f"{title}\n\n{body}"


def _beside(comparison: Comparison, *, markdown: bool) -> str:
    shown = _shown(comparison)
    largest = {fact.name: fact.largest_record for fact in comparison.classes}
    classes = members_of(shown[0]) if len(shown) == 1 else shown[1:]
    rows = []
    for arm in comparison.arms:
        row = [arm.name, *(short(arm.without_largest[name]) for name in shown)]
        for name in classes:
            row += [
                short(arm.patient_mean[name]),
                short(arm.pooled[name]),
                short(arm.gap[name], signed=True),
            ]
        rows.append(row)
    measure = _measure(comparison)
    header = ["arm"]
    header += [f"{_label(name)} w/o {largest.get(name, 'both')}" for name in shown]
    for name in classes:
        header += [f"{name} patient mean", f"{name} pooled", "gap"]
    title = (
        f"Beside the {measure} above: without the record that has most of the class, the mean over "
        "records, and of all\nfolds pooled; the gap is what pooling loses, as probabilities of "
        "different members do not compare."
    )
    return f"{title}\n\n{table(header, rows, markdown=markdown)}"


def _primary(comparison: Comparison, *, markdown: bool) -> str:
    contrasts = [pair for pair in comparison.contrasts if pair.primary]
    if not contrasts:
        return ""
    shown = _shown(comparison)
    rows = [
        [
            _pair(pair),
            _interval(pair.estimates[shown[0]], signed=True),
            _p(pair.p, comparison.permutations),
            _p(pair.p_adjusted, comparison.permutations),
            *(_interval(pair.estimates[name], signed=True) for name in shown[1:]),
        ]
        for pair in contrasts
    ]
    name = _name(comparison, shown[0])
    title = (
        f"Declared contrasts, paired within draws, folds and seeds: 95 % intervals; p of {name} by "
        f"{comparison.permutations:,} swaps\nof whole records between the two arms, and adjusted "
        f"for all {len(contrasts)} (max-T). Other pairs have intervals only."
    )
    header = ["contrast", name, "p", "adjusted"]
    header += [_name(comparison, quantity) for quantity in shown[1:]]
    detectable = [pair.detectable for pair in contrasts if math.isfinite(pair.detectable)]
    least = (
        f"Smallest difference that this design finds (80 % power, 5 % for all {len(contrasts)} "
        f"together): {short(median(detectable))} in {name},\nby contrast "
        f"{short(min(detectable))} to {short(max(detectable))}."
        if detectable
        else ""
    )
    body = table(header, rows, markdown=markdown)
    return "\n\n".join(part for part in (f"{title}\n\n{body}", least) if part)


def _kept(comparison: Comparison, *, markdown: bool) -> str:
    if not comparison.non_inferiority:
        return ""
    rows = []
    for found in comparison.non_inferiority:
        row = [f"{found.arm} - {found.reference}"]
        for name, difference in found.differences.items():
            row += [_interval(difference, signed=True), found.verdicts[name]]
        rows.append(row)
    classes = list(comparison.non_inferiority[0].differences)
    header = ["arm - bare ECG of its window"]
    for name in classes:
        header += [_name(comparison, name), "kept?"]
    title = (
        f"ECG performance: kept where the whole interval is above -{short(comparison.margin)}, "
        "lost where it is below."
    )
    return f"{title}\n\n{table(header, rows, markdown=markdown)}"


def _choice(comparison: Comparison) -> str:
    choice = comparison.choice
    if choice is None:
        return ""
    name = _name(comparison, parts_of(comparison.objective)[1])
    often = [f"{arm} {share:.0%}" for arm, share in list(choice.selected.items())[:4]]
    others = [arm for arm in choice.within if arm != choice.best]
    budgets = {arm.name: (arm.trials, arm.beats_trained) for arm in comparison.arms}
    lines = [
        f"Best: {choice.best}. {name} to quote: {short(choice.corrected)}, chosen on the patients "
        "of each resample and scored on the others;",
        f"its own {short(choice.value)} is too good, as it was chosen by it. Best in resamples: "
        f"{', '.join(often)}.",
        f"Simplest within one standard error of the difference to it: {choice.simplest}"
        + (f" (of {len(others)}: {', '.join(others)})." if others else " (no other is)."),
        _budget(budgets),
    ]
    return "\n".join(lines)


def _budget(budgets: dict[str, tuple[int, int]]) -> str:
    by_size: dict[tuple[int, int], list[str]] = {}
    for name, budget in budgets.items():
        by_size.setdefault(budget, []).append(name)
    parts = [
        f"{trials} trial{'s' if trials > 1 else ''} and {beats:,} beats trained"
        + ("" if len(by_size) == 1 else f" ({', '.join(names)})")
        for (trials, beats), names in by_size.items()
    ]
    return f"Budget of {'every' if len(by_size) == 1 else 'each'} arm: {'; '.join(parts)}."


def _shown(comparison: Comparison) -> tuple[str, ...]:
    """Return the quantities that get intervals in tables: the objective, and classes of rhythm."""
    _, quantity = parts_of(comparison.objective)
    return tuple(dict.fromkeys((quantity, "S", "V")))


def _measure(comparison: Comparison) -> str:
    return MEASURE_NAMES[parts_of(comparison.objective)[0]]


def _label(quantity: str) -> str:
    return {"sv": "S+V"}.get(quantity, quantity)


def _name(comparison: Comparison, quantity: str) -> str:
    return f"{_measure(comparison)} {_label(quantity)}"


def _pair(pair: Contrast) -> str:
    placebo = pair.second == pair.first + PLACEBO_SUFFIX
    return f"{pair.first} - {'its placebo' if placebo else pair.second}"


def _interval(found: Estimate, *, signed: bool = False) -> str:
    value = short(found.value, signed=signed)
    if not math.isfinite(found.low):
        return f"{value} (n. e.)" if found.remark else value
    mark = "*" if found.remark else ""
    low, high = short(found.low, signed=signed), short(found.high, signed=signed)
    return f"{value} [{low}, {high}]{mark}"


def _p(value: float, n_swaps: int) -> str:
    if not math.isfinite(value):
        return UNDEFINED
    least = 1 / (1 + n_swaps)
    return f"<{short(2 * least)}" if value < 0.0005 else short(value)


def _exact(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
