"""The arms by score, what each class rests on, and the same scores looked at in other ways."""

from __future__ import annotations

from collections.abc import Iterator

from study.reporting.comparison_tables import beside_table, choice_sentences, classes_table
from study.reporting.page.html import Block, Note, missing
from study.reporting.results import StudyResults
from study.reporting.trial_tables import arms_table, best_table


def ranking(results: StudyResults) -> Iterator[Block]:
    """Yield the arms by score, and what their scores rest on."""
    if not results.study.rows:
        yield missing("No ranking", results.why("comparison", "no trial has settled"))
        return
    comparison = results.comparison
    yield arms_table(
        results.study.rows,
        results.study.objective,
        results.study.plan.kind,
        arms=results.arms,
        comparison=comparison,
        floors=results.floors,
    )
    if comparison is None:
        yield missing("No intervals", results.why("comparison", "no arm can be compared"))
        return
    yield from map(Note, choice_sentences(comparison))
    if results.searches:
        best = best_table(results.study.rows, results.study.objective, comparison)
        yield best or missing("No best configurations", "no trial is complete")
    yield beside_table(comparison)
    yield classes_table(comparison)
