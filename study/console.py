"""What a study prints at its end: its tables, its alarms, and where to look further."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.addresses import shown
from study.keys import Outcome
from study.store.folder import TRIALS
from study.wording import SYNTHETIC, plural, score_text

if TYPE_CHECKING:
    from study.reporting.results import StudyResults
    from study.tracking.experiment import Experiment
    from study.tuning.session import Options, Summary
    from study.tuning.setup import Setup

_PROGRESS_S = 5.0
"""Seconds between two lines of a comparison that takes long."""


def print_result(
    setup: Setup, summary: Summary, experiment: Experiment | None, options: Options
) -> None:
    """Print the tables of a study that has ended, its alarms, and where to look further."""
    from study.reporting.alarms import alarms_text
    from study.reporting.comparison_tables import comparison_text
    from study.reporting.trial_tables import arms_table, best_table, failures_table
    from study.store.folder import PAIRS, RECORDS
    from study.store.openings import OPENINGS, OpeningsLog

    plan = setup.plan
    if summary.stopped and not summary.rows:
        _print_where(setup, summary, experiment, options)
        return
    if summary.repeated:
        print(f"study '{plan.name}' was complete already: nothing was run")
    results = _results(setup, summary, options)
    compared = results.comparison
    if "comparison" in results.gaps:
        print(f"note: the arms are not compared: {results.gaps['comparison']}")
    arms = arms_table(
        results.study.rows, plan.objective, plan.kind, comparison=compared, floors=results.floors
    )
    print(comparison_text(compared, arms) if compared else arms.text())
    for floor in summary.floors:
        if floor.missing:
            print(f"note: no {floor.label}: {floor.missing}")
    best = best_table(summary.rows, plan.objective) if plan.kind == "search" else None
    for table in (best, failures_table(summary.rows)):
        if table is not None:
            print(f"\n{table.text()}")
    print(f"\n{alarms_text(results.alarms)}\n")
    if setup.source.kind == "mitdb":
        # Whoever has seen DS2 reads a study of DS1 with other eyes.
        print(OpeningsLog(options.places.folder.parents[1] / OPENINGS).sentence())
    if setup.source.synthetic:
        print(SYNTHETIC)
    tables = [PAIRS, RECORDS] if compared else []
    _print_where(setup, summary, experiment, options, tables)


def _print_where(
    setup: Setup,
    summary: Summary,
    experiment: Experiment | None,
    options: Options,
    tables: Sequence[str] = (),
) -> None:
    """Print where to look further, how the study ran, and how it goes on."""
    plan = setup.plan
    where = experiment.where(plan.name) if experiment else "tracking: off"
    print(
        f"look further: {where}\n"
        f"              optuna-dashboard {shown(options.places.url)}\n"
        f"              {', '.join([str(options.places.folder / TRIALS), *tables])}"
    )
    if summary.rows:
        _print_run_facts(summary, plan.scheduler)
    _print_tracking(summary)
    if summary.exhausted:
        trials = plural(len(summary.rows), "trial")
        print(f"exhausted: nothing new was left to propose after {trials}")
    if summary.stopped:
        print(
            f"stopped: {summary.stopped}; {len(summary.rows)} of {plural(plan.trials, 'trial')} "
            "settled. The same command with --resume continues."
        )


def _results(setup: Setup, summary: Summary, options: Options) -> StudyResults:
    """Return what the page of the study would be made from, and keep what a comparison found."""
    from study.reporting.load import keep_comparison, load
    from study.store.study import Study

    begun = time.monotonic()

    def progress(step: str) -> None:
        nonlocal begun
        if not options.quiet and time.monotonic() - begun > _PROGRESS_S:
            print(f"comparing: {step}", file=sys.stderr, flush=True)
            begun = time.monotonic()

    study = Study.at(options.places)
    comparing = setup.plan.kind == "compare" and not summary.stopped
    results = load(study, lambda _: None, comparing=comparing, progress=progress)
    if results.comparison is not None:
        keep_comparison(study, results.comparison)
    return results


def _print_run_facts(summary: Summary, scheduler: str) -> None:
    rho, n_finished = summary.rungs
    if scheduler != "none" and rho == rho:
        screened = any(row.outcome is Outcome.SCREENED for row in summary.rows)
        early = "screened" if screened else "first-rung"
        of = "over the arms' best, " if screened else ""
        rank = score_text(rho, digits=2)
        print(f"rank correlation of {early} and final score: {rank} ({of}n = {n_finished})")
    if summary.overhead == summary.overhead:
        print(f"orchestration: {summary.overhead:.1%} of the slots' wall time")


def _print_tracking(summary: Summary) -> None:
    tracking, resume = summary.tracking, " with --resume" if summary.stopped else ""
    if summary.repeated and tracking.sent:
        print(f"tracking: MLflow has now what it lacked of {tracking.sent} runs")
    if tracking.left:
        print(
            f"tracking: MLflow may lack something of {tracking.left} runs; nothing is lost: the "
            f"same command{resume} brings it up to date"
        )
    if tracking.refused:
        print(f"tracking: {tracking.refused} runs were left out, as the warnings say")
