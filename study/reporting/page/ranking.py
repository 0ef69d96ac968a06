"""The ranked table: AUPRC beside AUROC, with what each class rests on and what guessing scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from study.keys import CLASSES, Outcome, metric
from study.reporting.layout import UNDEFINED, short
from study.reporting.page.blocks import (
    Block,
    Cell,
    Note,
    Section,
    Table,
    Tone,
    count,
    missing,
    score,
    text,
)
from study.reporting.page.results import StudyResults
from study.reporting.page.words import beside, interval, mean, objective_name, quantity_of
from study.reporting.tables import chance_level, shorter_outcome
from study.statistics.findings import ArmResult, Comparison
from study.store.trials import TrialRow


def ranking(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="ranking", title="Ranking", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    if not results.rows:
        yield missing("No ranking", results.why("comparison", "no trial has settled"))
        return
    yield _trials(results) if results.searches else _arms(results)
    if results.comparison is None:
        yield missing("No intervals", results.why("comparison", "no arm can be compared"))
        return
    if results.searches:
        yield _best(results, results.comparison)
    yield _beside(results, results.comparison)
    yield _classes(results.comparison)
    for note in results.comparison.notes:
        yield Note(note[:1].upper() + note[1:] + ".", Tone.NOTE)


def _names(results: StudyResults) -> list[str]:
    """Return all arms, best first, those without a complete trial last."""
    ranked = results.ranked
    found = dict.fromkeys([*results.arms, *(row.arm for row in results.rows)])

    def order(arm: str) -> float:
        value = mean(row.metric(results.objective) for row in ranked if row.arm == arm)
        return math.inf if math.isnan(value) else -value

    return sorted(found, key=order)


def _counts(results: StudyResults, arm: str) -> list[Cell]:
    mine = [row for row in results.rows if row.arm == arm and row.duplicate_of is None]
    done = sum(row.ranks(results.objective) for row in mine)
    ended = (shorter_outcome(results.rows), Outcome.FAILED)
    others = [sum(row.outcome is outcome for row in mine) for outcome in ended]
    return [count(n) for n in (done, *others)]


def _scores(rows: Sequence[TrialRow], names: Sequence[str]) -> list[Cell]:
    return [score(mean(row.metric(name) for row in rows)) for name in names]


def _floor_rows(results: StudyResults, width: int, names: Sequence[str]) -> Iterator[list[Cell]]:
    """Yield what guessing and a linear model score, under the same columns."""
    below = dict(results.floors)
    if results.comparison is not None and not any("prevalence" in name for name in below):
        chance = chance_level(fact.chance for fact in results.comparison.classes)
        below = {"chance (prevalence)": chance, **below}
    for label, values in below.items():
        cells = [score(float(values.get(name, math.nan))) for name in names]
        yield [text(label), *[Cell("")] * (width - len(names) - 1), *cells]


def _shown(results: StudyResults) -> list[str]:
    by_class = [
        metric(measure, name) for name in ("S", "V", "F", "N") for measure in ("auprc", "auroc")
    ]
    return [*beside(results.objective), *by_class]


def _heading(name: str) -> str:
    _, measure, of = name.split("_")
    return f"{measure.upper()} {'S+V' if of == 'sv' else of}"


def _trials(results: StudyResults) -> Table:
    names = [results.objective, *_shown(results)]
    shorter = shorter_outcome(results.rows)
    header = ["arm", "complete", str(shorter), "failed", *(_heading(name) for name in names)]
    rows = []
    for arm in _names(results):
        mine = [row for row in results.ranked if row.arm == arm]
        values = [row.metric(results.objective) for row in mine]
        first = Cell(_plus_minus(values), mean(values) if values else None)
        rows.append([text(arm), *_counts(results, arm), first, *_scores(mine, names[1:])])
    rows += _floor_rows(results, len(header), names)
    return Table(
        name="ranking",
        title="Candidates by arm",
        shows="Mean ± sd over the complete trials of each arm, cross-validated on DS1.",
        reading=(
            "Arms had unequal tries, "
            + (
                "and the best of each after one epoch is trained in full"
                if shorter is Outcome.SCREENED
                else "and poor ones were stopped early"
            )
            + ": the order names candidates for a comparison, and no winner. A click on a heading "
            "sorts."
        ),
        header=header,
        rows=rows,
    )


def _plus_minus(values: Sequence[float]) -> str:
    spread = f" ± {short(statistics.stdev(values))}" if len(values) > 1 else ""
    return short(mean(values)) + spread


def _arms(results: StudyResults) -> Table:
    comparison, quantity = results.comparison, quantity_of(results)
    names = _shown(results)
    by_name = {arm.name: arm for arm in comparison.arms} if comparison else {}
    header = ["arm", f"{objective_name(results.objective)} [95 %]"]
    header += [*(_heading(name) for name in names), "sd seeds", "sd draws", "sd folds"]
    header += ["complete", "pruned", "failed"]
    rows = []
    for arm in _names(results):
        mine = [row for row in results.ranked if row.arm == arm]
        found = by_name.get(arm)
        own = mean(row.metric(results.objective) for row in mine)
        spread = [found.sd_seeds, found.sd_draws, found.sd_folds] if found else [math.nan] * 3
        first = interval(found.estimates[quantity]) if found else score(own)
        cells = [*_scores(mine, names), *(score(value) for value in spread)]
        rows.append([text(arm), first, *cells, *_counts(results, arm)])
    for line in _floor_rows(results, len(names) + 2, [results.objective, *names]):
        rows.append([*line, *[Cell("")] * 6])
    return Table(
        name="ranking",
        title="Arms by score",
        shows=(
            f"{objective_name(results.objective)} with its 95 % interval from resampled patients "
            "and seeds, its spread over seeds, draws and folds, each by itself, and other scores."
        ),
        reading=(
            "Arms share patients, so overlapping intervals say nothing: the paired differences "
            "below do. Intervals are conditional on these training sets. A click on a heading "
            "sorts."
        ),
        header=header,
        rows=rows,
    )


def _best(results: StudyResults, comparison: Comparison) -> Table:
    quantity = quantity_of(results)
    shown = tuple(dict.fromkeys((quantity, "S", "V")))
    varied = _varied(results)
    rows = []
    for arm in comparison.arms:
        mine = [row for row in results.ranked if row.arm == arm.name]
        if not mine:
            continue
        best = max(mine, key=lambda row: row.metric(results.objective))
        cells = [interval(arm.estimates[name]) for name in shown]
        rows.append(
            [text(arm.name), count(best.number), *cells]
            + [_parameter(best.params.get(name)) for name in varied]
        )
    measure = _heading(results.objective).split()[0]
    return Table(
        name="best_trials",
        title="Best configuration of each arm",
        shows="The best trial of each arm with 95 % intervals, and the parameters it had.",
        reading="The best of several tries is optimistic; the interval does not mend that.",
        header=[
            "arm",
            "trial",
            *(f"{measure} {'S+V' if name == 'sv' else name} [95 %]" for name in shown),
            *varied,
        ],
        rows=rows,
    )


def _varied(results: StudyResults) -> list[str]:
    names = dict.fromkeys(name for row in results.rows for name in row.params)
    made_of = ("input", "segmentation", "fusion", "late_rr", "rr")
    return [
        name
        for name in names
        if name not in made_of and len({str(row.params.get(name)) for row in results.rows}) > 1
    ]


def _parameter(value: object) -> Cell:
    if isinstance(value, int | float):
        return Cell(f"{value:.3g}", value)
    return text(value)


def _beside(results: StudyResults, comparison: Comparison) -> Table:
    largest = {fact.name: fact.largest_record for fact in comparison.classes}
    rows = [[text(arm.name), *_beside_cells(arm)] for arm in comparison.arms]
    header = ["arm"]
    for name in ("S", "V", "F"):
        header += [f"{name} w/o {largest[name] or UNDEFINED}", f"{name} by record"]
        header += [f"{name} pooled", f"{name} gap"]
    measure = _heading(results.objective).split()[0]
    return Table(
        name="beside",
        title="The same scores, looked at in other ways",
        shows=(
            f"{measure} by class without the record that has most of the class, as the mean over "
            "records of their own, and with all folds pooled."
        ),
        reading=(
            "A score that falls without one record is one patient's. The gap is pooled minus "
            "within folds: what is lost because probabilities of different members do not compare."
        ),
        header=header,
        rows=rows,
    )


def _beside_cells(arm: ArmResult) -> Iterator[Cell]:
    for name in ("S", "V", "F"):
        yield score(arm.without_largest[name])
        yield score(arm.patient_mean[name])
        yield score(arm.pooled[name])
        yield score(arm.gap[name], signed=True)


def _classes(comparison: Comparison) -> Table:
    rows = [
        [
            text(fact.name),
            count(fact.beats),
            count(fact.records),
            count(fact.effective_patients, digits=1),
            text("yes" if fact.estimable else "no"),
            Cell(f"{fact.largest_record} ({fact.largest_share:.0%})" if fact.beats else UNDEFINED),
            count(len(fact.folds)),
            Cell(short(fact.chance), fact.chance if math.isfinite(fact.chance) else None),
        ]
        for fact in comparison.classes
        if fact.name in CLASSES
    ]
    return Table(
        name="classes",
        title="What each class rests on",
        shows=(
            "Beats, records and effective patients, (sum n)² / sum n² of the patients' beats n, "
            "and the record with most of them."
        ),
        reading=(
            "Below 4 effective patients a class is not estimable: no interval, no test. Chance is "
            "the score of guessing."
        ),
        header=["class", "beats", "records", "effective patients", "estimable"]
        + ["largest record", "folds that count", "chance"],
        rows=rows,
        text_columns=(4, 5),
    )
