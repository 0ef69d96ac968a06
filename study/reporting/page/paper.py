"""Material for a paper: data, protocol, a methods paragraph, published results, provenance."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from study.config import SAMPLING_RATE_HZ
from study.data.catalogue import CATALOGUE
from study.data.windows import GAP, GAP_NOTE, SEGMENTATIONS, TAPS
from study.keys import (
    CLASSES,
    MIN_BEATS_OF_RECORD,
    MIN_CLASS_BEATS,
    MIN_EFFECTIVE_PATIENTS,
    Outcome,
)
from study.reporting.page.html import Block, Note, Tone, missing
from study.reporting.results import StudyResults
from study.reporting.table import Column, Kind, Table, Value
from study.reporting.trial_tables import shorter_outcome
from study.statistics.findings import metric_name
from study.statistics.predictions import Beats
from study.store.plan import StudyPlan
from study.wording import listing, plural, score_text

_SOONEST_S = min(cut.stop_s for cut in SEGMENTATIONS.values())
"""Seconds from R to the earliest end of a window."""

_FILTER_S = (TAPS - 1) / SAMPLING_RATE_HZ
"""Seconds that the band-pass, run in both directions, reaches past a window's end."""


def dataset(results: StudyResults) -> Iterator[Block]:
    """Yield records, beats and exclusions."""
    if results.beats is None:
        yield missing("No dataset table", results.why("beats", "the study has left no beats"))
    else:
        yield _records(results.beats)
    if results.dropped:
        yield Table(
            name="exclusions",
            title="Beats left out",
            shows="Annotated beats that no arm sees, by the first reason that holds.",
            reading=(
                "All arms and segmentations share one list of beats: a beat that one of them "
                "cannot use is left out of all. Annotations other than beats do not count in RR "
                "intervals."
            ),
            columns=[Column("reason", Kind.NAME), Column("beats", Kind.COUNT)],
            rows=list(results.dropped.items()),
            notes=[GAP_NOTE] if GAP in results.dropped else [],
        )
    else:
        yield missing("No exclusions by reason", results.why("dropped", "not read"))


def _records(beats: Beats) -> Table:
    several = beats.n_partitions > 1
    fold = "folds" if several else "fold"
    counts = beats.counts.tolist()
    rows: list[list[Value]] = [
        [name, patient, " ".join(map(str, folds)) if folds[0] >= 0 else None, sum(of), *of]
        for name, patient, of, *folds in zip(
            beats.record_names,
            beats.patient_of_record,
            counts,
            *beats.folds_of_record,
            strict=True,
        )
    ]
    totals = [sum(of_class) for of_class in zip(*counts, strict=True)]
    patients = plural(len(set(beats.patient_of_record)), "patient")
    rows.append(["all", patients, plural(beats.n_folds, "fold"), sum(totals), *totals])
    return Table(
        name="dataset",
        title="Records, patients and beats",
        shows=(
            "Beats by class of every record used for selection, and the fold it validates in"
            + (", partition by partition." if several else ".")
        ),
        reading=(
            f"A fold counts for a class of which it has {MIN_CLASS_BEATS} beats or more, a record "
            f"counts for a patient mean with {MIN_BEATS_OF_RECORD} or more."
        ),
        columns=[
            Column("record", Kind.NAME),
            Column("patient", Kind.TEXT),
            *(Column(name, Kind.COUNT) for name in (fold, "beats", *CLASSES)),
        ],
        rows=rows,
    )


def protocol(results: StudyResults) -> Iterator[Block]:
    """Yield the study's decisions, and the inputs of each arm."""
    yield Table(
        name="protocol",
        title="How it was decided",
        shows="The settings that shaped the results, from the study's plan.",
        reading="The plan was written before the first trial; only a search may grow after it.",
        columns=[Column("what", Kind.NAME), Column("how", Kind.TEXT)],
        rows=list(_decisions(results).items()),
    )
    yield _look_ahead(results)


def _decisions(results: StudyResults) -> dict[str, str]:
    plan, rows = results.study.plan, results.study.rows
    shorter = shorter_outcome(rows)
    return {
        "kind": "search: proposes candidates, claims nothing"
        if results.searches
        else "comparison: every arm gets the same draws, folds and seeds; nothing is pruned",
        "records": plan.data_source,
        "split": "inter-patient, AAMI N S V F"
        + ("; DS1 and DS2 of de Chazal, O'Dwyer & Reilly 2004" if plan.has_sealed_test else ""),
        "selection sees": f"{plan.selection_sees}, in folds of whole patients; "
        + ("DS2 is sealed" if plan.has_sealed_test else "none is set aside"),
        "folds": f"{plan.folds} ({plural(plan.n_folds, 'fold')})",
        "seeds": _seeds(plan),
        "epochs": f"{plan.epochs}, scored at the last, never at the best",
        "objective": f"{metric_name(plan.objective)}: average precision within each fold, "
        f"averaged over folds that count, then over {_runs(plan)}",
        "sampler": f"{plan.sampler}, scheduler {plan.scheduler}",
        "tuning budget": f"{plural(plan.trials, 'trial')} planned, {len(rows)} "
        f"settled{_tries(results)}",
        f"{shorter}, failed": f"{results.count(shorter)}, {results.count(Outcome.FAILED)}",
        "arithmetic": f"{plan.engine}; evaluation in float32",
        "random streams": f"study seed {plan.study_seed}; by seed, fold and purpose, never "
        "by configuration",
        "declared contrasts": _declared(results),
    }


def _seeds(plan: StudyPlan) -> str:
    """Say how many seeds a fold has, and how many partitions into folds there are."""
    each = f"{plural(plan.n_seeds // plan.n_partitions, 'seed')} for each fold"
    several = f"{plan.n_partitions} partitions into folds, {each} of a partition"
    return several if plan.n_partitions > 1 else each


def _runs(plan: StudyPlan) -> str:
    return "seeds and partitions" if plan.n_partitions > 1 else "seeds"


def _tries(results: StudyResults) -> str:
    """Tell the smallest and largest number of configurations of an arm."""
    # A configuration screened and then trained in full is one try.
    tried: dict[str, set[frozenset[object]]] = {}
    for row in results.study.rows:
        tried.setdefault(row.arm, set()).add(frozenset((row.draw, *row.params.items())))
    budgets = [len(points) for points in tried.values()]
    return f", {min(budgets)} to {max(budgets)} an arm" if budgets else ""


def _declared(results: StudyResults) -> str:
    if results.comparison is None:
        return "none" if results.searches else "not computed"
    number = len(results.comparison.primary)
    return plural(number, "contrast") if number else "none"


def _look_ahead(results: StudyResults) -> Block:
    if not results.arms:
        return missing("No look-ahead table", "no arm has a configuration yet")
    words = (
        "input",
        "segmentation",
        "fusion",
        "late RR",
        "RR",
        "template",
        "routes",
        "look-ahead",
    )
    return Table(
        name="look_ahead",
        title="What each arm is given",
        shows="The paths by which RR can reach the output, and the signal needed after the beat.",
        reading=(
            "Look-ahead delays a decision; an arm that needs the whole record cannot serve a "
            f"monitor. Every window ends {score_text(_SOONEST_S, digits=2)} s or more after R, "
            "and the filter, which runs forward and backward over the record, needs "
            f"{score_text(_FILTER_S, digits=2)} s of signal after that; no row counts the filter."
        ),
        columns=[Column("arm", Kind.NAME), *(Column(word, Kind.TEXT) for word in words)],
        rows=[
            [name, arm.input, arm.segmentation, arm.fusion, arm.late_rr or None, arm.rr]
            + [arm.reference or None, arm.routes, arm.look_ahead]
            for name, arm in results.arms.items()
        ],
    )


def methods(results: StudyResults) -> Iterator[Block]:
    """Yield a paragraph for a paper."""
    yield Note("A paragraph for a paper, written from this study's plan. Check it before use.")
    yield Note(" ".join(methods_sentences(results)))


def methods_sentences(results: StudyResults) -> Iterator[str]:
    """Yield the sentences of the paragraph, from the plan and what was measured."""
    plan = results.study.plan
    yield from (f"{caveat}." for caveat in results.caveats)
    yield from _data(results)
    yield (
        f"Models were trained for {plural(plan.epochs, 'epoch')} in "
        f"{plan.folds.split(',')[0]} cross-validation over whole patients with {_seeds(plan)}, "
        "and scored at the last epoch."
    )
    yield from _trials(results)
    yield (
        f"The primary score was {metric_name(results.study.objective)}: average precision within "
        f"each fold's predictions, averaged over the folds with {MIN_CLASS_BEATS} or more beats "
        "of the class (Forman & Scholz 2010, doi:10.1145/1882471.1882479), then over "
        f"{_runs(plan)}."
    )
    yield from _statistics(results)
    yield (
        "RR reliance was the loss of AUPRC when RR intervals were permuted within records in the "
        "inputs, in the cut of the window, or in both."
    )
    openings = results.openings if results.study.plan.has_sealed_test else ""
    yield openings.partition("\n")[0]


def _trials(results: StudyResults) -> Iterator[str]:
    plan, trials = results.study.plan, plural(len(results.study.rows), "trial")
    failed, screened = results.count(Outcome.FAILED), results.count(Outcome.SCREENED)
    if results.searches:
        shorter = (
            f"{screened} were screened for one epoch, with a learning rate that falls to zero in "
            "it, and the best of each arm was trained in full;"
            if screened
            else f"{results.count(Outcome.PRUNED)} were stopped early and"
        )
        yield (
            f"Configurations were proposed by {plan.sampler} ({plan.scheduler} scheduler); "
            f"of {trials}, {shorter} {failed} failed. The search names candidates and supports no "
            "claim about arms."
        )
    else:
        arms = plural(len(results.arms), "arm")
        yield (
            f"{arms} were trained with the same draws of the nuisance parameters, the same folds "
            f"and the same seeds; of {trials}, {failed} failed, and none was pruned."
        )


def _data(results: StudyResults) -> Iterator[str]:
    plan = results.study.plan
    where = "the study's own records"
    if plan.data_source == "synthetic":
        where = "synthetic records"
    if databases := [CATALOGUE[name] for name in plan.databases]:
        where = listing(f"the {database.title} (doi:{database.doi})" for database in databases)
    yield f"Beats of {where} were classified as AAMI {', '.join(CLASSES)}."
    beats = results.beats
    if beats is None:
        return
    counts = beats.counts.sum(axis=0).tolist()
    classes = listing(f"{n:,} {name}" for name, n in zip(CLASSES, counts, strict=True))
    left_out = sum(results.dropped.values())
    were = "was" if left_out == 1 else "were"
    without = f"; {plural(left_out, 'beat')} {were} left out" if left_out else ""
    yield (
        f"Selection saw {len(beats.label):,} beats of {plural(len(beats.record_names), 'record')} "
        f"from {plural(len(set(beats.patient_of_record)), 'patient')} ({classes}){without}."
    )


def _statistics(results: StudyResults) -> Iterator[str]:
    comparison = results.comparison
    if comparison is None or results.searches:
        return
    yield (
        f"Intervals (95 %) are from {comparison.resamples:,} joint, paired resamples of "
        f"{comparison.resampling}, conditional on the training sets."
    )
    tested = [pair for pair in comparison.primary if pair.p == pair.p]
    if tested:
        were = "was" if len(tested) == 1 else "were"
        yield (
            f"{plural(len(tested), 'contrast')} declared before the study {were} tested by "
            f"{comparison.permutations:,} swaps of whole records between two arms, adjusted by "
            "step-down min-P (Westfall & Young 1993)."
        )
    if weak := comparison.weak_classes:
        yield (
            f"For {listing(weak)} fewer than {MIN_EFFECTIVE_PATIENTS:g} effective patients carry "
            "the class: no interval or test is given."
        )


@cache
def published() -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return header and rows of `literature.csv`: published results on DS2, figures in %.

    The flag says whether DS2 was used to choose settings or a checkpoint, or was scored
    repeatedly. None of the papers gives AUPRC.
    """
    content = (files("study.reporting.page") / "literature.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(content.splitlines())
    return tuple(header), tuple(map(tuple, rows))


def literature(results: StudyResults) -> Iterator[Block]:
    """Yield published results; they are the same beside every study."""
    header, rows = published()
    flags = [row[header.index("flag")] for row in rows]
    yield Note(
        "These are figures on DS2 of MIT-BIH, and this page's are cross-validated on "
        f"{results.study.plan.selection_sees}: they cannot be compared. One record (232) holds "
        "75 % of the S beats of DS2.",
        Tone.WARNING,
    )
    yield Table(
        name="literature",
        title="Published results on DS2",
        shows=(
            "Inter-patient results with the split of de Chazal et al.: Se / +P / F1 in %, beats "
            "pooled, as printed or computed from Se and +P."
        ),
        reading=(
            f"{flags.count('selected on DS2')} selected on DS2, which makes their figures upper "
            f"bounds; {flags.count('DS2 scored repeatedly')} are from authors who scored DS2 more "
            f"than once, and may be too high; {flags.count('not stated')} do not state what they "
            "selected on. Only rows marked 'DS1 only' estimate performance on new patients."
        ),
        columns=[Column(name, Kind.TEXT if k else Kind.NAME) for k, name in enumerate(header)],
        rows=rows,
    )


def provenance(results: StudyResults) -> Iterator[Block]:
    """Yield fingerprints, commit, versions, device and times."""
    study, plan = results.study, results.study.plan
    seconds = [row.seconds for row in study.rows]
    facts: dict[str, object] = {
        "study": study.name,
        "space": f"{plan.space} ({plan.space_digest})",
        "records": plan.data_source,
        **{f"beats, {cut}": mark for cut, mark in plan.data_fingerprints.items()},
        "folds": plan.fold_fingerprint,
        "study package": plan.version,
        **(study.starts[-1].about if study.starts else {}),
        "trial time": f"{sum(seconds) / 3600:.2f} h in all, {max(seconds):.0f} s the longest"
        if seconds
        else None,
        "page written": results.written,
    }
    yield Table(
        name="provenance",
        title="Where these figures come from",
        shows="Digests of records, beats and folds, and the software and devices of the trials.",
        reading="Two studies with equal fingerprints saw the same beats in the same folds.",
        columns=[Column("what", Kind.NAME), Column("value", Kind.TEXT)],
        rows=[[name, str(value) if value else None] for name, value in facts.items()],
    )
    if not study.starts:
        yield missing("No commit, versions and device", "the study has not been started yet")
