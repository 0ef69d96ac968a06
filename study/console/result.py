"""A study's final output: its tables, its alarms, and where to look further."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.addresses import shown
from study.command import seldom
from study.errors import TrackingError
from study.keys import Outcome
from study.store.folder import TRIALS
from study.wording import SYNTHETIC, plural, score_text

if TYPE_CHECKING:
    from study.reporting.results import StudyResults
    from study.store.study import Study
    from study.tracking.experiment import Experiment
    from study.tuning.session import Summary

_logger = logging.getLogger(__name__)


def print_result(
    study: Study, summary: Summary, experiment: Experiment | None, *, quiet: bool
) -> None:
    """Print the tables of a study that has ended, its alarms, and where to look further.

    Args:
        study: The study as it is after a start.
        summary: How that start ended.
        experiment: Where MLflow mirrors the study; None where it does not.
        quiet: Whether a long comparison prints no progress.
    """
    from study.reporting.alarms import alarms_text
    from study.reporting.comparison_tables import comparison_text
    from study.reporting.trial_tables import (
        arms_table,
        best_table,
        databases_table,
        failures_table,
    )
    from study.store.folder import PAIRS, RECORDS
    from study.store.openings import OpeningsLog

    plan, rows = study.plan, study.rows
    if summary.stop.cause and not rows:
        _print_where(study, summary, experiment)
        return
    if summary.repeated:
        print(f"study '{plan.name}' was complete already: nothing was run")
    results = _results(study, comparing=not summary.stop.cause, quiet=quiet)
    # A search claims nothing: its arms are only held against the floor.
    compared = results.comparison if plan.kind == "compare" else None
    if "comparison" in results.gaps and plan.kind == "compare":
        print(f"note: the arms are not compared: {results.gaps['comparison']}")
    arms = arms_table(rows, plan.objective, plan.kind, comparison=compared, floors=results.floors)
    print(comparison_text(compared, arms) if compared else arms.text())
    by_database = databases_table(rows, plan.objective, plan.databases, results.floors)
    best = best_table(rows, plan.objective) if plan.kind == "search" else None
    for table in (by_database, best, failures_table(rows)):
        if table is not None:
            print(f"\n{table.text()}")
    print(f"\n{alarms_text(results.alarms)}\n")
    if plan.has_sealed_test:
        # Knowledge of DS2 biases how a study of DS1 is read.
        print(OpeningsLog(study.folder.parents[1]).sentence())
    if plan.data_source == "synthetic":
        print(SYNTHETIC)
    if experiment is not None and not summary.tracking.left:
        _keep_answer(results, experiment)
    tables = [PAIRS, RECORDS] if compared else []
    _print_where(study, summary, experiment, tables)


def _keep_answer(results: StudyResults, experiment: Experiment) -> None:
    """Describe the study's run in MLflow by what the study answers."""
    from study.reporting.page.answer import answer_text
    from study.tracking.mlflow_runs import find_runs

    try:
        own, _ = find_runs(experiment, results.study)
        for run in own[:1]:
            experiment.tell(run.run_id, answer_text(results))
    except TrackingError as error:
        _logger.warning("the answer is not kept in MLflow: %s", error)


def _print_where(
    study: Study,
    summary: Summary,
    experiment: Experiment | None,
    tables: Sequence[str] = (),
) -> None:
    """Print where to look further, how the study ran, and how to continue it."""
    plan, n_settled = study.plan, len(study.rows)
    where = experiment.where(plan.name) if experiment else "tracking: off"
    print(
        f"look further: {where}\n"
        f"              optuna-dashboard {shown(study.places.url)}\n"
        f"              {', '.join([str(study.folder / TRIALS), *tables])}"
    )
    if n_settled:
        _print_run_facts(study, summary.overhead)
    _print_tracking(summary)
    if study.trials.exhausted:
        trials = plural(n_settled, "trial")
        print(f"exhausted: no new configuration was left to propose after {trials}")
    if summary.stop.cause:
        print(
            f"stopped: {summary.stop.cause}; {n_settled} of {plural(plan.trials, 'trial')} "
            "settled. The same command with --resume continues."
        )


def _results(study: Study, *, comparing: bool, quiet: bool) -> StudyResults:
    """Compute the tables' content; write a comparison's results into the study's folder."""
    from study.reporting.load import keep_comparison, load

    def progress(step: str) -> None:
        if not quiet:
            print(f"comparing: {step}", file=sys.stderr, flush=True)

    results = load(study, lambda _: None, comparing=comparing, progress=seldom(progress))
    if results.comparison is not None and study.plan.kind == "compare":
        keep_comparison(study, results.comparison)
    return results


def _print_run_facts(study: Study, overhead: float) -> None:
    rho, n_finished = study.trials.rung_correlation()
    if study.plan.scheduler != "none" and rho == rho:
        screened = any(row.outcome is Outcome.SCREENED for row in study.rows)
        early = "screened" if screened else "first-rung"
        of = "over the arms' best, " if screened else ""
        rank = score_text(rho, digits=2)
        print(f"rank correlation of {early} and final score: {rank} ({of}n = {n_finished})")
    if overhead == overhead:
        print(f"orchestration: {overhead:.1%} of the slots' wall time")


def _print_tracking(summary: Summary) -> None:
    tracking, resume = summary.tracking, " with --resume" if summary.stop.cause else ""
    if summary.repeated and tracking.sent:
        print(f"tracking: MLflow was brought up to date for {tracking.sent} runs")
    if tracking.left:
        print(
            f"tracking: {tracking.left} runs may be incomplete in MLflow; nothing is lost: the "
            f"same command{resume} brings it up to date"
        )
    if tracking.refused:
        print(f"tracking: {tracking.refused} runs were left out: see the warnings")
