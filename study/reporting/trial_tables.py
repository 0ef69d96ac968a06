"""Tables of a study's trials: arms by score, the best configuration of each arm, what failed.

A search gives arms unequal tries, so its table names candidates and no winner. Only trials that
are complete, finite and of full budget enter a mean; the rest is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from study.config import ARM_PARTS
from study.keys import (
    AUPRC_MACRO,
    AUPRC_SV,
    AUROC_MACRO,
    AUROC_SV,
    Outcome,
    database_metric,
    metric,
)
from study.reporting.table import Column, Kind, Spread, Table, Value
from study.statistics.findings import ArmResult, Comparison, label_of, metric_name, parts_of
from study.store.floors import StudyFloor
from study.store.trials import TrialRow
from study.wording import first_few, listing, plural

_SPREADS = ("seed", "draw", "fold")


def arms_table(
    rows: Sequence[TrialRow],
    objective: str,
    kind: str,
    *,
    arms: Iterable[str] = (),
    comparison: Comparison | None = None,
    floors: Sequence[StudyFloor] = (),
) -> Table:
    """Return the arms by score: intervals where they were compared, else mean ± sd over trials.

    `rows` are all settled trials, in any order; `arms` may have no trial yet. Floors stand below.
    """
    if kind == "search":
        comparison = None
    estimated = {arm.name: arm for arm in comparison.arms} if comparison else {}
    shorter = shorter_outcome(rows)
    first, others = _columns(objective)
    spreads = _SPREADS if kind == "compare" else ()
    if any(math.isfinite(arm.sd_partitions) for arm in estimated.values()):
        spreads = (*spreads, "partition")
    score_kind = Kind.INTERVAL if estimated else Kind.SCORE
    columns = [Column("arm", Kind.NAME)]
    columns += [Column(metric_name(name), score_kind) for name in first]
    columns += [Column(f"sd {of}s") for of in spreads]
    columns += [Column(metric_name(name), detail=k > 0) for k, name in enumerate(others)]
    # A column of zeros says nothing.
    ended = {row.outcome for row in rows}
    counted = [Outcome.COMPLETE, *(o for o in (shorter, Outcome.FAILED) if o in ended)]
    # In a comparison all arms have as many trials, unless the notes say otherwise.
    columns += [Column(str(outcome), Kind.COUNT, detail=bool(estimated)) for outcome in counted]
    lines: list[list[Value]] = []
    for arm in arms_in_order(rows, objective, arms):
        ranked = comparable(rows, objective, arm)
        result = estimated.get(arm)
        lines.append(
            [arm, *(_score(result, ranked, name) for name in first)]
            + [_spread(result, ranked, objective, of) for of in spreads]
            + [mean_metric(ranked, name) for name in others]
            + [len(ranked), *(_ended(rows, arm, outcome) for outcome in counted[1:])]
        )
    for floor in floors:
        line: list[Value] = [floor.words]
        line += [floor.metrics.get(name, math.nan) for name in first]
        # A floor has no seeds: its runs differ in their partition into folds.
        between = floor.metrics.get(f"{objective}_seed_sd", math.nan)
        line += [between if of == "partition" else "" for of in spreads]
        line += [floor.metrics.get(name, math.nan) for name in others]
        lines.append([*line, *[""] * len(counted)])
    shows, reading = _words(rows, objective, kind, shorter, comparison)
    if floors:
        reading += " Below the arms stand the floors: paired differences say what beats them."
    notes = [*_left_out(rows, objective), *_undefined(rows, objective, [*first, *others])]
    if kind == "compare" and len({len(comparable(rows, objective, row.arm)) for row in rows}) > 1:
        notes.append("arms have unequal numbers of complete trials: their means are not paired")
    return Table(
        name="ranking",
        title="Candidates by arm" if kind == "search" else "Arms by score",
        shows=shows,
        reading=reading,
        columns=columns,
        rows=lines,
        notes=[*notes, *(comparison.notes if comparison else ())],
    )


def _columns(objective: str) -> tuple[list[str], list[str]]:
    """Return the metrics for which the console has room, and the others of the page."""
    measure, _ = parts_of(objective)
    other = "auroc" if measure == "auprc" else "auprc"
    first = [objective, metric(measure, "S"), metric(measure, "V")]
    means = [objective.replace(measure, other), AUPRC_SV, AUROC_SV, AUPRC_MACRO, AUROC_MACRO]
    by_class = [metric(m, name) for name in ("S", "V", "F", "N") for m in ("auprc", "auroc")]
    return first, [name for name in dict.fromkeys([*means, *by_class]) if name not in first]


def _words(
    rows: Sequence[TrialRow],
    objective: str,
    kind: str,
    shorter: Outcome,
    comparison: Comparison | None,
) -> tuple[str, str]:
    """Return what the table of arms shows, and how to read it."""
    if kind == "search":
        ended = {
            Outcome.SCREENED: ", and the best of each after one epoch is trained in full",
            Outcome.PRUNED: ", and poor ones were stopped early",
        }
        how = ended[shorter] if any(row.outcome is shorter for row in rows) else ""
        return (
            "Mean ± sd over the complete trials of each arm, cross-validated.",
            f"Arms had unequal tries{how}: the order names candidates for a comparison, "
            "and no winner.",
        )
    if comparison is None:
        return (
            "Mean ± sd over the draws of each arm, cross-validated.",
            "The spread over seeds and folds is that within a trial.",
        )
    spreads = (
        "over seeds within partitions, over draws, over folds and over partitions into folds"
        if comparison.n_partitions > 1
        else "over seeds, over draws and over folds"
    )
    return (
        f"Means over the same draws, folds and seeds, with 95 % intervals from "
        f"{comparison.resamples:,} resamples of {comparison.resampling}; then the "
        f"standard deviation of {metric_name(objective)} {spreads}.",
        "Intervals are conditional on these training sets. Arms share patients, so that "
        "overlapping intervals do not mean equal arms: see the paired differences.",
    )


def _score(result: ArmResult | None, ranked: Sequence[TrialRow], name: str) -> Value:
    if result is not None:
        return result.estimates[parts_of(name)[1]]
    return Spread.of(row.metric(name) for row in ranked)


def _spread(
    result: ArmResult | None, ranked: Sequence[TrialRow], objective: str, of: str
) -> float:
    if result is not None:
        return float(getattr(result, f"sd_{of}s"))
    if of == "draw":
        return Spread.of(row.metric(objective) for row in ranked).sd
    # Variances average, not their roots.
    squares = Spread.of(row.metric(f"{objective}_{of}_sd") ** 2 for row in ranked)
    return math.sqrt(squares.mean)


def best_table(
    rows: Sequence[TrialRow], objective: str, comparison: Comparison | None = None
) -> Table | None:
    """Return the best configuration of each arm by the parameters that vary beside the arm.

    A comparison of these trials, where there is one, gives their intervals.
    """
    estimated = {arm.name: arm for arm in comparison.arms} if comparison else {}
    first, _ = _columns(objective)
    shown = first if estimated else first[:1]
    varied = [
        name
        for name in dict.fromkeys(name for row in rows for name in row.params)
        if name not in ARM_PARTS and len({str(row.params.get(name)) for row in rows}) > 1
    ]
    lines: list[list[Value]] = []
    for arm in arms_in_order(rows, objective):
        ranked = comparable(rows, objective, arm)
        if not ranked:
            continue
        best = max(ranked, key=lambda row: (row.metric(objective), -row.number))
        scores = [_score(estimated.get(arm), [best], name) for name in shown]
        lines.append([arm, best.number, *scores, *(_parameter(best, name) for name in varied)])
    if not lines:
        return None
    return Table(
        name="best_trials",
        title="Best configuration of each arm",
        shows="The best trial of each arm, and the parameters it had.",
        reading="The best of several tries is optimistic; an interval does not mend that.",
        columns=[
            Column("arm", Kind.NAME),
            Column("trial", Kind.COUNT),
            *(Column(metric_name(n), Kind.INTERVAL if estimated else Kind.SCORE) for n in shown),
            *(Column(name, Kind.PARAMETER) for name in varied),
        ],
        rows=lines,
        notes=comparison.notes if comparison else (),
    )


def _parameter(row: TrialRow, name: str) -> Value:
    value = row.params.get(name)
    return value if isinstance(value, float | int | str) else None


def databases_table(
    rows: Sequence[TrialRow],
    objective: str,
    databases: Sequence[str],
    floors: Sequence[StudyFloor] = (),
) -> Table | None:
    """Return the arms' AUPRC within each database; None for a study on one database."""
    if len(databases) < 2:
        return None
    shown = [(database, of) for database in databases for of in ("sv", "S", "V")]
    names = [database_metric(database, of) for database, of in shown]
    lines: list[list[Value]] = []
    for arm in arms_in_order(rows, objective):
        ranked = comparable(rows, objective, arm)
        lines.append([arm, *(Spread.of(row.metric(name) for row in ranked) for name in names)])
    for floor in floors:
        lines.append([floor.words, *(floor.metrics.get(name, math.nan) for name in names)])
    return Table(
        name="databases",
        title="Arms by database",
        shows="Mean ± sd of AUPRC over the complete trials of each arm, within each fold and "
        "among the beats of each database alone.",
        reading="The networks are the same, trained on all databases: what differs is whom they "
        "classify. Below the arms stand the floors.",
        columns=[
            Column("arm", Kind.NAME),
            *(Column(f"{database} {label_of(of)}", Kind.SCORE) for database, of in shown),
        ],
        rows=lines,
    )


def failures_table(rows: Sequence[TrialRow]) -> Table | None:
    """Return what failed and why, a line for each cause; None if nothing did."""
    causes: dict[str, list[TrialRow]] = {}
    failed = [row for row in rows if row.outcome is Outcome.FAILED]
    for row in sorted(failed, key=lambda row: row.number):
        first_line = next(filter(None, map(str.strip, row.cause.splitlines())), "")
        causes.setdefault(first_line or "no cause recorded", []).append(row)
    if not failed:
        return None
    return Table(
        name="failures",
        title="Failed trials",
        shows=f"{len(failed)} of {plural(len(rows), 'trial')} failed; equal causes are one line.",
        reading="Epochs are those that were done.",
        columns=[
            Column("trials", Kind.COUNT),
            Column("numbers", Kind.TEXT),
            Column("arms", Kind.TEXT),
            Column("epochs", Kind.TEXT),
            Column("cause", Kind.TEXT),
        ],
        rows=[
            [
                len(same),
                first_few(str(row.number) for row in same),
                first_few(dict.fromkeys(row.arm for row in same)),
                listing(str(n) for n in sorted({row.epochs for row in same})),
                cause,
            ]
            for cause, same in causes.items()
        ],
    )


def shorter_outcome(rows: Iterable[TrialRow]) -> Outcome:
    """Return the outcome of trials with fewer epochs: screened in a screening, else pruned."""
    screened = any(row.outcome is Outcome.SCREENED for row in rows)
    return Outcome.SCREENED if screened else Outcome.PRUNED


def comparable(rows: Sequence[TrialRow], objective: str, arm: str) -> list[TrialRow]:
    """Return the trials of an arm that may be compared."""
    return [row for row in rows if row.arm == arm and row.ranks(objective)]


def mean_metric(rows: Iterable[TrialRow], name: str) -> float:
    """Return the mean of a metric where it is defined; NaN where it never is."""
    return Spread.of(row.metric(name) for row in rows).mean


def arms_in_order(rows: Sequence[TrialRow], objective: str, arms: Iterable[str] = ()) -> list[str]:
    """Return all arms, best mean objective first, those without a comparable trial last."""

    def order(arm: str) -> tuple[float, str]:
        mean = mean_metric(comparable(rows, objective, arm), objective)
        return (math.inf if math.isnan(mean) else -mean, arm)

    return sorted({*arms, *(row.arm for row in rows)}, key=order)


def mean_scores(rows: Sequence[TrialRow], objective: str) -> dict[str, float]:
    """Return the mean objective of each arm's comparable trials, the best first."""
    arms = arms_in_order(rows, objective)
    return {arm: mean_metric(comparable(rows, objective, arm), objective) for arm in arms}


def _ended(rows: Sequence[TrialRow], arm: str, outcome: Outcome) -> int:
    return sum(row.arm == arm and row.outcome is outcome for row in rows)


def _left_out(rows: Sequence[TrialRow], objective: str) -> list[str]:
    """Say which trials are not in the means, and why."""
    out = [row for row in rows if row.outcome is Outcome.COMPLETE and not row.ranks(objective)]
    undefined = [row for row in out if not math.isfinite(row.metric(objective))]
    left = {
        f"complete without a finite {objective}": undefined,
        "below the full number of epochs": [row for row in out if row not in undefined],
    }
    return [
        f"not counted, {reason}: {_numbers(trials)}" for reason, trials in left.items() if trials
    ]


def _undefined(rows: Sequence[TrialRow], objective: str, names: Sequence[str]) -> list[str]:
    ranked = [row for row in rows if row.ranks(objective)]
    lacking: dict[str, list[str]] = {}
    for name in names:
        missing = [row for row in ranked if not math.isfinite(row.metric(name))]
        if missing:
            lacking.setdefault(_numbers(missing), []).append(metric_name(name))
    return [
        f"undefined, and left out of the mean, in {trials}: {listing(metrics)}"
        for trials, metrics in lacking.items()
    ]


def _numbers(rows: Sequence[TrialRow]) -> str:
    numbers = first_few(str(n) for n in sorted(row.number for row in rows))
    return f"trial{'s' if len(rows) > 1 else ''} {numbers}"
