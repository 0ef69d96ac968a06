"""Tables of a comparison: support of classes, other views of scores, contrasts, records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from study.config import PLACEBO_SUFFIX
from study.files import csv_text
from study.keys import CLASSES, MIN_BEATS_OF_RECORD, MIN_EFFECTIVE_PATIENTS
from study.reporting.table import Column, Kind, Table, Value
from study.statistics.findings import (
    LEVEL,
    MEASURE_NAMES,
    QUANTITIES,
    Choice,
    Comparison,
    Contrast,
    RecordRow,
    label_of,
    metric_name,
    score_name,
)
from study.wording import listing, plural, score_text

WHAT_P_IS_ABOUT = (
    "Intervals and p hold for these trained models: they cover other patients to score and other "
    "seeds, not other patients to train on. So p calls two equal ways of fusing different in more "
    "than the promised 5 % of cases."
)
"""Of every test and interval, here, on the page and in the README."""


def comparison_tables(comparison: Comparison, arms: Table) -> list[Table]:
    """Return all tables of a comparison. `arms` is the table of its arms by score."""
    tables = [classes_table(comparison), arms, beside_table(comparison)]
    others = (contrasts_table(comparison), floor_table(comparison), kept_table(comparison))
    return tables + [table for table in others if table is not None]


def classes_table(comparison: Comparison) -> Table:
    """Return the table of each class's beats, records and patients, and chance scores."""
    n_folds = len({pair for row in comparison.records for pair in enumerate(row.folds)})
    return Table(
        name="classes",
        title="What each class rests on",
        shows=(
            "Beats, records, the record with most of them, how many equal patients would weigh as "
            "much in the score (effective patients), and the folds that count."
        ),
        reading=(
            f"Below {MIN_EFFECTIVE_PATIENTS:g} effective patients a class is not estimable "
            "(n. e.): no interval, no test. Chance is the score of guessing."
        ),
        columns=[
            Column("class", Kind.NAME),
            Column("beats", Kind.COUNT),
            Column("records", Kind.COUNT),
            Column("largest record", Kind.TEXT),
            Column("its share", Kind.SHARE),
            Column("effective patients", Kind.COUNT, digits=1),
            Column("estimable", Kind.TEXT),
            Column("folds", Kind.TEXT),
            Column(f"chance {_measure(comparison)}"),
        ],
        rows=[
            [
                fact.name,
                fact.beats,
                fact.records,
                fact.largest_record or None,
                fact.largest_share if fact.beats else None,
                fact.effective_patients,
                "yes" if fact.estimable else "no",
                f"{fact.folds} of {n_folds}",
                fact.chance,
            ]
            for fact in comparison.classes
        ],
    )


def beside_table(comparison: Comparison) -> Table:
    """Return the scores without the largest record, within records, and with all folds pooled."""
    largest = {fact.name: fact.largest_record or "its largest" for fact in comparison.classes}
    objective = comparison.quantity
    means = [] if objective in CLASSES else [objective]
    columns = [Column("arm", Kind.NAME)]
    columns += [Column(f"{label_of(name)} w/o them") for name in means]
    columns += [Column(f"{label_of(objective)} bias", signed=True)]
    classes = ("S", "V", "F")
    for name in classes:
        detail = name == "F"
        columns += [
            Column(f"{name} w/o {largest[name]}", detail=detail),
            Column(f"{name} by record", detail=detail),
            Column(f"{name} pooled", detail=detail),
            Column(f"{name} gap", signed=True, detail=detail),
        ]
    rows: list[list[Value]] = []
    for arm in comparison.arms:
        scores = (arm.without_largest, arm.patient_mean, arm.pooled, arm.gap)
        by_class = [values[name] for name in classes for values in scores]
        bias = arm.estimates[objective].bias
        rows.append([arm.name, *(arm.without_largest[name] for name in means), bias, *by_class])
    return Table(
        name="beside",
        title="The same scores, looked at in other ways",
        shows=(
            f"{_measure(comparison)} by class without the record that has most of the class, as "
            "the mean of scores within records, and with all folds pooled."
        ),
        reading=(
            "A score that drops without one record rests on one patient. The gap is pooled minus "
            "within folds: probabilities from models of different folds are not comparable. The "
            "bias is the mean of the resamples behind an interval minus the score: they hold "
            "fewer patients, and few are easier to rank."
        ),
        columns=columns,
        rows=rows,
    )


def contrasts_table(comparison: Comparison) -> Table | None:
    """Return the declared contrasts with their tests; None without contrasts."""
    pairs = comparison.primary
    if not pairs:
        return None
    measure, objective = comparison.measure, comparison.quantity
    others = [q for q in ("S", "V", "N", "F", "macro") if q != objective]
    name = metric_name(comparison.objective)
    rows: list[list[Value]] = []
    for pair in pairs:
        differences = pair.estimates
        row: list[Value] = [pair_name(pair), differences[objective], pair.p, pair.p_adjusted]
        row += [differences[quantity] for quantity in others]
        rows.append([*row, pair.detectable])
    return Table(
        name="contrasts",
        title="Declared contrasts",
        shows=(
            "Differences paired within draws, folds and seeds, with 95 % intervals; p of "
            f"{name} by {comparison.permutations:,} swaps of whole records between the two arms, "
            f"and adjusted for {_all(len(pairs))} (min-P, Westfall & Young 1993)."
        ),
        reading=(
            "Only these are tested; other pairs have intervals. Detectable is the difference that "
            f"a study like this one finds with 80 % power. {WHAT_P_IS_ABOUT}"
        ),
        columns=[
            Column("contrast", Kind.NAME),
            Column(name, Kind.INTERVAL, signed=True),
            Column("p", Kind.P),
            Column("adjusted p", Kind.P),
            *(
                Column(
                    score_name(measure, quantity),
                    Kind.INTERVAL,
                    signed=True,
                    detail=quantity not in ("S", "V"),
                )
                for quantity in others
            ),
            Column("detectable"),
        ],
        rows=rows,
        notes=[*_detectable(pairs, name), *_disagreeing(pairs, objective)],
    )


def _all(contrasts: int) -> str:
    return "this one" if contrasts == 1 else f"all {contrasts}"


def _detectable(pairs: Sequence[Contrast], name: str) -> list[str]:
    sizes = [pair.detectable for pair in pairs if math.isfinite(pair.detectable)]
    if not sizes:
        return []
    return [
        f"a study like this one can find differences of {score_text(min(sizes))} to "
        f"{score_text(max(sizes))} in {name}, depending on the contrast (median "
        f"{score_text(median(sizes))}; 80 % power, 5 % for all contrasts together), and misses "
        "smaller ones"
    ]


def _disagreeing(pairs: Sequence[Contrast], objective: str) -> list[str]:
    """Return a note on contrasts whose interval and p disagree, if there are any."""
    names = [
        pair_name(pair)
        for pair in pairs
        if math.isfinite(pair.p) and (pair.p < LEVEL) != pair.estimates[objective].clear
    ]
    if not names:
        return []
    return [
        f"interval and p disagree on {listing(names)}: an interval is of percentiles, and "
        "lopsided as the resamples are; the test takes both signs alike. The p counts: only it "
        "keeps 5 % in simulation"
    ]


def pair_name(pair: Contrast) -> str:
    """Return the name of a contrast: film - concat, or film - its placebo."""
    placebo = pair.second == pair.first + PLACEBO_SUFFIX
    return f"{pair.first} - {'its placebo' if placebo else pair.second}"


def floor_table(comparison: Comparison) -> Table | None:
    """Return each arm minus the floor, in pairs; None where the study has no floor."""
    if not comparison.above_floor:
        return None
    measure, objective = comparison.measure, comparison.quantity
    quantities = [*dict.fromkeys([objective, "S", "V"])]
    floor = comparison.above_floor[0].second
    return Table(
        name="above_floor",
        title=f"Do arms beat the floor, {floor}?",
        shows=f"Each arm minus {floor}, on the same patients, with 95 % intervals.",
        reading="Below 0 or across it, nothing is shown that needs a network. It is not a test.",
        columns=[
            Column("arm - floor", Kind.NAME),
            *(Column(score_name(measure, q), Kind.INTERVAL, signed=True) for q in quantities),
        ],
        rows=[
            [pair.first, *(pair.estimates[q] for q in quantities)]
            for pair in comparison.above_floor
        ],
    )


def kept_table(comparison: Comparison) -> Table | None:
    """Return the arms' losses of N and V against the bare ECG of their window, or None."""
    if not comparison.non_inferiority:
        return None
    measure = _measure(comparison)
    columns = [Column("arm - bare ECG of its window", Kind.NAME)]
    for name in comparison.non_inferiority[0].differences:
        columns += [
            Column(f"{measure} {label_of(name)}", Kind.INTERVAL, signed=True, digits=4),
            Column(f"{label_of(name)} kept?", Kind.TEXT),
        ]
    rows: list[list[Value]] = []
    for arm in comparison.non_inferiority:
        row: list[Value] = [f"{arm.arm} - {arm.reference}"]
        for name, difference in arm.differences.items():
            row += [difference, arm.verdicts[name]]
        rows.append(row)
    return Table(
        name="non_inferiority",
        title="Is the performance of ECG alone kept?",
        shows=(
            "Each arm with real RR minus the bare ECG of the same window, for the classes that "
            f"shape alone ranks well; a loss of up to {score_text(comparison.margin)} is allowed."
        ),
        reading=(
            "Kept: the whole interval lies above that loss. Lost: it lies below. Otherwise this "
            "study cannot tell."
        ),
        columns=columns,
        rows=rows,
    )


def records_table(comparison: Comparison) -> Table:
    """Return the scores of the leading arm within each record."""
    arm = comparison.arms[0].name
    columns = [Column("record", Kind.NAME), Column("patient", Kind.TEXT)]
    columns += [Column("fold", Kind.TEXT)]
    for name in CLASSES:
        columns += [Column(f"{name} beats", Kind.COUNT), Column(f"{name} score")]
    rows: list[list[Value]] = []
    for row in comparison.records:
        if row.arm == arm:
            cells: list[Value] = [row.record, row.patient, _folds(row)]
            for name in CLASSES:
                cells += [row.beats[name], row.scores[name]]
            rows.append(cells)
    return Table(
        name="records",
        title=f"Every record, {arm}",
        shows="Beats and score of each class within each record, for the arm that leads.",
        reading=(
            f"A dash stands where a record has fewer than {MIN_BEATS_OF_RECORD} beats of a class, "
            "or no others."
        ),
        columns=columns,
        rows=rows,
    )


def _folds(row: RecordRow) -> str:
    """Return the fold that a record validates in, of each partition."""
    return " ".join(map(str, row.folds))


def choice_text(choice: Choice) -> str:
    """Return the score to quote of the best arm, beside its own, by which it was chosen."""
    own, corrected = score_text(choice.value), score_text(choice.corrected)
    if choice.to_quote >= choice.value:
        return f"{own} to quote: corrected for its choice it is {corrected}, and no lower"
    return f"{corrected} to quote, not its own {own}, by which it was chosen"


def choice_sentences(comparison: Comparison) -> list[str]:
    """Say which arm is best, which simplest arm is as good, and each arm's budget."""
    choice = comparison.choice
    if choice is None:
        return []
    often = [f"{arm} {share:.0%}" for arm, share in list(choice.selected.items())[:4]]
    others = [arm for arm in choice.within if arm != choice.best]
    if math.isnan(comparison.arms[0].estimates[comparison.quantity].se):
        simplest = "Simplest within one standard error: not estimable."
    else:
        within = f"within it: {', '.join(others)}" if others else "no other is within it"
        simplest = (
            "Simplest within one standard error of its difference to the best: "
            f"{choice.simplest} ({within})."
        )
    return [
        f"Best arm, placebos left out: {choice.best}. Best in resamples: {', '.join(often)}. "
        f"{metric_name(comparison.objective)} {choice_text(choice)}. The correction chooses on "
        "the patients of each resample and scores on the others.",
        simplest,
        _budget(comparison),
    ]


def _budget(comparison: Comparison) -> str:
    by_size: dict[tuple[int, int], list[str]] = {}
    for arm in comparison.arms:
        by_size.setdefault((arm.trials, arm.beats_trained), []).append(arm.name)
    sizes = [
        f"{plural(trials, 'trial')}, {plural(beats, 'beat')} trained"
        + ("" if len(by_size) == 1 else f" ({', '.join(names)})")
        for (trials, beats), names in by_size.items()
    ]
    return f"Budget of {'every' if len(by_size) == 1 else 'each'} arm: {'; '.join(sizes)}."


def pairs_csv(comparison: Comparison) -> str:
    """Return every pair of arms as CSV: differences with their intervals, by quantity."""
    objective = comparison.quantity
    rows = []
    for pair in comparison.contrasts:
        for quantity in QUANTITIES:
            estimate = pair.estimates[quantity]
            numbers = (estimate.value, estimate.se, estimate.low, estimate.high)
            tests = (pair.p, pair.p_adjusted) if quantity == objective else (math.nan, math.nan)
            rows.append(
                [pair.first, pair.second, pair.primary, quantity]
                + [_exact(value) for value in (*numbers, *tests)]
                + [estimate.remark]
            )
    header = ["first", "second", "primary", "quantity", "difference", "se", "low", "high"]
    return csv_text([*header, "p", "p_adjusted", "remark"], rows)


def records_csv(comparison: Comparison) -> str:
    """Return every record's own scores as CSV, arm by arm."""
    header = ["arm", "record", "patient", "fold", *(f"beats_{name}" for name in CLASSES)]
    rows = [
        [row.arm, row.record, row.patient, _folds(row)]
        + [row.beats[name] for name in CLASSES]
        + [_exact(row.scores[name]) for name in CLASSES]
        for row in comparison.records
    ]
    return csv_text([*header, *(f"{comparison.measure}_{name}" for name in CLASSES)], rows)


def _exact(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _measure(comparison: Comparison) -> str:
    return MEASURE_NAMES[comparison.measure]
