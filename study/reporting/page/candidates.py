"""The answers of a search's first screen: its candidates, the floor, RR, and what to do next."""

from __future__ import annotations

import math

from study.keys import RELIANCE_CLASSES
from study.reporting.page.html import Answer
from study.reporting.results import StudyResults
from study.reporting.table import interval_text
from study.statistics.findings import metric_name, parts_of
from study.statistics.rr_use import RRUse
from study.wording import first_few, listing, plural, score_text, short_names

CANDIDATES = 3
"""How many arms are named; `--confirm` compares more of them."""


def search_answers(results: StudyResults) -> list[Answer]:
    """Return the answers of a search: it names candidates and no winner."""
    return [_candidates(results), _floor(results), _ignoring_rr(results), _next(results)]


def _ranked_arms(results: StudyResults) -> dict[str, float]:
    """Return the objective of each arm's best trial, the best first."""
    best: dict[str, float] = {}
    for row in results.ranked:
        value = row.metric(results.study.objective)
        best[row.arm] = max(value, best.get(row.arm, -math.inf))
    return dict(sorted(best.items(), key=lambda item: -item[1]))


def _named(results: StudyResults, arms: list[str]) -> str:
    names = short_names(_ranked_arms(results))
    return first_few([names.get(arm, arm) for arm in arms])


def _candidates(results: StudyResults) -> Answer:
    question, best = "First candidates", _ranked_arms(results)
    if not best:
        return question, "none yet", results.why("comparison", "no trial is complete")
    first = list(best)[:CANDIDATES]
    scores = ", ".join(score_text(best[arm]) for arm in first)
    return (
        question,
        _named(results, first),
        f"{metric_name(results.study.objective)} {scores} of the best trial of each. No winner is "
        "named: arms had unequal tries, and the best of several is optimistic",
    )


def _floor(results: StudyResults) -> Answer:
    question, comparison = "What clears the floor?", results.comparison
    pairs = () if comparison is None else comparison.above_floor
    if not pairs:
        reason = "no arm is compared with one" if results.floors else "the study has none"
        return question, "unknown", results.why("floors", results.why("comparison", reason))
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
    real = [arm for arm in _ranked_arms(results) if results.arms[arm].real]
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
        least = min(losses, key=lambda arm: max(losses[arm].value.values()))
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
    if results.study.held:
        return question, "wait", "the study is running"
    if results.study.unfinished:
        return question, "--resume", "the command that started it, with --resume, continues it"
    if not results.ranked:
        return question, "mend the cause", "no trial is complete: see the failed ones"
    return (
        question,
        f"python -m study.run --confirm {name}",
        "compares its candidates, afresh and with equal tries: only that supports a claim",
    )
