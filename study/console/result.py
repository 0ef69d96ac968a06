"""A study's final output: its answer, its tables, its alarms, and what to do next."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from study.addresses import shown
from study.command import as_called, seldom
from study.console.answer import answer
from study.console.kept import RUN, resume_words, started_by
from study.errors import TrackingError
from study.keys import Outcome
from study.reporting.alarms import alarms_text
from study.reporting.comparison_tables import (
    choice_sentences,
    comparison_tables,
    contrasts_table,
)
from study.reporting.table import WIDTH, Table, prose
from study.reporting.trial_tables import (
    arms_table,
    best_table,
    databases_table,
    failures_table,
)
from study.store.checks import LOST_RESULTS, faults
from study.store.folder import TRIALS
from study.store.openings import OpeningsLog
from study.wording import plural, score_text, short_names, with_short_names

if TYPE_CHECKING:
    from study.reporting.results import StudyResults
    from study.statistics.findings import Comparison
    from study.store.study import Study
    from study.tracking.experiment import Experiment
    from study.tuning.session import Summary

_logger = logging.getLogger(__name__)

_WITHOUT_PARAMETERS = 3
"""Columns of a search's table of best configurations that are no parameters."""


def print_result(
    study: Study,
    summary: Summary,
    experiment: Experiment | None,
    *,
    quiet: bool,
    verbose: bool = False,
) -> None:
    """Print the answer of a study after a start, its tables, its alarms, and what to do next.

    `study` is read after the start; without an experiment MLflow does not mirror it. `quiet`
    prints no progress of a long comparison, `verbose` all tables and the costs of the start.
    """
    plan = study.plan
    if summary.repeated:
        print(f"study '{plan.name}' was complete already: nothing was run")
    if study.rows:
        results = _print_findings(study, summary, quiet=quiet, verbose=verbose)
        if experiment is not None and not summary.tracking.left:
            _keep_answer(results, experiment)
    if summary.stop.cause:
        settled = f"{len(study.rows)} of {plural(plan.trials, 'trial')} settled"
        print(f"stopped: {summary.stop.cause}; {settled}")
        if line := started_by(study.folder):
            print(as_called(f"started by: {line}"))
    if verbose:
        _print_run_facts(study, summary.overhead)
    _print_tracking(summary)
    if study.trials.exhausted:
        trials = plural(len(study.rows), "trial")
        print(f"exhausted: no new configuration was left to propose after {trials}")
    print("Next:")
    for line in next_lines(study, experiment, _width()):
        print(line)


def _width() -> int:
    """Return the characters of a line."""
    return min(WIDTH, shutil.get_terminal_size().columns)


def _print_findings(study: Study, summary: Summary, *, quiet: bool, verbose: bool) -> StudyResults:
    """Print the answer, the tables behind it, and the alarms; return the results."""
    results = _results(study, comparing=not summary.stop.cause, quiet=quiet)
    width, plan = _width(), study.plan
    names = short_names(dict.fromkeys([*results.arms, *(row.arm for row in study.rows)]))
    print(prose(f"Answer: {answer(results, names)}", width) + "\n")
    # A search claims nothing: it compares its arms only with the floor.
    compared = results.comparison if plan.kind == "compare" else None
    if "comparison" in results.gaps and plan.kind == "compare":
        print(f"note: the arms are not compared: {results.gaps['comparison']}")
    for table in _tables(results, compared, verbose=verbose):
        print(f"{table.renamed(names).text(width)}\n")
    if common := _common(names):
        print(prose(f"note: every arm: {common}", width, indent="      ") + "\n")
    for sentence in choice_sentences(compared) if compared else ():
        print(prose(sentence, width))
    for line in with_short_names(alarms_text(results.alarms), names).splitlines():
        print(prose(line, width, indent="    "))
    if plan.has_sealed_test:
        # Knowledge of DS2 biases how a study of DS1 is read.
        print(prose(OpeningsLog(study.folder.parents[1]).sentence(), width))
    print()
    return results


def _keep_answer(results: StudyResults, experiment: Experiment) -> None:
    """Set the study's answer as the description of its run in MLflow."""
    from study.reporting.page.answer import answer_text
    from study.tracking.mlflow_runs import find_runs

    try:
        own, _ = find_runs(experiment, results.study)
        for run in own[:1]:
            experiment.describe(run.run_id, answer_text(results))
    except TrackingError as error:
        _logger.warning("the answer is not kept in MLflow: %s", error)


def _tables(
    results: StudyResults, compared: Comparison | None, *, verbose: bool
) -> Iterator[Table]:
    """Yield the tables of the arms, or all tables, and that of failed trials."""
    rows, plan = results.study.rows, results.study.plan
    floors = results.floors
    arms = arms_table(rows, plan.objective, plan.kind, comparison=compared, floors=floors)
    if compared and verbose:
        yield from comparison_tables(compared, arms)
    else:
        yield arms
        contrasts = contrasts_table(compared) if compared else None
        best = best_table(rows, plan.objective) if plan.kind == "search" else None
        # Without parameters that vary, the table of the arms says it all.
        if best is not None and len(best.columns) <= _WITHOUT_PARAMETERS:
            best = None
        yield from (table for table in (contrasts, best) if table is not None)
    by_database = databases_table(rows, plan.objective, plan.databases, floors)
    yield from (table for table in (by_database, failures_table(rows)) if table is not None)


def _common(names: Mapping[str, str]) -> str:
    """Return the parts that all arms have, which their short names leave out."""
    full, short = next(iter(names.items()))
    kept = short.split(" / ")
    return ", ".join(part for part in full.split(" / ") if part not in kept)


def next_lines(study: Study, experiment: Experiment | None, width: int) -> Iterator[str]:
    """Yield the commands that go on from a study, each with what it does."""
    run, plan = as_called(RUN), study.plan
    steps = dict[str, str]()
    if study.unfinished:
        steps[resume_words(plan.name)] = "goes on with what is left"
    if any(fault.kind == LOST_RESULTS for fault in faults(study, deep=False)):
        steps[f"{run} --repair {plan.name}"] = "then --resume: brings lost files back"
    if study.rows:
        page = as_called(f"python -m study.report --study {plan.name}")
        steps[page] = "writes the page, with all tables"
    if failed := sum(row.outcome is Outcome.FAILED for row in study.rows):
        steps[f"{resume_words(plan.name)} --retry-failed"] = f"tries {failed} failed again"
    if study.rows and study.space.rehearses:
        steps[f"{run} --space {plan.space}"] = "runs it in earnest"
    elif not study.unfinished and study.arm_trials and plan.kind == "search":
        steps[f"{run} --confirm {plan.name}"] = "compares the candidates afresh"
    longest = max(map(len, steps), default=0)
    for command, does in steps.items():
        line = f"  {command:<{longest}}  {does}"
        yield line if len(line) <= width else f"  {command}\n      {does}"
    yield f"  {experiment.where(plan.name) if experiment else 'tracking: off'}"


def run_at_end(command: str, study: Study, code: int) -> None:
    """Run the user's own shell command after the end of a study."""
    facts = {
        "STUDY_NAME": study.name,
        "STUDY_FOLDER": str(study.folder),
        "STUDY_STATE": study.state,
        "STUDY_EXIT_CODE": str(code),
    }
    sys.stdout.flush()
    # The user's own words, for the user's own shell.
    ended = subprocess.run(command, shell=True, env={**os.environ, **facts})  # nosec B602
    if ended.returncode:
        print(f"--on-end: the command ended with {ended.returncode}", file=sys.stderr)


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
    print(f"trials: {study.folder / TRIALS}; optuna-dashboard {shown(study.places.url)}")


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
