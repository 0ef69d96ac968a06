"""What a reader in a hurry gets: which arm, by how much, how sure, with RR or not, worth what.

Every figure stands in a section below with what it means, and every alarm with its evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from study.keys import Outcome, reliance
from study.reporting.alarms import NO_RELIANCE, Severity
from study.reporting.layout import short
from study.reporting.page.blocks import Block, Facts, Note, Section, Tone
from study.reporting.page.results import StudyResults
from study.reporting.page.words import (
    interval_text,
    mean,
    objective_name,
    p_text,
    plural,
    quantity_of,
)
from study.statistics.findings import Choice, Contrast

CHANCE = "floor: prevalence"


def first_screen(results: StudyResults) -> Section:
    """Return the first section."""
    return Section(anchor="answer", title="The answer", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    if results.synthetic:
        yield Note(
            "The records are SYNTHETIC: the figures say nothing about patients.", Tone.ERROR
        )
    state = _state(results)
    if state:
        yield state
    yield Facts(
        [_which(results), _by_how_much(results), _how_sure(results)]
        + [_uses_rr(results), _sealed(results), _floor(results)]
    )
    for alarm in results.alarms:
        if alarm.severity is not Severity.NOTE:
            said = f"{alarm.what[:1].upper()}{alarm.what[1:]}: {alarm.advice}."
            yield Note(said, Tone(str(alarm.severity)))
    notes = sum(alarm.severity is Severity.NOTE for alarm in results.alarms)
    if results.ranked and notes == len(results.alarms):
        said = f"; {plural(notes, 'note')} below" if notes else ""
        yield Note(f"Alarms: no error and no warning{said}.", Tone.GOOD)
    yield Note(results.openings or "No log of openings was read.", Tone.NOTE)


def _state(results: StudyResults) -> Note | None:
    failed = results.count(Outcome.FAILED)
    planned = int(results.plan["trials"])
    done = f"{len(results.rows)} of {planned} trials settled"
    if not results.rows:
        what = "is running, and" if results.state == "running" else "has not settled a trial:"
        return Note(f"The study {what} nothing is known yet ({done}).", Tone.MISSING)
    if failed == len(results.rows):
        return Note(f"All {plural(failed, 'trial')} failed: there is no result.", Tone.ERROR)
    if results.state == "running":
        return Note(f"The study is running: {done}. The figures will change.", Tone.WARNING)
    if results.state == "unfinished":
        return Note(f"The study is unfinished: {done}. --resume continues it.", Tone.WARNING)
    return None


def _choice(results: StudyResults) -> Choice | None:
    return None if results.comparison is None else results.comparison.choice


def leading(results: StudyResults) -> str:
    """Return the arm that the page speaks of first; empty without any."""
    choice = _choice(results)
    if choice is not None:
        return choice.best
    if results.comparison is not None and results.comparison.arms:
        return results.comparison.arms[0].name
    best = max(results.ranked, key=lambda row: row.metric(results.objective), default=None)
    return "" if best is None else best.arm


def _which(results: StudyResults) -> tuple[str, str, str]:
    label, arm = "Which arm?", leading(results)
    if not arm:
        return label, "none yet", results.why("comparison", "no trial is complete")
    name = objective_name(results.objective)
    if results.searches:
        value = max(row.metric(results.objective) for row in results.ranked if row.arm == arm)
        return (
            label,
            "no winner is named",
            f"a search gives arms unequal tries; first candidate: {arm}, {name} {short(value)} "
            "of its best trial, which is optimistic",
        )
    choice = _choice(results)
    if choice is None:
        return label, arm, f"the only arm, or {name} is undefined: nothing to choose"
    simpler = (
        f"; the simplest within one standard error is {choice.simplest}"
        if choice.simplest != arm and not _unsure(results)
        else ""
    )
    return (
        label,
        arm,
        f"{name} {short(choice.corrected)} to quote (its own {short(choice.value)} is optimistic: "
        f"it was chosen by it){simpler}",
    )


def _unsure(results: StudyResults) -> bool:
    comparison, quantity = results.comparison, quantity_of(results)
    return comparison is None or math.isnan(comparison.arms[0].estimates[quantity].se)


def contrast_of_first(results: StudyResults) -> Contrast | None:
    """Return the contrast that says most about the leading arm: against its placebo, if there is.

    Else against the reference, else the first declared one with it.
    """
    comparison, arm = results.comparison, leading(results)
    if comparison is None or results.searches or arm not in results.arms:
        return None
    against = [results.arms[arm].stand_in, results.reference]
    mine = [pair for pair in comparison.contrasts if pair.first == arm]
    for other in against:
        for pair in mine:
            if pair.second == other:
                return pair
    return next((pair for pair in mine if pair.primary), mine[0] if mine else None)


def _by_how_much(results: StudyResults) -> tuple[str, str, str]:
    label, pair = "By how much?", contrast_of_first(results)
    if pair is None:
        why = "a search has no paired differences" if results.searches else "nothing to subtract"
        return label, "not shown", results.why("comparison", why)
    found = pair.estimates[quantity_of(results)]
    name = objective_name(results.objective)
    return label, interval_text(found, signed=True), f"{name}, {pair.first} minus {pair.second}"


def _how_sure(results: StudyResults) -> tuple[str, str, str]:
    label, pair, choice = "How sure?", contrast_of_first(results), _choice(results)
    if pair is None or choice is None:
        return label, "nothing is claimed", "there is no test of unequal tries, or of one arm"
    found = pair.estimates[quantity_of(results)]
    often = choice.selected.get(choice.best, math.nan)
    chosen = f"best in {often:.0%} of resampled patients and seeds" if often == often else ""
    if math.isnan(found.low):
        return label, "not estimable", f"{found.remark}; {chosen}".strip("; ")
    test = (
        f"p {p_text(pair.p)}, adjusted {p_text(pair.p_adjusted)}"
        if math.isfinite(pair.p)
        else "not among the declared contrasts: no test"
    )
    if found.low > 0 and (math.isnan(pair.p_adjusted) or pair.p_adjusted < 0.05):
        verdict = "the interval is above 0"
    elif found.high < 0:
        verdict = "the interval is below 0"
    else:
        verdict = "a difference is not shown"
    return label, verdict, "; ".join(part for part in (test, chosen) if part)


def _uses_rr(results: StudyResults) -> tuple[str, str, str]:
    label, arm = "Does it use RR?", leading(results)
    rows = [row for row in results.ranked if row.arm == arm]
    if not rows:
        return label, "unknown", "no complete trial"
    lost = {
        kind: mean(row.metric(reliance(kind, "S")) for row in rows)
        for kind in ("inputs", "window")
    }
    said = [
        f"{short(value, signed=True)} AUPRC S lost when RR is permuted in its {kind}"
        for kind, value in lost.items()
        if math.isfinite(value)
    ]
    return label, _verdict(results, arm, lost), "; ".join(said) or "it has no RR to permute"


def _verdict(results: StudyResults, arm: str, lost: Mapping[str, float]) -> str:
    facts = results.arms.get(arm)
    if facts is not None and facts.routes.startswith("RR cannot"):
        return "it cannot"
    by_inputs, by_window = (lost[kind] > NO_RELIANCE for kind in ("inputs", "window"))
    if by_inputs:
        return "yes, and its window too" if by_window else "yes"
    return "through its window only" if by_window else "not shown"


def _sealed(results: StudyResults) -> tuple[str, str, str]:
    label = "What is it worth on DS2?"
    if not results.sealed:
        return label, "not opened", "for this study the sealed test set has not been opened"
    last = results.sealed[-1]
    name = "test_auprc_sv"
    values = {arm: of[name] for arm, of in last.arms.items() if name in of}
    if not values:
        return label, "opened", f"plan {last.plan}: see below"
    arm = leading(results) if leading(results) in values else next(iter(values))
    value, sd = values[arm]
    shown = f"{short(value)} ± {short(sd)}"
    return label, shown, f"AUPRC S+V of {arm}, mean ± sd over {last.seeds} seeds; {last.plan}"


def _floor(results: StudyResults) -> tuple[str, str, str]:
    label = "Against which floor?"
    values = {
        name: float(of[results.objective])
        for name, of in results.floors.items()
        if math.isfinite(of.get(results.objective, math.nan))
    }
    if not values:
        return label, "none", results.why("floors", "the study has none")
    highest = max(values, key=lambda name: values[name])
    rest = [f"{name.removeprefix('floor: ')} {short(v)}" for name, v in values.items()]
    return (
        label,
        f"{highest.removeprefix('floor: ')} {short(values[highest])}",
        f"{objective_name(results.objective)} of what an arm must beat: {', '.join(rest)}",
    )
