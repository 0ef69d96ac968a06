"""A study's answer on the console, in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Mapping

from study.keys import UNRANKED, Outcome
from study.reporting.comparison_tables import pair_name
from study.reporting.page.answer import contrast_of_first, leading
from study.reporting.results import StudyResults
from study.reporting.table import interval_text
from study.reporting.trial_tables import arms_in_order
from study.statistics.findings import metric_name, parts_of
from study.store.floors import highest_floor
from study.wording import SYNTHETIC, listing, p_text, plural, score_text

_NAMED = 3
"""How many candidates the answer of a search names."""


def answer(results: StudyResults, names: Mapping[str, str]) -> str:
    """Return the answer to a study's question.

    Args:
        results: The study's results, as far as it has any.
        names: Short names of arms.
    """
    study = results.study
    parts = ["this was a rehearsal: its scores mean nothing"] if study.space.rehearses else []
    parts += [SYNTHETIC] if study.plan.data_source == "synthetic" else []
    found = _found(results, names)
    if study.unfinished:
        found = f"so far, after {len(study.rows)} of {plural(study.plan.trials, 'trial')}: {found}"
    return ". ".join(part[:1].upper() + part[1:] for part in [*parts, found])


def _found(results: StudyResults, names: Mapping[str, str]) -> str:
    study = results.study
    if not results.ranked:
        failed = results.count(Outcome.FAILED)
        if failed and failed == len(study.rows):
            return (
                f"none, as {'the only trial' if failed == 1 else f'all {failed} trials'} failed."
            )
        if study.objective == UNRANKED:
            return "nothing is ranked, as every record trains."
        return "none, as no trial is complete."
    return _candidates(results, names) if results.searches else _compared(results, names)


def _candidates(results: StudyResults, names: Mapping[str, str]) -> str:
    """Name the first candidates of a search, and the highest floor."""
    objective = results.study.objective
    best = {arm: row.metric(objective) for arm, row in results.study.arm_trials.items()}
    first = sorted(best, key=lambda arm: -best[arm])[:_NAMED]
    scores = listing(f"{names.get(arm, arm)} {score_text(best[arm])}" for arm in first)
    text = (
        f"the first candidate{'s' if len(first) > 1 else ''} by {metric_name(objective)}: "
        f"{scores}. A search gives arms unequal tries and names no winner."
    )
    if (highest := highest_floor(results.floors, objective)) is not None:
        score = score_text(highest.metrics[objective])
        text += f" The highest floor, {highest.words}, scores {score}."
    return text


def _compared(results: StudyResults, names: Mapping[str, str]) -> str:
    """Say the leading arm's score, its lead, and whether a difference is shown."""
    comparison, objective = results.comparison, results.study.objective
    name, quantity = metric_name(objective), parts_of(objective)[1]
    if comparison is None:
        first = arms_in_order(results.study.rows, objective)[0]
        return f"{names.get(first, first)} has the highest {name}; the arms are not compared."
    first, choice = leading(results), comparison.choice
    text = f"{names.get(first, first)} is first in {name}"
    if choice is not None and math.isfinite(choice.corrected):
        text += f", {score_text(choice.corrected)} to quote"
    pair = contrast_of_first(results)
    if pair is not None:
        difference = interval_text(pair.estimates[quantity], signed=True)
        test = f", adjusted p {p_text(pair.p_adjusted)}" if math.isfinite(pair.p_adjusted) else ""
        shown = "a difference is shown" if pair.shown(quantity) else "a difference is not shown"
        text += f"; {pair_name(pair)}: {difference}{test}: {shown}"
    for over in comparison.above_floor:
        if over.first == first:
            difference = interval_text(over.estimates[quantity], signed=True)
            beats = "it beats" if over.estimates[quantity].low > 0 else "it is not shown to beat"
            text += f"; {beats} the floor, {over.second}: {difference}"
    return f"{text}."
