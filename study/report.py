"""The page of a study: `python -m study.report --study fusion_compare`.

  python -m study.report --study fusion_grid                 studies/fusion_grid/report/report.html
  python -m study.report --study fusion_grid --output DIR    somewhere else

It writes one HTML file, which opens without a network, and its tables as Markdown, LaTeX, CSV and
JSON. Any study has a page, whether it runs, was stopped, failed or is done; the page says what is
missing and why, and while no trial is complete only its state and what to do next. Page and tables
are also files of the study's run in MLflow.

Exit codes: 0 done; 2 the options cannot be used, there is no such study, or the files cannot be
written; 130 stopped by a signal; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, carry_out, leave, one_thread, seldom
from study.errors import TrackingError, UsageError
from study.files import output_fault, write_whole
from study.options import add_tracker, add_verbosity, command, set_logging

if TYPE_CHECKING:
    from study.reporting.results import StudyResults
    from study.store.study import Study

_logger = logging.getLogger(__name__)

REPORT = "report"
"""Folder of the page in a study's folder, and among the files of its run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging(verbose=args.verbose, quiet=args.quiet)
    one_thread()
    return carry_out(
        lambda: _report(args),
        kept=lambda: "each file that is there is whole, the same command writes the others",
        readable=lambda: f"the page is in {args.output or f'studies/{args.study}/report'}",
        verbose=args.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    parser = command("report", __doc__)
    parser.add_argument("--study", required=True, metavar="NAME", help="a study of this folder")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder to write to (default: studies/NAME/report)",
    )
    where = parser.add_argument_group("where the study's files are, if not in studies/NAME")
    where.add_argument("--storage", metavar="PLACE", help="the --storage it was started with")
    where.add_argument("--study-storage", metavar="URL", help="its Optuna storage")
    add_tracker(where)
    add_verbosity(parser)
    return parser


def _report(args: argparse.Namespace) -> int:
    from study.store.study import Study

    def say(text: str) -> None:
        if not args.quiet:
            print(text, file=sys.stderr, flush=True)

    study = Study.open(
        Path.cwd(), args.study, study_storage=args.study_storage, storage=args.storage
    )
    from study.reporting.page.page import (
        PAGE,
    )  # Imported late: a wrong study name is reported at once.

    output = args.output or study.folder / REPORT
    if fault := output_fault(output, folder=True):
        raise UsageError(f"--output: {fault}")
    results, files = write_page(study, output, say)
    if not args.no_track:
        _keep_page(args, results, files)
    if not args.quiet:
        print(output / PAGE)
    return DONE


def write_page(
    study: Study, output: Path, say: Callable[[str], None]
) -> tuple[StudyResults, list[Path]]:
    """Write the page of a study and its tables into a folder; return its results and the files.

    `say` is given a line for each step that takes a while.
    """
    from study.reporting.load import for_page, load
    from study.reporting.page.page import report_files

    workspace = study.folder.parents[1]
    results = _with_test_set(for_page(load(study, say, progress=seldom(say)), say), workspace)
    say("writing the page")
    files = {output / name: content for name, content in report_files(results).items()}
    for file, content in files.items():
        write_whole(file, content)
    return results, [*files]


def _keep_page(args: argparse.Namespace, results: StudyResults, files: Sequence[Path]) -> None:
    """Keep answer and page with the study's run, if it has a run."""
    from study.reporting.page.answer import answer_text
    from study.tracking.experiment import Experiment
    from study.tracking.mlflow_runs import find_runs

    study = results.study
    try:
        experiment = Experiment.of_records(study.plan.data_source, args.tracking_uri)
        own, _ = find_runs(experiment, study)
        if own:
            experiment.add_files(own[0].run_id, files, REPORT)
            experiment.describe(own[0].run_id, answer_text(results))
        elif not args.quiet:
            print("the page is not kept in MLflow: it has no run of this study", file=sys.stderr)
    except TrackingError as error:
        _logger.warning("the page is not kept in MLflow: %s", error)


def _with_test_set(results: StudyResults, workspace: Path) -> StudyResults:
    from study.store.openings import OpeningsLog, sealed_results

    return replace(
        results,
        openings=OpeningsLog(workspace).sentence(),
        sealed=tuple(sealed_results(workspace, results.study.name)),
    )


if __name__ == "__main__":
    leave(main())
