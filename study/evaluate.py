"""The sealed test: `python -m study.evaluate --plan FILE`.

  python -m study.evaluate --write-plan fusion_compare      a plan from a study's results on DS1
  python -m study.evaluate --plan PLAN.toml --dry-run       what it would do; opens nothing
  python -m study.evaluate --plan PLAN.toml                 train, open DS2 once, report
  python -m study.evaluate --openings                       how often DS2 was opened, and for what
  python -m study.evaluate --plan PLAN.toml --records DIR   its models on other records than DS2
  python -m study.evaluate --plan PLAN.toml --register NAME its seed ensemble as NAME@champion

A plan is written before DS2 is seen: arms, contrasts, metrics, seeds. Every arm is trained anew on
all of DS1 with 10 fresh seeds or more and its fixed number of epochs; thresholds are fixed on DS1;
then the opening goes into test_openings.jsonl, and only then DS2 is read. What is trained is kept:
the same command continues after a stop. A plan that has a result shows it and opens nothing.
--records and --register use the same models and never open DS2.

Everything is in evaluations/NAME-HASH/ of the current folder. docs/evaluation.md has the protocol.

Exit codes: 0 done; 2 bad usage, plan, records, study or file system; 130 interrupted, the same
command continues; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, carry_out, leave
from study.errors import UsageError
from study.sealed.arguments import check, parser

if TYPE_CHECKING:
    from study.sealed.folder import EvaluationFolder
    from study.sealed.plan import SealedPlan
    from study.tracking.openings import Opening, OpeningsLog


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    level = logging.DEBUG if args.verbose else logging.ERROR if args.quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("study").setLevel(level)
    return carry_out(
        lambda: _run(args),
        kept=lambda: "what is trained is kept, the same command continues",
        verbose=args.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    return parser(__doc__)


def _run(args: argparse.Namespace) -> int:
    check(args)
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
    from study import evaluate_models as models
    from study.sealed.folder import EvaluationFolder, openings_log
    from study.sealed.plan_file import load_plan

    plan = load_plan(args.plan)
    folder = EvaluationFolder.of(workspace, plan, rehearsal=args.synthetic)
    if args.records is not None:
        models.on_records(args, plan, folder, workspace)
        return DONE
    log = openings_log(workspace, rehearsal=args.synthetic)
    if args.register is not None:
        models.register(args, plan, folder, _last_result(log, plan, folder))
        return DONE
    opening = None if args.again or args.dry_run else _last_result(log, plan, folder)
    if opening is not None:
        print(f"plan {plan.title} has a result: nothing was opened (--again opens DS2 once more)")
        _track(args, plan, folder, opening)
    else:
        opening = _from_records(args, plan, folder, log, workspace)
    if opening is not None:
        models.show(folder.opening(opening))
        if args.synthetic:
            print("these records are SYNTHETIC: the figures say nothing about patients")
        print(_sentence(workspace, log, rehearsal=args.synthetic))
    return DONE


def _from_records(
    args: argparse.Namespace,
    plan: SealedPlan,
    folder: EvaluationFolder,
    log: OpeningsLog,
    workspace: Path,
) -> Opening | None:
    """Train, open DS2 and keep the result; return the opening, None if there was to be none."""
    from study import evaluate_models as models
    from study.sealed.evaluation import evaluate, open_ds2

    training = models.training_of(args, plan, folder, workspace)
    if args.dry_run:
        print(training.text())
        print(_sentence(workspace, log, rehearsal=args.synthetic))
        return None
    records = training.records
    if not args.no_track:
        # A store that cannot be used must cost neither an hour nor an opening.
        models.experiment_of(args, records.source.kind).connect()
    say = models.progress(args)
    with folder.locked():
        meanwhile = _last_result(log, plan, folder)
        if meanwhile is not None and not args.again:
            return meanwhile
        prepared = training.prepare(args)
        if args.stop_before_opening:
            print(f"plan {plan.title}: models and thresholds are in {folder.root}")
            print(_sentence(workspace, log, rehearsal=args.synthetic))
            return None
        opening, why = open_ds2(plan, prepared, records, folder, log)
        say(f"opening {opening.number} of DS2, in {log.path}{why}")
        evaluate(plan, prepared, records, folder, opening, cache_dir=training.cache_dir, say=say)
        _track(args, plan, folder, opening)
    return opening


def _last_result(log: OpeningsLog, plan: SealedPlan, folder: EvaluationFolder) -> Opening | None:
    """Return the last opening of a plan that left a result."""
    with_result = [
        opening
        for opening in log.read()
        if opening.content.get("plan_hash") == plan.hash and folder.has_result(opening)
    ]
    return with_result[-1] if with_result else None


def _track(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, opening: Opening
) -> None:
    from study.evaluate_models import track
    from study.sealed.record import record_opening

    track(
        args,
        folder,
        folder.opening(opening),
        "mitdb",
        lambda experiment: record_opening(experiment, plan, folder, opening),
    )


if __name__ == "__main__":
    leave(main())
