"""The first screen: the study's answer, question by question, and the arms by score.

Sections below explain every figure, and give the evidence of every alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import RELIANCE_CLASSES, Outcome
from study.reporting.alarms import Severity
from study.reporting.answer import FIRST, Lead, lead, why_none
from study.reporting.comparison_tables import choice_text
from study.reporting.page.html import Answer, Answers, Block, Note, Tone
from study.reporting.page.ranking import arms_as_dots
from study.reporting.results import StudyResults
from study.reporting.table import NOT_ESTIMABLE, interval_text
from study.statistics.findings import metric_name, parts_of
from study.statistics.rr_use import RRUse
from study.wording import (
    capital,
    first_few,
    listing,
    p_text,
    plural,
    score_text,
    short_names,
)


def first_screen(results: StudyResults) -> Iterator[Block]:
    """Yield the answers, the arms by score, the alarms behind them and the openings of DS2."""
    for caveat in results.caveats:
        yield Note(f"{caveat}.", Tone.ERROR)
    state = _state(results)
    if state:
        yield state
    yield Answers(answers(results))
    if (dots := arms_as_dots(results)) is not None:
        yield dots
    for alarm in results.alarms:
        if alarm.severity is not Severity.NOTE:
            yield Note(f"{capital(alarm.what)}: {alarm.advice}.", Tone(str(alarm.severity)))
    notes = sum(alarm.severity is Severity.NOTE for alarm in results.alarms)
    if results.ranked and notes == len(results.alarms):
        below = f"; {plural(notes, 'note')} below" if notes else ""
        yield Note(f"Alarms: no error and no warning{below}.", Tone.GOOD)
    if results.study.plan.has_sealed_test and results.count(Outcome.COMPLETE):
        yield Note(results.openings or "No log of openings was read.", Tone.NOTE)


def answers(results: StudyResults) -> list[Answer]:
    """Return the questions of the first screen and their answers."""
    if not results.count(Outcome.COMPLETE):
        return [_next(results)]
    if results.searches:
        parts = (_candidates, _clearing_floor, _ignoring_rr, _next)
        return [part(results) for part in parts]
    first = lead(results)
    of_lead = (_which, _by_how_much, _how_sure, _uses_rr, _sealed, _floor)
    return [part(results, first) for part in of_lead]


def answer_text(results: StudyResults) -> str:
    """Return the answers as Markdown, for a description in MLflow."""
    return "\n".join(
        [
            *(f"**{caveat}.**\n" for caveat in results.caveats),
            *(
                f"- {question} **{answer}**: {remark}"
                for question, answer, remark in answers(results)
            ),
            "",
            f"`python -m study.report --study {results.study.name}` writes the page; it is then "
            "among the files of this run.",
        ]
    )


def _state(results: StudyResults) -> Note | None:
    study = results.study
    settled = f"{len(study.rows)} of {plural(study.plan.trials, 'trial')} settled"
    if not study.rows:
        state = "is running, and" if study.held else "has no settled trial:"
        return Note(f"The study {state} nothing is known yet ({settled}).", Tone.WARNING)
    if results.count(Outcome.FAILED) == len(study.rows):
        return Note(f"{capital(why_none(results))}: there is no result.", Tone.ERROR)
    if study.held:
        return Note(f"The study is running: {settled}. The figures will change.", Tone.WARNING)
    if study.unfinished:
        return Note(f"The study is unfinished: {settled}. --resume continues it.", Tone.WARNING)
    return None


def _which(results: StudyResults, first: Lead) -> Answer:
    question, arm, choice = "Which arm?", first.arm, first.choice
    if not arm:
        return question, "none yet", results.why("comparison", why_none(results))
    name = metric_name(results.study.objective)
    if results.comparison is None and len({row.arm for row in results.ranked}) > 1:
        return question, "unknown", results.why("comparison", "the arms are not compared yet")
    if choice is None:
        return question, arm, f"the only arm, or {name} is undefined: nothing to choose"
    as_good = [other for other in choice.within if other != arm]
    alternatives = (
        f"; within one standard error of it, the simplest first: {_named(results, as_good)}"
        if as_good
        else ""
    )
    return (
        question,
        arm,
        f"{name} {choice_text(choice)}{alternatives}",
    )


def _by_how_much(results: StudyResults, first: Lead) -> Answer:
    question, pair = "By how much?", first.contrast
    if pair is None:
        return question, "not shown", results.why("comparison", "nothing to subtract")
    name = metric_name(results.study.objective)
    return question, first.difference(pair), f"{name}, {pair.first} minus {pair.second}"


def _how_sure(results: StudyResults, first: Lead) -> Answer:
    question, pair, choice = "How sure?", first.contrast, first.choice
    if pair is None or choice is None:
        return question, "nothing is claimed", "there is no test of one arm"
    if first.verdict == NOT_ESTIMABLE:
        test = pair.estimates[first.quantity].remark
    elif math.isfinite(pair.p):
        test = f"p {p_text(pair.p)}, adjusted {p_text(pair.p_adjusted)}"
    else:
        test = "not among the declared contrasts: no test"
    share = choice.selected.get(choice.best, math.nan)
    chosen = f"best in {share:.0%} of resampled patients and seeds" if share == share else ""
    return question, first.verdict, "; ".join(part for part in (test, chosen) if part)


def _uses_rr(results: StudyResults, first: Lead) -> Answer:
    question, arm = "Does it use RR?", first.arm
    if not results.trials_of(arm):
        return question, "unknown", "no complete trial"
    losses = {kind: results.rr_loss(arm, kind) for kind in ("inputs", "window")}
    lost = [
        f"{loss.text} lost when RR is permuted in its {kind}"
        for kind, loss in losses.items()
        if loss.use is not RRUse.ABSENT
    ]
    inputs, window = (loss.use for loss in losses.values())
    if RRUse.YES in (inputs, window):
        verdict = "yes" if inputs is RRUse.YES else "through its window"
        verdict += ", and its window too" if inputs is window else ""
    elif {inputs, window} <= {RRUse.ABSENT, RRUse.CANNOT}:
        verdict = "it cannot"
    else:
        verdict = str(RRUse.UNCLEAR if RRUse.UNCLEAR in (inputs, window) else RRUse.NO)
    return question, verdict, "; ".join(lost) or "it has no RR to permute"


def _sealed(results: StudyResults, first: Lead) -> Answer:
    question = "What is it worth on sealed patients?"
    if not results.sealed and not results.study.plan.has_sealed_test:
        return question, "unknown", f"none are set aside of {results.study.plan.selection_sees}"
    if not results.sealed:
        return question, "not opened", "for this study the sealed test set has not been opened"
    last = results.sealed[-1]
    name = "test_auprc_sv"
    values = {arm: metrics[name] for arm, metrics in last.arms.items() if name in metrics}
    if not values:
        return question, "opened", f"plan {last.plan}: see below"
    arm = first.arm if first.arm in values else next(iter(values))
    mean, sd = map(score_text, values[arm])
    seeds = plural(last.seeds, "seed")
    return (
        question,
        f"{mean} ± {sd}",
        f"AUPRC S+V of {arm}, mean ± sd over {seeds}; {last.plan}",
    )


def _floor(results: StudyResults, first: Lead) -> Answer:
    question, pair = "Does it beat the floor?", first.over_floor
    if pair is None:
        return question, "unknown", _no_floor(results)
    return (
        question,
        first.beside_floor("yes", "no, it is below", "not shown"),
        f"{metric_name(results.study.objective)}, {first.arm} minus {pair.second} on the same "
        f"patients: {first.difference(pair)}",
    )


def _no_floor(results: StudyResults) -> str:
    reason = "no arm is compared with one" if results.floors else "the study has none"
    return results.why("floors", results.why("comparison", reason))


def _named(results: StudyResults, arms: list[str]) -> str:
    names = short_names(results.study.arm_scores)
    return first_few([names.get(arm, arm) for arm in arms])


def _candidates(results: StudyResults) -> Answer:
    question, best = "First candidates", results.study.arm_scores
    if not best:
        return question, "none yet", results.why("comparison", why_none(results))
    first = list(best)[:FIRST]
    scores = ", ".join(score_text(best[arm]) for arm in first)
    return (
        question,
        _named(results, first),
        f"{metric_name(results.study.objective)} {scores} of the best trial of each. No winner is "
        "named: arms had unequal tries, and the best of several is optimistic",
    )


def _clearing_floor(results: StudyResults) -> Answer:
    question, comparison = "What clears the floor?", results.comparison
    pairs = () if comparison is None else comparison.above_floor
    if not pairs:
        return question, "unknown", _no_floor(results)
    quantity = parts_of(results.study.objective)[1]
    differences = {pair.first: pair.estimates[quantity] for pair in pairs}
    clear = [arm for arm, difference in differences.items() if difference.low > 0]
    closest = max(differences, key=lambda arm: (arm in clear, differences[arm].value))
    name = short_names(differences)[closest]
    return (
        question,
        _named(results, clear) if clear else f"none of {plural(len(pairs), 'arm')} is shown to",
        f"{metric_name(results.study.objective)}, best trial of {name} minus {pairs[0].second} on "
        f"the same patients: {interval_text(differences[closest], signed=True)}",
    )


def _ignoring_rr(results: StudyResults) -> Answer:
    question = "What ignores RR?"
    real = [arm for arm in results.study.arm_scores if results.arms[arm].real]
    losses = {arm: results.rr_loss(arm) for arm in real}
    losses = {arm: loss for arm, loss in losses.items() if loss.use is not RRUse.ABSENT}
    if not losses:
        return question, "unknown", "no complete trial is given RR"
    reasons = {
        RRUse.CANNOT: "permuting it changes no output",
        RRUse.NO: f"permuting it loses nothing of AUPRC {listing(RELIANCE_CLASSES)}",
    }
    ignoring = {use: [arm for arm in losses if losses[arm].use is use] for use in reasons}
    ignoring = {use: arms for use, arms in ignoring.items() if arms}
    if not ignoring:
        least = min(losses, key=lambda arm: losses[arm].size)
        return (
            question,
            f"none of {plural(len(losses), 'arm')}",
            f"{_named(results, [least])} uses it least: permuting it loses {losses[least].text}",
        )
    several = len(ignoring) > 1
    said = [
        f"{reasons[use]} of {_named(results, arms)}" if several else reasons[use]
        for use, arms in ignoring.items()
    ]
    return (
        question,
        _named(results, [arm for arms in ignoring.values() for arm in arms]),
        "; ".join(said),
    )


def _next(results: StudyResults) -> Answer:
    question, name = "What next?", results.study.name
    resume = f"python -m study.run --resume {name}"
    if results.study.held:
        return question, "wait", "the study is running"
    if results.study.unfinished:
        return question, resume, "goes on with what is left"
    if not results.ranked:
        return question, f"{resume} --retry-failed", "once the cause of the failures is mended"
    return (
        question,
        f"python -m study.run --confirm {name}",
        "compares its candidates, afresh and with equal tries: only that supports a claim",
    )
