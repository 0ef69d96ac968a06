"""The first screen: the best arm, its lead, the certainty, use of RR, the sealed test, the floor.

Sections below explain every figure, and give the evidence of every alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import Outcome
from study.reporting.alarms import Severity
from study.reporting.page.candidates import search_answers
from study.reporting.page.html import Answer, Answers, Block, Note, Tone
from study.reporting.page.ranking import arms_as_dots
from study.reporting.results import StudyResults
from study.reporting.table import NOT_ESTIMABLE, interval_text
from study.statistics.findings import (
    Choice,
    Contrast,
    metric_name,
    parts_of,
    reversed_contrast,
)
from study.statistics.rr_use import RRUse
from study.wording import SYNTHETIC, p_text, plural, score_text


def first_screen(results: StudyResults) -> Iterator[Block]:
    """Yield the answers, the arms by score, the alarms behind them and the openings of DS2."""
    if results.study.plan.data_source == "synthetic":
        yield Note(f"{SYNTHETIC[:1].upper()}{SYNTHETIC[1:]}.", Tone.ERROR)
    state = _state(results)
    if state:
        yield state
    yield Answers(answers(results))
    if (dots := arms_as_dots(results)) is not None:
        yield dots
    for alarm in results.alarms:
        if alarm.severity is not Severity.NOTE:
            sentence = f"{alarm.what[:1].upper()}{alarm.what[1:]}: {alarm.advice}."
            yield Note(sentence, Tone(str(alarm.severity)))
    notes = sum(alarm.severity is Severity.NOTE for alarm in results.alarms)
    if results.ranked and notes == len(results.alarms):
        below = f"; {plural(notes, 'note')} below" if notes else ""
        yield Note(f"Alarms: no error and no warning{below}.", Tone.GOOD)
    if results.study.plan.has_sealed_test:
        yield Note(results.openings or "No log of openings was read.", Tone.NOTE)


def answers(results: StudyResults) -> list[Answer]:
    """Return the questions of the first screen and their answers."""
    if results.searches:
        return search_answers(results)
    return [
        *(_which(results), _by_how_much(results), _how_sure(results)),
        *(_uses_rr(results), _sealed(results), _floor(results)),
    ]


def answer_text(results: StudyResults) -> str:
    """Return the answers as Markdown, for a description in MLflow."""
    synthetic = results.study.plan.data_source == "synthetic"
    return "\n".join(
        [
            *([f"**{SYNTHETIC}**", ""] if synthetic else []),
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
    study, failed = results.study, results.count(Outcome.FAILED)
    settled = f"{len(study.rows)} of {plural(study.plan.trials, 'trial')} settled"
    if not study.rows:
        state = "is running, and" if study.held else "has no settled trial:"
        return Note(f"The study {state} nothing is known yet ({settled}).", Tone.MISSING)
    if failed == len(study.rows):
        every = "The only trial" if failed == 1 else f"All {failed} trials"
        return Note(f"{every} failed: there is no result.", Tone.ERROR)
    if study.held:
        return Note(f"The study is running: {settled}. The figures will change.", Tone.WARNING)
    if study.unfinished:
        return Note(f"The study is unfinished: {settled}. --resume continues it.", Tone.WARNING)
    return None


def _choice(results: StudyResults) -> Choice | None:
    return None if results.comparison is None else results.comparison.choice


def leading(results: StudyResults) -> str:
    """Return the arm that the page leads with; empty without any."""
    choice = _choice(results)
    if choice is not None:
        return choice.best
    if results.comparison is not None and results.comparison.arms:
        return results.comparison.arms[0].name
    best = max(results.ranked, key=lambda row: row.metric(results.study.objective), default=None)
    return "" if best is None else best.arm


def _which(results: StudyResults) -> Answer:
    question, arm = "Which arm?", leading(results)
    if not arm:
        return question, "none yet", results.why("comparison", "no trial is complete")
    name = metric_name(results.study.objective)
    choice = _choice(results)
    if choice is None:
        return question, arm, f"the only arm, or {name} is undefined: nothing to choose"
    simpler = (
        f"; the simplest within one standard error is {choice.simplest}"
        if choice.simplest != arm and _has_error(results)
        else ""
    )
    return (
        question,
        arm,
        f"{name} {score_text(choice.corrected)} to quote, not its own "
        f"{score_text(choice.value)}, by which it was chosen{simpler}",
    )


def _has_error(results: StudyResults) -> bool:
    comparison = results.comparison
    quantity = parts_of(results.study.objective)[1]
    return comparison is not None and math.isfinite(comparison.arms[0].estimates[quantity].se)


def contrast_of_first(results: StudyResults) -> Contrast | None:
    """Return the most telling contrast of the leading arm.

    This is the contrast with its placebo if there is one, else with the reference, else the first
    declared contrast of the arm, whichever way round it is declared, else that with the next arm.
    """
    comparison, arm = results.comparison, leading(results)
    if comparison is None or arm not in results.arms:
        return None
    pairs = [
        pair if pair.first == arm else reversed_contrast(pair)
        for pair in comparison.contrasts
        if arm in (pair.first, pair.second)
    ]
    for other in (results.arms[arm].placebo, results.study.space.reference):
        for pair in pairs:
            if pair.second == other:
                return pair
    return next((pair for pair in pairs if pair.primary), pairs[0] if pairs else None)


def _by_how_much(results: StudyResults) -> Answer:
    question, pair = "By how much?", contrast_of_first(results)
    if pair is None:
        return question, "not shown", results.why("comparison", "nothing to subtract")
    difference = pair.estimates[parts_of(results.study.objective)[1]]
    name = metric_name(results.study.objective)
    return (
        question,
        interval_text(difference, signed=True),
        f"{name}, {pair.first} minus {pair.second}",
    )


def _how_sure(results: StudyResults) -> Answer:
    question, pair, choice = "How sure?", contrast_of_first(results), _choice(results)
    if pair is None or choice is None:
        return question, "nothing is claimed", "there is no test of one arm"
    quantity = parts_of(results.study.objective)[1]
    difference = pair.estimates[quantity]
    share = choice.selected.get(choice.best, math.nan)
    chosen = f"best in {share:.0%} of resampled patients and seeds" if share == share else ""
    if math.isnan(difference.low):
        return question, NOT_ESTIMABLE, f"{difference.remark}; {chosen}".strip("; ")
    test = (
        f"p {p_text(pair.p)}, adjusted {p_text(pair.p_adjusted)}"
        if math.isfinite(pair.p)
        else "not among the declared contrasts: no test"
    )
    if not pair.shown(quantity):
        verdict = "a difference is not shown"
    elif math.isfinite(pair.p_adjusted):
        verdict = "a difference is shown"
    else:
        verdict = f"the interval is {'above' if difference.low > 0 else 'below'} 0"
    return question, verdict, "; ".join(part for part in (test, chosen) if part)


def _uses_rr(results: StudyResults) -> Answer:
    question, arm = "Does it use RR?", leading(results)
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


def _sealed(results: StudyResults) -> Answer:
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
    arm = leading(results) if leading(results) in values else next(iter(values))
    mean, sd = map(score_text, values[arm])
    seeds = plural(last.seeds, "seed")
    return (
        question,
        f"{mean} ± {sd}",
        f"AUPRC S+V of {arm}, mean ± sd over {seeds}; {last.plan}",
    )


def _floor(results: StudyResults) -> Answer:
    question, arm, comparison = "Does it beat the floor?", leading(results), results.comparison
    pairs = [] if comparison is None else [p for p in comparison.above_floor if p.first == arm]
    if not pairs:
        reason = "no arm is compared with one" if results.floors else "the study has none"
        return question, "unknown", results.why("floors", results.why("comparison", reason))
    (pair,) = pairs
    difference = pair.estimates[parts_of(results.study.objective)[1]]
    verdict = "yes" if difference.low > 0 else "not shown"
    return (
        question,
        verdict,
        f"{metric_name(results.study.objective)}, {arm} minus {pair.second} on the same patients: "
        f"{interval_text(difference, signed=True)}",
    )
