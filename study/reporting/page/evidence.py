"""Alarms, failures, claims that the study does not support, and the sealed test."""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import CLASSES, Outcome
from study.reporting.page.html import Block, Note, Tone, missing
from study.reporting.results import StudyResults
from study.reporting.table import Column, Kind, Spread, Table, interval_text
from study.reporting.trial_tables import failures_table
from study.statistics.findings import Comparison, label_of, metric_name
from study.statistics.rr_use import RRUse
from study.store.openings import SealedResult
from study.wording import listing, p_text, plural


def alarms(results: StudyResults) -> Iterator[Block]:
    """Yield the alarms and the failed trials."""
    if not results.study.rows:
        yield missing("No alarms", "no trial has settled")
        return
    if results.alarms:
        yield Table(
            name="alarms",
            title="What the checks found",
            shows=(
                "Each finding that is wrong or not supported, with its evidence and what to do "
                "about it."
            ),
            reading=(
                "Error: the named finding is not a result. Warning: a conclusion that looks "
                "likely is not supported. Note: mention it beside the table."
            ),
            columns=[
                Column("severity", Kind.NAME),
                Column("what", Kind.TEXT),
                Column("evidence", Kind.TEXT),
                Column("what to do", Kind.TEXT),
            ],
            rows=[
                [str(alarm.severity), alarm.what, alarm.evidence, alarm.advice]
                for alarm in results.alarms
            ],
        )
    else:
        yield Note("None of the checks found anything.", Tone.GOOD)
    failures = failures_table(results.study.rows)
    if failures:
        yield failures


def not_shown(results: StudyResults) -> Iterator[Block]:
    """Yield the claims that the study does not support."""
    if not results.ranked:
        yield missing("Nothing was shown", "no trial is complete")
        return
    yield Note("This study does not show:")
    yield from (Note(sentence, Tone.NOTE) for sentence in negative_results(results))


def negative_results(results: StudyResults) -> list[str]:
    """Return claims that a reader might believe but this study does not show, a sentence each."""
    sentences = []
    if results.searches:
        sentences.append(
            "That any arm is better than another: a search gives unequal tries, and trains some "
            "for fewer epochs. It names candidates."
        )
    elif results.comparison is not None:
        sentences += _of_comparison(results.comparison)
    sentences += _unused(results)
    failed, pruned = results.count(Outcome.FAILED), results.count(Outcome.PRUNED)
    if failed:
        sentences.append(
            f"Anything about the configurations that failed: {plural(failed, 'trial')}."
        )
    if pruned:
        sentences.append(
            f"What {plural(pruned, 'trial')} stopped early would have scored in the end."
        )
    if screened := results.count(Outcome.SCREENED):
        sentences.append(f"What {plural(screened, 'screened configuration')} would score in full.")
    if not results.sealed:
        plan = results.study.plan
        sealed_set = (
            "the sealed test set was not opened" if plan.has_sealed_test else "none is set aside"
        )
        sentences.append(f"Anything about patients outside {plan.selection_sees}: {sealed_set}.")
    return sentences


def _of_comparison(comparison: Comparison) -> Iterator[str]:
    name = metric_name(comparison.objective)
    for pair in comparison.primary:
        difference = pair.estimates[comparison.quantity]
        shown = interval_text(difference, signed=True)
        if not pair.shown(comparison.quantity):
            test = f", adjusted p {p_text(pair.p_adjusted)}" if math.isfinite(pair.p) else ""
            yield f"A difference between {pair.first} and {pair.second}: {name} {shown}{test}."
        elif difference.value < 0:
            yield f"That {pair.first} is better than {pair.second}: it is worse, {name} {shown}."
    if classes := comparison.weak_classes:
        them = "it" if len(classes) == 1 else "them"
        yield (f"Anything about {listing(classes)}: too few patients have {them} for an interval.")
    not_kept: dict[tuple[str, str], list[str]] = {}
    for arm in comparison.non_inferiority:
        lost = [name for name, verdict in arm.verdicts.items() if verdict != "kept"]
        if lost:
            not_kept.setdefault((arm.reference, listing(lost)), []).append(arm.arm)
    for (reference, lost_classes), arms in not_kept.items():
        keep = "keeps" if len(arms) == 1 else "keep"
        yield f"That {listing(arms)} {keep} what {reference} does on {lost_classes}."


def _unused(results: StudyResults) -> Iterator[str]:
    for arm, facts in results.arms.items():
        loss = results.rr_loss(arm)
        if facts.real and loss.use not in (RRUse.YES, RRUse.ABSENT):
            yield f"That {arm} uses the RR that it is given: permuting it loses {loss.text}."


def sealed(results: StudyResults) -> Iterator[Block]:
    """Yield the arms' scores on the sealed test set."""
    plan = results.study.plan
    if not (results.sealed or plan.has_sealed_test):
        yield missing(
            "No sealed test", f"DS2 of MIT-BIH is sealed; this study has {plan.selection_sees}"
        )
        return
    yield Note(results.openings or "No log of openings was read.", Tone.NOTE)
    if not results.sealed:
        yield missing(
            "No result on DS2",
            results.why("sealed", "no plan based on this study has opened it"),
        )
    for number, opening in enumerate(results.sealed, start=1):
        yield _opening(opening, number)


def _opening(opening: SealedResult, number: int) -> Table:
    metrics = [(m, q) for q in ("sv", "macro", *CLASSES) for m in ("auprc", "auroc")]
    return Table(
        name=f"sealed_{number}",
        title=f"Plan {opening.plan}",
        shows=(
            f"Scores on DS2, opened {opening.opened}: mean ± sd over {opening.seeds} fresh seeds, "
            "each arm trained anew by a plan written beforehand."
        ),
        reading=(
            "The spread is over seeds, not over patients. Most S beats of DS2 are of one record: "
            "the evaluation's files have the scores without it."
        ),
        columns=[
            Column("arm", Kind.NAME),
            *(Column(f"{m.upper()} {label_of(q)}") for m, q in metrics),
        ],
        rows=[
            [arm, *(Spread(*values.get(f"test_{m}_{q}", (math.nan,))) for m, q in metrics)]
            for arm, values in opening.arms.items()
        ],
    )
