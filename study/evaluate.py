"""The sealed test: `python -m study.evaluate --plan FILE`.

  python -m study.evaluate --write-plan fusion_compare      a plan from a study's results on DS1
  python -m study.evaluate --plan PLAN.toml --dry-run       what it would do; opens nothing
  python -m study.evaluate --plan PLAN.toml                 train, open DS2 once, report
  python -m study.evaluate --openings                       how often DS2 was opened, and for what
  python -m study.evaluate --plan PLAN.toml --records DIR   its models on other records than DS2
  python -m study.evaluate --plan PLAN.toml --register NAME its seed ensemble as NAME@champion

A plan is written before DS2 is seen. It names arms, contrasts, metrics and seeds. Every arm is
trained anew on all of DS1, with 10 fresh seeds or more and a fixed number of epochs. Thresholds
are fixed on DS1. Then the opening is written into test_openings.jsonl, and only then DS2 is read.
Training is a study like any other: the same command continues after a stop. For a plan that has a
result, the command shows it and opens nothing. --records and --register use the same models and
never open DS2.

Everything is in evaluations/NAME-HASH/ of the current folder. docs/evaluation.md has the protocol.

Exit codes: 0 done; 2 the options, the plan, the records or the study cannot be used, or a disk
fails; 130 interrupted, the same command continues; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, carry_out, leave
from study.errors import StudyStateError, TrackingError, UsageError
from study.keys import EXPERIMENTS
from study.options import set_logging
from study.sealed.arguments import check, parser
from study.wording import SYNTHETIC, SYNTHETIC_MODEL

if TYPE_CHECKING:
    from study.data.source import Source
    from study.sealed.plan import SealedPlan
    from study.sealed.records import Records
    from study.sealed.result import EvaluationFolder
    from study.sealed.training import RunStudy, Training
    from study.store.openings import Opening, OpeningsLog
    from study.store.study import Places
    from study.tracking.experiment import Experiment
    from study.tuning.machine import Machine
    from study.tuning.session import Summary
    from study.tuning.setup import Setup


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging(verbose=args.verbose, quiet=args.quiet)
    return carry_out(
        lambda: _run(args),
        kept=lambda: "trained models are kept, the same command continues",
        readable=lambda: "the same command shows a result that is there, from its tables.txt",
        verbose=args.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    return parser(__doc__)


def _run(args: argparse.Namespace) -> int:
    check(args, _parser())
    if args.openings:
        return _show_openings(Path.cwd(), rehearsal=args.synthetic)
    if args.write_plan:
        return _write_plan(args, Path.cwd())
    return _evaluate(args, Path.cwd())


def _show_openings(workspace: Path, *, rehearsal: bool) -> int:
    from study.sealed.result import openings_log

    log = openings_log(workspace, rehearsal=rehearsal)
    for opening in log.read():
        content = opening.content
        print(
            f"{opening.number:>3}  {content.get('time', '?')}  {opening.plan}  "
            f"commit {str(content.get('commit', '?'))[:12]}"
            f"{'  again' if content.get('again') else ''}"
        )
    print(_sentence(workspace, log, rehearsal=rehearsal))
    return DONE


def _sentence(workspace: Path, log: OpeningsLog, *, rehearsal: bool) -> str:
    """Return the sentence on openings, with a warning for each opening missing in the log."""
    from study.sealed.result import unlogged_results

    lost = unlogged_results(workspace, log, rehearsal=rehearsal)
    ds2 = "REHEARSAL: a SYNTHETIC DS2" if rehearsal else "DS2"
    return "\n".join([log.sentence(ds2), *(f"warning: {fault}" for fault in lost)])


def _write_plan(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.propose import propose

    name = args.write_plan
    path = args.output or Path(f"{name}_test.toml")
    proposal = propose(workspace, name, arms=args.arms, storage_url=args.study_storage)
    plan = proposal.plan
    remarks = (
        f"From study '{name}', its results on DS1 alone. {proposal.comments}",
        "Change what you want before DS2 is opened; the hash of what it says is logged then.",
    )
    lines = [line for text in remarks for line in textwrap.wrap(text, 95)]
    comments = "\n".join([f"python -m study.evaluate --plan {path}", *lines])
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(plan.text(comments))
    except FileExistsError:
        raise UsageError(
            f"{path}: is there already, and a plan is never overwritten; give another --output"
        ) from None
    contrasts = ", ".join(f"{first} - {second}" for first, second in plan.test.contrasts)
    print(f"{path}: plan {plan.title}")
    print(f"  arms: {', '.join(arm.name for arm in plan.arms)}")
    print(f"  contrasts: {contrasts or 'none'}")
    for lack in proposal.lacks:
        print(f"  warning: {lack}")
    print(f"  {plan.seeds} seeds each; look at it, then: python -m study.evaluate --plan {path}")
    return DONE


def _evaluate(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.plan import load_plan
    from study.sealed.result import EvaluationFolder, openings_log

    plan = load_plan(args.plan)
    folder = EvaluationFolder.of(workspace, plan, rehearsal=args.synthetic)
    if args.records is not None:
        return _on_records(args, plan, folder, workspace)
    log = openings_log(workspace, rehearsal=args.synthetic)
    if args.register is not None:
        return _register(args, plan, folder, folder.last_opening(log, plan))
    opening = None if args.again or args.dry_run else folder.last_result(log, plan)
    if opening is not None:
        print(f"plan {plan.title} has a result: nothing was opened (--again opens DS2 once more)")
        _track_opening(args, plan, folder, opening)
    else:
        opening = _from_records(args, plan, folder, log, workspace)
    if opening is not None:
        _show(folder.opening(opening))
        if args.ec57 == "bxb":
            _show_bxb(plan, folder.opening(opening), _records(args, workspace).ds2_source)
        if args.synthetic:
            print(SYNTHETIC)
        print(_sentence(workspace, log, rehearsal=args.synthetic))
    return DONE


def _from_records(
    args: argparse.Namespace,
    plan: SealedPlan,
    folder: EvaluationFolder,
    log: OpeningsLog,
    workspace: Path,
) -> Opening | None:
    """Train, open DS2 and store the result; return the opening, or None without one."""
    from study.sealed.opening import evaluate_ds2, open_ds2
    from study.sealed.training import train
    from study.store.lock import locked
    from study.tuning.machine import Machine

    machine = Machine.of(args, workspace)
    training = _training(args, plan, folder, machine, workspace)
    if args.dry_run:
        print(training.text())
        print(_sentence(workspace, log, rehearsal=args.synthetic))
        return None
    run = _runner(args, training, machine)
    say = _progress(args)
    with locked(folder.root):
        meanwhile = folder.last_result(log, plan)
        if meanwhile is not None and not args.again:
            return meanwhile
        prepared = train(training, run)
        if args.stop_before_opening:
            print(f"plan {plan.title}: models and thresholds are in {folder.root}")
            print(_sentence(workspace, log, rehearsal=args.synthetic))
            return None
        opening, remark = open_ds2(prepared, log)
        say(f"opening {opening.number} of {folder.ds2}, in {log.path}{remark}")
        evaluate_ds2(prepared, opening, cache_dir=machine.cache_dir, say=say)
        _track_opening(args, plan, folder, opening)
    return opening


def _training(
    args: argparse.Namespace,
    plan: SealedPlan,
    folder: EvaluationFolder,
    machine: Machine,
    workspace: Path,
) -> Training:
    """Find the records of a plan and set up its training, without writing anything."""
    from study.sealed.training import set_up_training

    if plan.caution:
        print(f"warning: {plan.caution}")
    return set_up_training(
        plan,
        folder,
        _records(args, workspace),
        workspace=workspace,
        cache_dir=machine.cache_dir,
        device=machine.device,
        storage=args.storage or "",
    )


def _records(args: argparse.Namespace, workspace: Path) -> Records:
    """Find MIT-BIH, or the records of a rehearsal."""
    from study.sealed.records import mitdb_records, synthetic_records

    return (synthetic_records if args.synthetic else mitdb_records)(args.data_dir, workspace)


def _runner(args: argparse.Namespace, training: Training, machine: Machine) -> RunStudy:
    """Return a function that runs a study of the models; check its options before training."""
    from study.tuning.session import Options, run_study

    demand = machine.demand(training.models, shared_storage=bool(args.storage))
    machine.room_for(demand)
    if args.storage:
        training.models.job.storage.probe()
    experiment = None
    if not args.no_track:
        experiment = _experiment(args, training.records.source.kind)
        experiment.connect()

    def run(setup: Setup, places: Places) -> Summary:
        options = Options(
            places=places,
            resume=True,
            demand=machine.demand(setup, shared_storage=bool(args.storage)),
            address=args.address,
            quiet=args.quiet,
            began=time.monotonic(),
        )
        return run_study(setup, options, experiment)

    return run


def _on_records(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, workspace: Path
) -> int:
    """Test a plan's models on the records of `--records`, and show the result."""
    from study.data.external import find_external
    from study.sealed.opening import evaluate_records, identity_of
    from study.sealed.records import prepare_external
    from study.sealed.to_mlflow import record_external
    from study.sealed.training import cuts_of, train
    from study.store.lock import locked
    from study.tuning.machine import Machine

    # Faults of the records should show before an hour of training.
    external = find_external(
        args.records, leads=args.lead, split_file=args.split, strict=args.strict
    )
    machine = Machine.of(args, workspace)
    training = _training(args, plan, folder, machine, workspace)
    prepared_records = prepare_external(
        external,
        cuts_of(plan),
        cache_dir=machine.cache_dir,
        study_seed=plan.test.study_seed,
    )
    name, kind = prepared_records.name, external.source.kind
    place = folder.external(name)
    digest = prepared_records.digest
    if folder.stored_external(name).get("records", digest) != digest:
        raise UsageError(
            f"--records {external.source.where}: {place} has the result of other records or "
            f"leads under the name '{name}'; rename the folder, or give a --split with another "
            "name"
        )
    if args.dry_run:
        print(f"{training.text()}\ninstead of DS2, which stays closed:\n{prepared_records.text()}")
        print(f"the result would go to {place}")
        return DONE
    run = _runner(args, training, machine)
    with locked(folder.root):
        prepared = train(training, run)
        identity = identity_of(prepared_records, prepared)
        if folder.stored_external(name).get("identity") == identity:
            print(f"plan {plan.title} has a result on {name}: shown as it is")
        else:
            evaluate_records(prepared, prepared_records, say=_progress(args))
        _track(args, folder, place, kind, lambda to: record_external(to, plan, folder, name))
    _show(place)
    if args.ec57 == "bxb":
        _show_bxb(plan, place, external.source)
    if args.synthetic or kind == "synthetic":
        print(SYNTHETIC)
    print("DS2 was not opened.")
    return DONE


def _register(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, opening: Opening | None
) -> int:
    """Put an arm's seed ensemble into the model registry, with the result of its last opening."""
    from study.models import rules
    from study.sealed.to_mlflow import DS2_RESULT, registrable
    from study.tracking import registry

    registry.check_name(args.register)
    ensemble = registrable(plan, args.plan, folder, args.arm, opening, args.storage or "")
    about = ensemble.about
    print(f"plan {plan.title}, arm {about['plan_arm']}: {rules.arm(ensemble.config)}")
    print(f"  {len(ensemble.models)} networks, trained on {about['trained_on']}")
    print(f"  result on DS2: {about[DS2_RESULT]}")
    if args.dry_run:
        print(f"would be registered as {args.register}@{registry.CHAMPION}; nothing was")
        return DONE
    registered = registry.register(
        ensemble,
        args.register,
        experiment=EXPERIMENTS["synthetic" if args.synthetic else "mitdb"],
        workspace=Path.cwd(),
        tracking_uri=args.tracking_uri,
    )
    print(registered)
    if args.synthetic:
        print(SYNTHETIC_MODEL)
    print(f"use it: python -m study.predict --model {args.register}@champion --record PATH")
    return DONE


def _track_opening(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, opening: Opening
) -> None:
    from study.sealed.to_mlflow import record_opening

    place = folder.opening(opening)
    _track(args, folder, place, "mitdb", lambda to: record_opening(to, plan, folder, opening))


def _track(
    args: argparse.Namespace,
    folder: EvaluationFolder,
    place: Path,
    kind: str,
    record: Callable[[Experiment], str],
) -> None:
    """Track a result that is not in the tracker yet; `kind` is the kind of its records."""
    if args.no_track or folder.is_tracked(place):
        return
    try:
        experiment = _experiment(args, kind)
        name = record(experiment)
    except TrackingError as error:
        print(f"warning: {error}; the result is kept, and the same command tries again")
        return
    folder.note_tracked(place)
    print(f"look further: {experiment.where(name)}")


def _experiment(args: argparse.Namespace, kind: str) -> Experiment:
    """Return the MLflow experiment for results; `kind` is the kind of the records."""
    from study.tracking.experiment import Experiment

    return Experiment.of_records("synthetic" if args.synthetic else kind, args.tracking_uri)


def _show(place: Path) -> None:
    from study.sealed.result import TABLES

    try:
        print((place / TABLES).read_text())
    except OSError as error:
        raise StudyStateError(f"{place / TABLES}: cannot be read ({error.strerror})") from error
    print(f"files: {place}")


def _show_bxb(plan: SealedPlan, place: Path, source: Source) -> None:
    from study.sealed.bxb import bxb_table

    print(f"{bxb_table(plan, place, source).text()}\n")


def _progress(args: argparse.Namespace) -> Callable[[str], None]:
    """Return a function that prints progress to stderr."""
    if args.quiet:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    leave(main())
