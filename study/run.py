"""Runs a study: `python -m study.run --space fusion_grid`.

  python -m study.run --list                              spaces and studies
  python -m study.run --space smoke                       two trials, about a minute
  python -m study.run --space fusion_grid --dry-run       what it would train, and how long
  python -m study.run --space fusion_grid                 the main search
  python -m study.run --space fusion_grid --quick         the same path in minutes, a rehearsal
  python -m study.run --resume fusion_grid                continue it after a stop
  python -m study.run --status fusion_grid                what is done, running, failed, owed
  python -m study.run --repair fusion_grid                make its storage, MLflow and files agree
  python -m study.run --space published_arms              the published arms, compared
  python -m study.run --confirm fusion_grid               its candidates, on fresh seeds and folds

The current folder is the workspace: mlflow.db and mlruns/ (a bare `mlflow ui` opens them) and
studies/NAME/ with the plan, the Optuna storage (`optuna-dashboard` opens it), predictions and
weights of each trial.

Exit codes: 0 done; 1 done, but trials failed; 2 the options, the space, the records or the study
cannot be used, or a disk or network fails; 3 stopped by --time-limit; 130 stopped by a signal; 141
nobody reads the output any more. After 3 and 130, --resume continues the study; after 2 it does so
once the cause is mended.
Exit codes of --status and --repair: 0 storage, MLflow and files agree; 1 they do not; 2 there is
no such study, or --repair was asked while it runs.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, INTERRUPTED, REFUSED, as_called, carry_out, leave
from study.console.arguments import parser
from study.console.confirm import confirm
from study.console.kept import (
    RUN,
    command_line,
    on_records_of,
    own_space,
    resume_words,
    resumed,
    started_by,
)
from study.console.listing import list_lines
from study.errors import UsageError, did_you_mean
from study.keys import Outcome
from study.options import given_besides, set_logging

if TYPE_CHECKING:
    from study.data.source import Source
    from study.spaces.space import Space
    from study.store.plan import StudyPlan
    from study.store.study import Places, Study
    from study.tracking.experiment import Experiment
    from study.tuning.machine import Machine
    from study.tuning.session import Summary
    from study.tuning.setup import Setup

TRIALS_FAILED, TIME_OVER = 1, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    began = time.monotonic()
    args = _parser().parse_args(argv)
    set_logging(verbose=args.verbose, quiet=args.quiet)
    return carry_out(
        lambda: _dispatch(args, began),
        kept=lambda: _kept(args),
        readable=lambda: _readable(args),
        verbose=args.verbose,
    )


def start(words: Sequence[str]) -> str:
    """Do what the command line does, but raise its errors: for `study.api`.

    Returns:
        The name of the study.

    Raises:
        StudyError: What the command would print.
    """
    began, printed = time.monotonic(), io.StringIO()
    try:
        with redirect_stderr(printed):
            args = _parser().parse_args(words)
    except SystemExit as error:  # argparse has printed what is wrong
        raise UsageError(printed.getvalue().strip().removeprefix("error: ")) from error
    set_logging(verbose=args.verbose, quiet=args.quiet)
    _dispatch(args, began)
    return _name(args)


def _dispatch(args: argparse.Namespace, began: float) -> int:
    if args.words:
        raise UsageError(_meant(args.words[0]))
    if args.status is not None or args.repair is not None:
        from study.console.status import show_records

        return show_records(args, vars(_parser().parse_args([])))
    if args.list:
        if lost := given_besides(args, vars(_parser().parse_args([])), {"list"}):
            raise UsageError(f"{', '.join(lost)}: means nothing with --list, which shows all")
        print("\n".join(list_lines(Path.cwd())))
        return DONE
    if isinstance(args.resume, str):
        if args.confirm:
            raise UsageError(
                f"--resume {args.resume}: with --confirm, give --resume without a name"
            )
        vars(args).update(vars(resumed(args, _parser())))
    if args.confirm:
        on_records_of(args.confirm, args, _parser())
        code = confirm(args, began, _run, go_on=(DONE, TRIALS_FAILED))
        if code not in (DONE, TRIALS_FAILED):
            again = as_called(f"{RUN} --confirm {args.confirm} --resume")
            print(f"  {again}  goes on with all partitions")
        return code
    if args.top is not None:
        raise UsageError("--top: means something with --confirm only")
    if args.retry_failed and not args.resume:
        raise UsageError("--retry-failed: means something with --resume only")
    if not args.space:
        raise UsageError("--space NAME is needed; `python -m study.run --list` shows them")
    if args.start_from and not _study_of(args):  # one that has begun may no longer need it
        _require_study(args.start_from)
    return _run(args, began)


def _require_study(name: str) -> None:
    """Refuse a study that is not there, before records are prepared."""
    from study.store.folder import study_folder
    from study.store.plan import StudyPlan

    StudyPlan.load(study_folder(Path.cwd(), name))


def _meant(word: str) -> str:
    """Say which option a word lacks."""
    from study.spaces.load import FOLDER

    hint = did_you_mean(word, (path.stem for path in FOLDER.glob("*.toml")))
    return f"'{word}' stands without its option; a space is run by --space {word}.{hint}"


def _kept(args: argparse.Namespace) -> str:
    """Say what is kept of a study that ended early, and how to continue."""
    from study.store.folder import study_folder

    if args.repair:
        return "finished mends are kept: the same command makes the others"
    if args.confirm:
        return "what is settled is kept: the same command with --resume continues"
    if name := _study_of(args):
        line = started_by(study_folder(Path.cwd(), name))
        by = f" with what `{line}` began" if line else ""
        return f"what is settled is kept: `{resume_words(name)}` goes on{by}"
    return "no trial was begun: the same command starts again"


def _readable(args: argparse.Namespace) -> str:
    """Say where to read what a study's start has found."""
    if args.confirm:
        return "studies/ has what was found: `python -m study.run --list` shows the studies"
    if not args.dry_run and (name := _study_of(args)):
        return (
            f"studies/{name} has what was found: trials.csv, and all tables by "
            f"`python -m study.report --study {name}`"
        )
    return "run it again with another output"


def _study_of(args: argparse.Namespace) -> str:
    """Return the name of the study that is run, if it is there already."""
    from study.store.folder import study_names

    name = _name(args)
    return name if name in study_names(Path.cwd()) else ""


def _name(args: argparse.Namespace) -> str:
    """Return the name of a study: by default that of its space."""
    rehearses = "-quick" if args.quick else ""
    return args.name or Path(args.space or "").stem + rehearses


def _parser() -> argparse.ArgumentParser:
    return parser(__doc__)


def _run(args: argparse.Namespace, began: float) -> int:
    # Before importing PyTorch and Ray, so that a misspelt space is reported at once.
    space = _space(args)
    from study.console.result import print_result, run_at_end
    from study.store.lock import locked
    from study.store.plan import StudyPlan
    from study.store.study import Places, Study
    from study.tuning.earlier import informed
    from study.tuning.machine import Machine

    workspace, name = Path.cwd(), _name(args)
    addresses = {"study_storage": args.study_storage, "storage": args.storage}
    places = Places.of(workspace, name, **addresses)
    # A missing study cannot be resumed: say so before anything is written.
    stored_plan = StudyPlan.load(places.folder) if args.resume else StudyPlan.find(places.folder)
    existing = Study.open(workspace, name, **addresses) if stored_plan else None
    if existing and args.retry_failed:
        existing = replace(existing, trials=existing.trials.retrying())
    machine = Machine.of(args, workspace)
    if goes_on := _goes_on(args, existing):
        machine.reach()
    announced = goes_on and not (args.quiet or args.dry_run)
    source = _source(args, space, name, announced=announced)
    if args.dry_run:
        setup = _set_up(args, space, source, places, stored_plan, machine)
        return _dry_run(args, setup, machine, existing)
    with locked(places.folder):
        places.probe(new=stored_plan is None)  # as MLflow is, before records are prepared
        experiment = None if args.no_track else _experiment(args, source.kind, stored_plan)
        setup = _set_up(args, space, source, places, stored_plan, machine)
        demand = machine.demand(setup, shared_storage=bool(places.storage))
        at_once = machine.room_for(demand)
        epoch_s = _header(setup, at_once, existing) if announced else math.nan
        from study.tuning.session import Options, run_study  # what is above needs no Ray

        setup, earlier = informed(setup, args.start_from, existing, workspace)
        options = Options(
            places=places,
            resume=bool(args.resume),
            retry_failed=args.retry_failed,
            earlier=earlier,
            command=_command(args, setup.source),
            demand=demand,
            address=args.address,
            deadline_s=args.time_limit,
            trial_limit_s=args.trial_time_limit,
            quiet=args.quiet,
            at_once=at_once,
            epoch_s=epoch_s,
            began=began,
        )
        summary = run_study(setup, options, experiment)
    study = Study.at(places)
    print_result(study, summary, experiment, quiet=args.quiet, verbose=args.verbose)
    code = _code(study, summary)
    if args.on_end:
        run_at_end(args.on_end, study, code)
    return code


def _source(args: argparse.Namespace, space: Space, name: str, *, announced: bool) -> Source:
    """Say what is run and on what, and find the records."""
    from study.data.source import source_asked
    from study.tuning.header import content_lines, trials_line

    if announced:
        _tell([*content_lines(space, name), trials_line(space)])
    source = source_asked(args)
    if announced:
        _tell([f"records: {source.description}"])
    if announced or (args.dry_run and not args.quiet):
        _tell(["preparing beats and kernels that the cache lacks, estimating the time"])
    return source


def _dry_run(
    args: argparse.Namespace, setup: Setup, machine: Machine, existing: Study | None
) -> int:
    from study.tuning.dry_run import plan_lines

    at_once = machine.room_for(machine.demand(setup, shared_storage=bool(args.storage)))
    for line in plan_lines(setup, at_once, existing, run_branches=args.verbose):
        print(as_called(line))
    return DONE


def _goes_on(args: argparse.Namespace, existing: Study | None) -> bool:
    """Return whether a start runs trials: not if all are done, or it is refused."""
    return existing is None or bool(args.resume and (existing.unfinished or args.trials))


def _header(setup: Setup, at_once: int, existing: Study | None) -> float:
    """Print how long a study will take and how to stop it; return the seconds of an epoch."""
    from study.store.trials import Trials
    from study.tuning.estimate import epoch_seconds
    from study.tuning.header import before_trials

    epoch_s = epoch_seconds(setup, existing.trials if existing else Trials())
    _tell(before_trials(setup, at_once, epoch_s, existing, resume_words(setup.plan.name)))
    return epoch_s


def _command(args: argparse.Namespace, source: Source) -> str:
    """Return the command for the study's folder to keep; empty where it goes by that folder."""
    if isinstance(args.resume, str):
        return ""
    return command_line(args, vars(_parser().parse_args([])), source)


def _code(study: Study, summary: Summary) -> int:
    """Return the exit code of a study that has ended."""
    if summary.stop.cause:
        if summary.stop.faulty:
            return REFUSED
        return INTERRUPTED if summary.stop.interrupted else TIME_OVER
    failed = any(row.outcome is Outcome.FAILED for row in study.rows)
    return TRIALS_FAILED if failed or not study.rows else DONE


def _set_up(
    args: argparse.Namespace,
    space: Space,
    source: Source,
    places: Places,
    stored_plan: StudyPlan | None,
    machine: Machine,
) -> Setup:
    """Prepare everything that a study needs before its first trial."""
    from study.tuning.setup import precision_of, set_up

    return set_up(
        space,
        source,
        name=places.folder.name,
        study_seed=args.seed,
        partition_seed=args.partition_seed,
        device=machine.device,
        precision=precision_of(args.precision, stored_plan),
        storage=places.files,
        cache_dir=machine.cache_dir,
    )


def _tell(lines: Iterable[str]) -> None:
    """Print what a study says before its first trial, where its progress goes."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def _experiment(args: argparse.Namespace, kind: str, stored_plan: StudyPlan | None) -> Experiment:
    """Return where MLflow mirrors a study on records of this kind."""
    from study.tracking.experiment import Experiment

    experiment = Experiment.of_records(kind, args.tracking_uri)
    if stored_plan is None:
        # A mistyped address must show before hours of training; later starts need no MLflow.
        experiment.connect()
    return experiment


def _load_plugins(args: argparse.Namespace) -> None:
    """Load the plug-ins of `--plugin`, of a study that is there already, and of packages."""
    from study.models.plugins.plugin import Plugin, load_all
    from study.store.folder import study_folder
    from study.store.plan import StudyPlan

    given = [Plugin.at(path) for path in args.plugin]
    if name := _study_of(args):
        folder = study_folder(Path.cwd(), name)
        StudyPlan.load(folder).load_plugins(folder, given)
    load_all(given)


def _space(args: argparse.Namespace) -> Space:
    from study.data.source import patients_asked
    from study.spaces.load import load_space, override, rehearsal

    _load_plugins(args)
    space = load_space(args.space)
    if isinstance(args.resume, str):
        space = own_space(space)
    if space.test is not None:
        raise UsageError(
            f"--space {args.space}: is the plan of a sealed test; "
            f"`python -m study.evaluate --plan {args.space}` trains and tests it"
        )
    return override(
        rehearsal(space) if args.quick else space,
        patients_asked(args),
        trials=args.trials,
        epochs=args.epochs,
        folds=args.folds,
        seeds=args.seeds,
        partitions=args.partitions,
        sampler=args.sampler,
        scheduler=args.scheduler,
        objective=args.objective,
    )


if __name__ == "__main__":
    leave(main())
