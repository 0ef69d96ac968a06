"""The sealed test: `python -m study.evaluate --plan FILE`.

  python -m study.evaluate --write-plan fusion_compare      a plan from a study's results on DS1
  python -m study.evaluate --plan PLAN.toml --dry-run       what it would do; opens nothing
  python -m study.evaluate --plan PLAN.toml                 train, open DS2 once, report
  python -m study.evaluate --openings                       how often DS2 was opened, and for what

A plan is written before DS2 is seen: arms, contrasts, metrics, seeds. Every arm is trained anew on
all of DS1 with 10 fresh seeds or more and its fixed number of epochs; thresholds are fixed on DS1;
then the opening goes into test_openings.jsonl, and only then DS2 is read. What is trained is kept:
the same command continues after a stop. A plan that has a result shows it and opens nothing.

Everything is in evaluations/NAME-HASH/ of the current folder. docs/evaluation.md has the protocol.

Exit codes: 0 done; 2 bad usage, plan, records, study or file system; 130 interrupted, the same
command continues; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from study.errors import StudyError, StudyStateError, TrackingError, UsageError

if TYPE_CHECKING:
    from study.sealed.folder import EvaluationFolder
    from study.sealed.plan import SealedPlan
    from study.tracking.openings import Opening, OpeningsLog
    from study.tracking.sink import Sink
    from study.tuning.storage import Storage

DONE, REFUSED, INTERRUPTED, CLOSED_PIPE = 0, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    level = logging.DEBUG if args.verbose else logging.ERROR if args.quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("study").setLevel(level)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(args)
    except StudyError as error:
        if args.verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except BrokenPipeError:
        # Whoever read this has enough; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if args.verbose:
            traceback.print_exc()
        print(
            f"error: {error.filename or 'a file'}: {error.strerror or error}; what is trained is "
            "kept: mend this, then the same command continues",
            file=sys.stderr,
        )
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; what is trained is kept, the same command continues", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is done").add_mutually_exclusive_group(required=True)
    what.add_argument("--plan", type=Path, metavar="FILE", help="evaluate this plan")
    what.add_argument("--write-plan", metavar="STUDY", help="write a plan from a study's results")
    what.add_argument("--openings", action="store_true", help="show how often DS2 was opened")
    write = parser.add_argument_group("with --write-plan")
    write.add_argument(
        "--arms",
        type=_names,
        default=(),
        metavar="A,B,C",
        help="which arms, the one of interest first, or 'all' (default: of a comparison the best "
        "arm that uses RR, its placebo, the reference and the bare ECG; of a search the best "
        "configuration and its placebo)",
    )
    write.add_argument(
        "--output", type=Path, metavar="FILE", help="where to (default: STUDY_test.toml)"
    )
    how = parser.add_argument_group("with --plan")
    how.add_argument("--dry-run", action="store_true", help="say what would be done; open nothing")
    how.add_argument(
        "--stop-before-opening",
        action="store_true",
        help="train and fix thresholds, then end; open nothing",
    )
    how.add_argument(
        "--again",
        action="store_true",
        help="open DS2 once more for a plan that has a result; it counts",
    )
    how.add_argument(
        "--synthetic",
        action="store_true",
        help="rehearse on synthetic records, under rehearsals/: no opening of DS2",
    )
    how.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of the MIT-BIH records (default: MITDB_DIR, ./data/mitdb, PhysioNet); with "
        "--synthetic of synthetic ones (default: ./data/rehearsal)",
    )
    how.add_argument(
        "--concurrency", type=int, metavar="N", help="models at once (default: one a core)"
    )
    how.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help="what models train on (default auto)",
    )
    where = parser.add_argument_group("where a study keeps what, if not in studies/NAME")
    where.add_argument("--study-storage", metavar="URL", help="its Optuna storage")
    where.add_argument("--storage", metavar="PLACE", help="the --storage that it was started with")
    where.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )
    where.add_argument("--no-track", action="store_true", help="record nothing in MLflow")
    told = parser.add_argument_group("how much it tells")
    told.add_argument("-v", "--verbose", action="store_true", help="debug messages, tracebacks")
    told.add_argument("-q", "--quiet", action="store_true", help="only the result and errors")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("give names of arms with commas between them, or 'all'")
    return names


def _run(args: argparse.Namespace) -> int:
    if args.openings:
        return _show_openings(Path.cwd())
    if args.write_plan:
        return _write_plan(args, Path.cwd())
    return _evaluate(args, Path.cwd())


def _show_openings(workspace: Path) -> int:
    from study.sealed.folder import openings_log

    log = openings_log(workspace, rehearsal=False)
    for opening in log.read():
        said = opening.content
        print(
            f"{opening.number:>3}  {said.get('time', '?')}  {opening.plan}  "
            f"commit {str(said.get('commit', '?'))[:12]}{'  again' if said.get('again') else ''}"
        )
    print(_sentence(workspace, log, rehearsal=False))
    return DONE


def _sentence(workspace: Path, log: OpeningsLog, *, rehearsal: bool) -> str:
    """Return the sentence on openings, and a warning for each that was taken out of the log."""
    from study.sealed.folder import unlogged_results

    lost = unlogged_results(workspace, log, rehearsal=rehearsal)
    what = "REHEARSAL: a synthetic DS2" if rehearsal else "DS2"
    return "\n".join([log.sentence(what), *(f"warning: {fault}" for fault in lost)])


def _write_plan(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.propose import propose

    name = args.write_plan
    path = args.output or Path(f"{name}_test.toml")
    proposal = propose(workspace, name, arms=args.arms, storage_url=args.study_storage)
    plan = proposal.plan
    said = (
        f"From study '{name}', its results on DS1 alone. {proposal.comments}",
        "Change what you want before DS2 is opened; the hash of what it says is logged then.",
    )
    lines = [line for text in said for line in textwrap.wrap(text, 95)]
    comments = "\n".join([f"python -m study.evaluate --plan {path}", *lines])
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(plan.text(comments))
    except FileExistsError:
        raise UsageError(
            f"{path}: is there already, and a plan is never overwritten; give another --output"
        ) from None
    print(f"{path}: plan {plan.title}")
    print(f"  arms: {', '.join(arm.name for arm in plan.arms)}")
    print(f"  contrasts: {_contrasts(plan)}")
    print(f"  {plan.seeds} seeds each; look at it, then: python -m study.evaluate --plan {path}")
    return DONE


def _contrasts(plan: SealedPlan) -> str:
    return ", ".join(f"{first} - {second}" for first, second in plan.contrasts) or "none"


def _evaluate(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.folder import EvaluationFolder, openings_log
    from study.sealed.plan_file import load_plan

    plan = load_plan(args.plan)
    folder = EvaluationFolder.of(workspace, plan, rehearsal=args.synthetic)
    log = openings_log(workspace, rehearsal=args.synthetic)
    opening = None if args.again or args.dry_run else _last_result(log, plan, folder)
    if opening is not None:
        print(f"plan {plan.title} has a result: nothing was opened (--again opens DS2 once more)")
        _track(args, plan, folder, opening)
    else:
        opening = _from_records(args, plan, folder, log, workspace)
    return DONE if opening is None else _report(args, workspace, folder, log, opening)


def _from_records(
    args: argparse.Namespace,
    plan: SealedPlan,
    folder: EvaluationFolder,
    log: OpeningsLog,
    workspace: Path,
) -> Opening | None:
    """Train, open DS2 and keep the result; return the opening, None if there was to be none."""
    from study.data.cache import default_cache_dir
    from study.sealed.dry_run import describe
    from study.sealed.evaluation import evaluate, open_ds2
    from study.sealed.preparation import check_origin, make_job, prepare_models
    from study.sealed.records import mitdb_records, synthetic_records
    from study.training.device import resolve_device
    from study.tuning.plan import git_commit

    find = synthetic_records if args.synthetic else mitdb_records
    records = find(args.data_dir, workspace)
    study, storage = check_origin(plan, records, workspace), _storage(args, plan)
    cache_dir = default_cache_dir(workspace)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir / "kernels"))
    device = resolve_device(args.device).type
    job = make_job(plan, records, folder, cache_dir=cache_dir, device=device, commit=git_commit())
    if args.dry_run:
        print(describe(plan, job, records, study, storage))
        print(_sentence(workspace, log, rehearsal=args.synthetic))
        return None
    if not args.no_track:
        _sink(args)  # a store that cannot be used must cost neither an hour nor an opening
    say = _say(args.quiet)
    with folder.locked():
        meanwhile = _last_result(log, plan, folder)
        if meanwhile is not None and not args.again:
            return meanwhile
        folder.write("plan.toml", plan.text())
        at_once = _at_once(args, device)
        prepared = prepare_models(
            plan, job, folder, study=study, storage=storage, at_once=at_once, say=say
        )
        if args.stop_before_opening:
            print(f"plan {plan.title}: models and thresholds are in {folder.root}")
            print(_sentence(workspace, log, rehearsal=args.synthetic))
            return None
        opening, why = open_ds2(plan, prepared, records, folder, log)
        say(f"opening {opening.number} of DS2, in {log.path}{why}")
        evaluate(plan, prepared, records, folder, opening, cache_dir=cache_dir, say=say)
        _track(args, plan, folder, opening)
    return opening


def _storage(args: argparse.Namespace, plan: SealedPlan) -> Storage | None:
    from study.tuning.storage import Storage

    if not args.storage or plan.origin is None:
        return None
    return Storage.at(args.storage).folder(plan.origin.name)


def _at_once(args: argparse.Namespace, device: str) -> int:
    from study.tuning.resources import Demand, plan_resources

    if device == "cpu":
        return plan_resources(Demand(concurrency=args.concurrency)).concurrency
    return args.concurrency or 1


def _last_result(log: OpeningsLog, plan: SealedPlan, folder: EvaluationFolder) -> Opening | None:
    """Return the last opening of a plan that left a result."""
    with_result = [
        opening
        for opening in log.read()
        if opening.content.get("plan_hash") == plan.hash and folder.has_result(opening)
    ]
    return with_result[-1] if with_result else None


def _say(quiet: bool) -> Callable[[str], None]:
    """Return what tells the user about progress, on stderr."""
    if quiet:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr, flush=True)


def _sink(args: argparse.Namespace) -> Sink:
    from study.run import EXPERIMENTS
    from study.tracking.mlflow_sink import MlflowSink

    kind = "synthetic" if args.synthetic else "mitdb"
    uri = args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    return MlflowSink(tracking_uri=uri, experiment=EXPERIMENTS[kind], workspace=Path.cwd())


def _track(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, opening: Opening
) -> None:
    """Record a result that is not in the tracker yet."""
    from study.sealed.record import record

    if args.no_track or folder.is_tracked(opening):
        return
    sink = _sink(args)
    try:
        record(sink, plan, folder, opening)
    except TrackingError as error:
        print(f"warning: {error}; the result is kept, and the same command tries again")
        return
    folder.note_tracked(opening)
    print(f"look further: {sink.where()}")


def _report(
    args: argparse.Namespace,
    workspace: Path,
    folder: EvaluationFolder,
    log: OpeningsLog,
    opening: Opening,
) -> int:
    from study.sealed.folder import TABLES

    place = folder.opening(opening)
    try:
        print((place / TABLES).read_text())
    except OSError as error:
        raise StudyStateError(f"{place / TABLES}: cannot be read ({error.strerror})") from error
    print(f"files: {place}")
    if args.synthetic:
        print("these records are SYNTHETIC: the figures say nothing about patients")
    print(_sentence(workspace, log, rehearsal=args.synthetic))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
