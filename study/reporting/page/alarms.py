"""What has to be known before believing the page, and what was not shown: as large as the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import Outcome, reliance
from study.reporting.alarms import NO_RELIANCE
from study.reporting.page.blocks import Block, Note, Section, Table, Tone, missing, text
from study.reporting.page.results import StudyResults
from study.reporting.page.words import interval_text, mean, objective_name, plural, quantity_of


def alarms(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="alarms", title="Alarms", blocks=list(_alarms(results)))


def _alarms(results: StudyResults) -> Iterator[Block]:
    if not results.rows:
        yield missing("No alarms", "no trial has settled")
        return
    if not results.alarms:
        yield Note("None of the checks found anything.", Tone.GOOD)
        return
    yield Table(
        name="alarms",
        title="What the checks found",
        shows=(
            "Each thing that is wrong or not supported, with the figures that say so and what to "
            "do about it."
        ),
        reading=(
            "An error means that what it names is no result; a warning that a conclusion which "
            "looks likely is not supported; a note belongs beside the table."
        ),
        header=["severity", "what", "evidence", "what to do"],
        rows=[
            [text(alarm.severity), text(alarm.what), text(alarm.evidence), text(alarm.advice)]
            for alarm in results.alarms
        ],
        text_columns=(1, 2, 3),
    )


def not_shown(results: StudyResults) -> Section:
    """Return the section of negative results."""
    return Section(
        anchor="not-shown", title="What was not shown", blocks=list(_not_shown(results))
    )


def _not_shown(results: StudyResults) -> Iterator[Block]:
    if not results.ranked:
        yield missing("Nothing was shown", "no trial is complete")
        return
    yield from (Note(sentence, Tone.NOTE) for sentence in negative_results(results))


def negative_results(results: StudyResults) -> list[str]:
    """Return what a reader might believe and this study does not show, a sentence each."""
    found = []
    if results.searches:
        found.append(
            "That any arm is better than another: a search gives unequal tries, and trains some "
            "for fewer epochs. It names candidates."
        )
    if results.comparison is not None and not results.searches:
        quantity, name = quantity_of(results), objective_name(results.objective)
        declared = [pair for pair in results.comparison.contrasts if pair.primary]
        for pair in declared:
            one = pair.estimates[quantity]
            if not (one.low > 0 or one.high < 0):
                why = f"{name} {interval_text(one, signed=True)}"
                found.append(f"A difference between {pair.first} and {pair.second}: {why}.")
            elif one.high < 0:
                found.append(
                    f"That {pair.first} is better than {pair.second}: it is worse, "
                    f"{name} {interval_text(one, signed=True)}."
                )
        classes = [fact.name for fact in results.comparison.classes if not fact.estimable]
        if classes:
            found.append(
                f"Anything about {', '.join(classes)}: too few patients carry "
                f"{'it' if len(classes) == 1 else 'them'} for an interval."
            )
        for kept in results.comparison.non_inferiority:
            lost = [name for name, verdict in kept.verdicts.items() if verdict != "kept"]
            if lost:
                found.append(
                    f"That {kept.arm} keeps what {kept.reference} does on {' and '.join(lost)}."
                )
    found += _unused(results)
    failed, pruned = results.count(Outcome.FAILED), results.count(Outcome.PRUNED)
    if failed:
        found.append(f"Anything about what failed: {plural(failed, 'trial')}.")
    if pruned:
        found.append(f"What {plural(pruned, 'trial')} stopped early would have scored in the end.")
    if screened := results.count(Outcome.SCREENED):
        found.append(f"What {plural(screened, 'screened configuration')} would score in full.")
    if not results.sealed:
        found.append("Anything about patients outside DS1: the sealed test set was not opened.")
    return found


def _unused(results: StudyResults) -> Iterator[str]:
    for arm, facts in results.arms.items():
        rows = [row for row in results.ranked if row.arm == arm]
        lost = mean(row.metric(reliance("inputs", "S")) for row in rows)
        if facts.real and rows and math.isfinite(lost) and abs(lost) <= NO_RELIANCE:
            yield (
                f"That {arm} uses the RR that it is given: permuting it loses {lost:+.3f} of "
                "AUPRC S."
            )
