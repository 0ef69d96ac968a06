"""The sealed test: `python -m study.evaluate --plan FILE`.

  python -m study.evaluate --write-plan fusion_compare      a plan from a study's results
  python -m study.evaluate --plan PLAN.toml --dry-run       what it would do; opens nothing
  python -m study.evaluate --plan PLAN.toml                 train, open DS2 once, report
  python -m study.evaluate --plan PLAN.toml --test svdb     the same models on another test set
  python -m study.evaluate --openings                       how often each was opened, and for what
  python -m study.evaluate --plan PLAN.toml --records DIR   its models on any other records
  python -m study.evaluate --plan PLAN.toml --register NAME its seed ensemble as NAME@champion

A plan is written before the test set is seen. It names arms, contrasts, metrics and seeds, and
what each arm trains on: DS1 unless it says otherwise. Every arm is trained anew on all of these
records, with 10 fresh seeds or more and a fixed number of epochs. Thresholds are fixed on them.
Then the opening is written into the log of the test set (test_openings.jsonl for DS2), and only
then the test set is read. Training is a study like any other: the same command continues after a
stop. For a plan that has a result, the command shows it and opens nothing. --records and
--register use the same models and open nothing.

Everything is in evaluations/NAME-HASH/ of the current folder. docs/evaluation.md has the protocol.

Exit codes: 0 done; 2 the options, the plan, the records or the study cannot be used, or a disk
fails; 130 interrupted, the same command continues; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, as_called, carry_out, leave
from study.errors import UsageError
from study.files import output_fault
from study.keys import EXPERIMENTS
from study.options import set_logging
from study.sealed.arguments import check, parser
from study.wording import SYNTHETIC, SYNTHETIC_MODEL

if TYPE_CHECKING:
    from study.sealed.session import Session
    from study.store.openings import Opening, OpeningsLog


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
    from study.sealed.result import opened_sets, openings_log

    for test_set in opened_sets(workspace, rehearsal=rehearsal):
        log = openings_log(workspace, test_set, rehearsal=rehearsal)
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
    return "\n".join([log.sentence(), *(f"warning: {fault}" for fault in lost)])


def _write_plan(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.propose import propose

    name = args.write_plan
    path = args.output or Path(f"{name}_test.toml")
    if fault := output_fault(path, new=True):
        raise UsageError(f"--output: {fault}")
    proposal = propose(
        workspace, name, arms=args.arms, train_on=args.on, storage_url=args.study_storage
    )
    plan = proposal.plan
    remarks = (
        f"From the results of study '{name}'. {proposal.comments}",
        "You may change this plan until a test set is opened: the opening logs its hash.",
    )
    lines = [line for text in remarks for line in textwrap.wrap(text, 95)]
    command = f"python -m study.evaluate --plan {path}"
    comments = "\n".join([command, *lines])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(plan.text(comments))
    print(f"{path}: plan {plan.title}")
    for development, arms in plan.developments.items():
        print(f"  arms on {development}: {', '.join(arm.name for arm in arms)}")
    print(f"  contrasts: {plan.test.contrasts_text or 'none'}")
    for lack in proposal.lacks:
        print(f"  warning: {lack}")
    print(f"  {plan.seeds} seeds each; look at it, then: {as_called(command)}")
    return DONE


def _evaluate(args: argparse.Namespace, workspace: Path) -> int:
    from study.sealed.plan import load_plan
    from study.sealed.session import Session

    plan = load_plan(args.plan, args.plugin, workspace)
    session = Session(args=args, plan=plan, workspace=workspace)
    if args.records is not None and args.test is None:
        return _on_records(session)
    folder, log = session.folder, session.log
    if args.register is not None:
        return _register(session)
    opening = None if args.again or args.dry_run else folder.last_result(log, plan)
    if opening is not None:
        print(
            f"plan {plan.title} has a result: nothing was opened (--again opens "
            f"{folder.test_set} once more)"
        )
        session.track_opening(opening)
    else:
        opening = _train_and_open(session)
    if opening is not None:
        session.show(folder.opening(opening), lambda: session.records().test)
        if args.synthetic:
            print(SYNTHETIC)
        print(_sentence(workspace, log, rehearsal=args.synthetic))
    return DONE


def _train_and_open(session: Session) -> Opening | None:
    """Train, open the test set and store the result; return the opening, or None without one."""
    from study.sealed.opening import evaluate_test_set, open_test_set
    from study.sealed.training import train
    from study.store.lock import locked

    args, plan, folder, log = session.args, session.plan, session.folder, session.log
    training = session.training()
    if args.dry_run:
        print(training.text())
        print(_sentence(session.workspace, log, rehearsal=args.synthetic))
        return None
    run = session.runner(training)
    with locked(folder.root):
        meanwhile = folder.last_result(log, plan)
        if meanwhile is not None and not args.again:
            return meanwhile
        prepared = train(training, run)
        if args.stop_before_opening:
            print(f"plan {plan.title}: models and thresholds are in {folder.root}")
            print(_sentence(session.workspace, log, rehearsal=args.synthetic))
            return None
        opening, remark = open_test_set(prepared, log)
        session.say(f"opening {opening.number} of {folder.words}, in {log.path}{remark}")
        cache_dir = session.machine.cache_dir
        evaluate_test_set(prepared, opening, cache_dir=cache_dir, say=session.say)
        session.track_opening(opening)
    return opening


def _on_records(session: Session) -> int:
    """Test a plan's models on the records of `--records`, and show the result."""
    from study.data.external import find_external
    from study.sealed.external import prepare_external
    from study.sealed.opening import evaluate_records, identity_of
    from study.sealed.records import check_apart
    from study.sealed.to_mlflow import record_external
    from study.sealed.training import cuts_of, train
    from study.store.lock import locked

    args, plan, folder = session.args, session.plan, session.folder
    # Faults of the records should show before an hour of training.
    external = find_external(
        args.records, leads=args.lead, split_file=args.split, strict=args.strict
    )
    training = session.training()
    for development, source in training.records.developments.items():
        check_apart(source, external.source, development)
    prepared_records = prepare_external(
        external,
        cuts_of(plan),
        cache_dir=session.machine.cache_dir,
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
    run = session.runner(training)
    with locked(folder.root):
        prepared = train(training, run)
        identity = identity_of(prepared_records, prepared)
        if folder.stored_external(name).get("identity") == identity:
            print(f"plan {plan.title} has a result on {name}: shown as it is")
        else:
            evaluate_records(prepared, prepared_records, say=session.say)
        session.track(place, kind, lambda to: record_external(to, plan, folder, name))
    session.show(place, lambda: external.source)
    if args.synthetic or kind == "synthetic":
        print(SYNTHETIC)
    print("DS2 was not opened.")
    return DONE


def _register(session: Session) -> int:
    """Put an arm's seed ensemble into the model registry, with the result of its last opening."""
    from study.models import rules
    from study.sealed.to_mlflow import DS2_RESULT, registrable
    from study.tracking import registry

    args, plan, folder = session.args, session.plan, session.folder
    registry.check_name(args.register)
    opening = folder.last_opening(session.log, plan)
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
    use = f"python -m study.predict --model {args.register}@champion --record PATH"
    print(as_called(f"use it: {use}"))
    return DONE


if __name__ == "__main__":
    leave(main())
