"""A study's answer on the console, in a sentence or two."""

from __future__ import annotations

import math
from collections.abc import Mapping

from study.reporting.answer import FIRST, lead, why_none
from study.reporting.comparison_tables import pair_name
from study.reporting.results import StudyResults
from study.reporting.trial_tables import mean_scores
from study.statistics.findings import metric_name
from study.store.floors import highest_floor
from study.wording import capital, first_few, listing, p_text, plural, score_text


def answer(results: StudyResults, names: Mapping[str, str]) -> str:
    """Return the answer to a study's question; `names` are short names of its arms."""
    study = results.study
    if reason := why_none(results):
        found = f"none, as {reason}."
    else:
        found = _first(results, names) if results.searches else _compared(results, names)
    if study.unfinished:
        found = f"so far, after {len(study.rows)} of {plural(study.plan.trials, 'trial')}: {found}"
    return ". ".join([*results.caveats, capital(found)])


def _first(results: StudyResults, names: Mapping[str, str]) -> str:
    """Name the first arms of a search, and the highest floor."""
    objective, best = results.study.objective, results.study.arm_scores
    first = list(best)[:FIRST]
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
    first, name = lead(results), metric_name(results.study.objective)
    arm = names.get(first.arm, first.arm)
    if results.comparison is None:
        means = mean_scores(results.ranked, results.study.objective)
        scores = [f"{names.get(arm, arm)} {score_text(mean)}" for arm, mean in means.items()]
        why = "the arms are not compared" if len(means) > 1 else "it is compared with no other arm"
        return f"{name}: {first_few(scores)}; {why}."
    text = f"first in {name} is {arm}"
    if first.choice is not None and math.isfinite(first.choice.to_quote):
        text += f", {score_text(first.choice.to_quote)} to quote"
    if (pair := first.contrast) is not None:
        test = f", adjusted p {p_text(pair.p_adjusted)}" if math.isfinite(pair.p_adjusted) else ""
        text += f"; {pair_name(pair)}: {first.difference(pair)}{test}: {first.verdict}"
    if (over := first.over_floor) is not None:
        beside = first.beside_floor("it beats", "it is below", "it is not shown to beat")
        text += f"; {beside} the floor, {over.second}: {first.difference(over)}"
    return f"{text}."
