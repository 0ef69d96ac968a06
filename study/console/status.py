"""Checks and repairs a study: `python -m study.run --status NAME`, and `--repair NAME`.

The status only reads, even while the study runs. A repair shows its steps before it takes them.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.command import as_called
from study.console.kept import RUN, resume_words, started_by
from study.errors import StudyError, StudyStateError, TrackingError, UsageError
from study.keys import Outcome
from study.options import given_besides
from study.wording import first_few, plural

if TYPE_CHECKING:
    from study.store.checks import Fault
    from study.store.study import Study

AGREE, DISAGREE = 0, 1

ROUNDS = 3
"""How often a repair looks again for faults that its own mends revealed."""

_WHERE = ("study_storage", "storage", "tracking_uri", "no_track")
_ALLOWED = {"status", "repair", *_WHERE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A study as it was read, and the faults of its storage, its files and its tracker."""

    study: Study
    faults: Sequence[Fault]
    tracker: str  # remark on the tracker
    compared: bool  # whether the tracker was compared, or had nothing to compare
    left_out: bool  # whether the user left it out

    @property
    def agree(self) -> bool:
        """Whether everything that should be compared agrees."""
        # A tracker that could not be compared may disagree.
        return not self.faults and (self.compared or self.left_out)


def show_records(args: Namespace, defaults: Mapping[str, Any]) -> int:
    """Show the status of a study, and repair it if asked; return the exit code.

    Raises:
        UsageError: If there is no such study, or options mean nothing here.
        StudyStateError: If the study's plan cannot be read, or it is to be repaired
            while it runs.
    """
    from study.store.lock import locked

    _check(args, defaults)
    name = args.status if args.repair is None else args.repair
    read = _read(args, name)
    if args.repair is None:
        same = " with the same options" if any(getattr(args, option) for option in _WHERE) else ""
        return _show(read, repair=as_called(f"`{RUN} --repair {name}`{same}"))
    _refuse_running(read.study)
    if args.dry_run:
        code = _show(read)
        _list_steps(read)
        return code
    with locked(read.study.folder):
        return _repair(args, name)


def _check(args: Namespace, defaults: Mapping[str, Any]) -> None:
    if args.status is not None and args.repair is not None:
        raise UsageError("--status, --repair: give one; --repair shows the status first")
    option = "--status" if args.repair is None else "--repair"
    allowed = _ALLOWED | ({"dry_run"} if args.repair is not None else set())
    lost = given_besides(args, defaults, allowed)
    if lost:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in _WHERE)
        known += "" if args.repair is None else ", --dry-run"
        raise UsageError(
            f"{', '.join(lost)}: means nothing with {option}, which goes by the study's own plan; "
            f"it takes {known}, -v and -q"
        )


def _read(args: Namespace, name: str, *, locked_here: bool = False) -> _Checked:
    from study.store.checks import faults
    from study.store.study import Study

    study = Study.open(
        Path.cwd(),
        name,
        study_storage=args.study_storage,
        storage=args.storage,
        locked_here=locked_here,
    )
    listed = faults(study)
    # Before a study's first trial there is no storage, and nothing to compare.
    compared, tracker = not listed, "not compared: what it should have is in the Optuna storage"
    if args.no_track:
        compared, tracker = False, "left out (--no-track)"
    elif not study.unreadable:
        of_tracker, compared, tracker = _tracker(args, study)
        listed += of_tracker
    return _Checked(
        study=study, faults=listed, tracker=tracker, compared=compared, left_out=args.no_track
    )


def _tracker(args: Namespace, study: Study) -> tuple[list[Fault], bool, str]:
    """Return the tracker's faults, whether it was compared, and a remark on it."""
    from study.tracking.checks import tracker_faults
    from study.tracking.experiment import Experiment

    if not study.tracker:
        remark = "no tracker has this study"
        if study.starts:
            remark += (
                "; the study's own command with --resume, without --no-track, sends all of it"
            )
        return [], True, remark
    try:
        experiment = Experiment.of_records(study.plan.data_source, args.tracking_uri)
        if study.tracker != experiment.store.name and not args.tracking_uri:
            raise TrackingError(
                f"the study is mirrored in {study.tracker}, and this is {experiment.store.shown}: "
                "give --tracking-uri"
            )
        faults = tracker_faults(study, experiment)
        return faults, True, f"compared with {experiment.store.shown}"
    except TrackingError as error:
        return [], False, f"NOT COMPARED: {error}"


def _show(read: _Checked, *, repair: str = "") -> int:
    """Print a status; return the exit code."""
    for line in _status(read.study):
        print(line)
    print(f"MLflow: {read.tracker}")
    study = read.study
    _show_agreement(read)
    if not (study.held or study.unreadable) and (study.trials.owed or study.not_proposed):
        line = started_by(study.folder)
        if line:
            print(as_called(f"started by: {line}"))
        own = not line or line.startswith(RUN)
        goes_on = resume_words(study.name) if own else as_called(f"{line} --resume")
        print(f"to go on: {goes_on}")
    if repair and any(fault.mend for fault in read.faults):
        when = "when it has ended, " if study.held else ""
        print(f"{when}{repair} makes them agree where it can, after showing how")
    return AGREE if read.agree else DISAGREE


def _show_agreement(read: _Checked) -> None:
    which = "Optuna, MLflow and the files" if read.compared else "Optuna and the files"
    if not read.faults:
        running = ", as far as they can while it runs" if read.study.held else ""
        print(f"{which} agree{running}")
        return
    print(f"{which} disagree in {plural(len(read.faults), 'place')}:")
    arms = {row.number: row.arm for row in read.study.rows}
    for fault in sorted(read.faults, key=lambda fault: -1 if fault.trial is None else fault.trial):
        of = "" if fault.trial is None else f"{_trial(fault.trial, arms.get(fault.trial, ''))}: "
        print(f"  {of}{fault.found}")


def _trial(number: int, arm: str) -> str:
    return f"trial {number:>3}" + (f"  {arm}" if arm else "")


def _status(study: Study) -> Iterator[str]:
    from study.reporting.trial_tables import shorter_outcome
    from study.spaces.settings import SCREENING
    from study.store.trials import Proposal

    plan, rows, trials = study.plan, study.rows, study.trials
    up_to = "up to " if plan.scheduler == SCREENING else ""
    yield (
        f"study '{study.name}': {plan.kind} of space '{plan.space}', "
        f"{plan.trials} trials of {up_to}{plural(plan.epochs, 'epoch')}, "
        f"objective {plan.objective}, data: {plan.data_source}"
    )
    if study.held:
        yield f"it is being run by {study.owner or 'another process'}"
    elif study.unreadable:
        yield f"nobody runs it; nothing is known of its trials: {study.unreadable}"
        return
    else:
        yield f"nobody runs it; {study.last_start}"
    counts = [
        f"{sum(row.outcome is outcome for row in rows)} {outcome}"
        for outcome in (Outcome.COMPLETE, shorter_outcome(rows), Outcome.FAILED)
    ]
    counts += [f"{len(trials.live)} running", f"{len(trials.owed)} owed"]
    end = (
        "nothing new to propose" if trials.exhausted else f"{study.not_proposed} not proposed yet"
    )
    yield f"trials: {', '.join(counts)}, {end}"
    if superseded := trials.superseded:
        went_on = first_few(f"trial {earlier} went on as {later}" for earlier, later in superseded)
        yield f"besides: {plural(len(superseded), 'superseded attempt')}: {went_on}"
    if trials.n_repeats:
        yield f"besides: {plural(trials.n_repeats, 'repeat')}"
    for trial in trials.live:
        proposal = Proposal.of(trial)
        done = f"epoch {trial.last_step or 0} of {proposal.config.train.epochs}"
        yield f"running: {_trial(trial.number, proposal.arm)}: {done} reported"
    for trial in trials.owed:
        proposal = Proposal.of(trial)
        yield (
            f"owed:    {_trial(trial.number, proposal.arm)}: "
            f"{_continuation(study, proposal.digest)} "
            f"(attempt {proposal.attempt}: {trials.why_owed(trial)})"
        )
    for row in rows:
        if row.outcome is Outcome.FAILED:
            yield f"failed:  {_trial(row.number, row.arm)}: {row.cause.strip()}"


def _continuation(study: Study, digest: str) -> str:
    """Say from where an owed trial continues, or why it starts again."""
    from study.addresses import redact, shown
    from study.errors import CheckpointError
    from study.store.trial_files import CHECKPOINT, unpack_checkpoint

    files = study.files.folder(digest)
    try:
        content = files.read(CHECKPOINT)
        if content is None:
            return "starts again: it has no checkpoint"
        return f"goes on after epoch {unpack_checkpoint(content)[0]}"
    except CheckpointError as error:
        return f"starts again: {error}"
    except OSError as error:
        raise StudyStateError(
            f"{shown(files.root)}/{CHECKPOINT}: cannot be read ({redact(error, files.root)})"
        ) from None


def _refuse_running(study: Study) -> None:
    if study.held:
        raise StudyStateError(
            f"study '{study.name}' is being run by {study.owner or 'another process'}; "
            "wait for it, or stop it"
        )


def _list_steps(read: _Checked) -> list[Any]:
    from study.store.checks import steps

    planned = steps(read.faults)
    if not planned:
        print("repair: nothing to do" if not read.faults else "repair: none of it can be repaired")
    else:
        print("repair:")
    for number, (mend, faults) in enumerate(planned, start=1):
        print(f"  {number}. {mend.says(faults)}")
    return planned


def _repair(args: Namespace, name: str) -> int:
    from study.store.ledger import Ledger

    read = _read(args, name, locked_here=True)
    _refuse_running(read.study)
    code = _show(read)
    planned = _list_steps(read)
    if not planned:
        return code
    study = read.study
    ledger = Ledger(storage_url=study.places.url, name=study.name, epochs=study.plan.epochs)
    try:
        for _ in range(ROUNDS):
            for number, (mend, faults) in enumerate(planned, start=1):
                try:
                    outcome = mend.do(read.study, ledger, faults) or "done"
                except (StudyError, OSError) as error:
                    outcome = f"NOT DONE: {error}"
                print(f"{number} of {len(planned)}: {outcome}", flush=True)
            before, read = read, _read(args, name, locked_here=True)
            _show_agreement(read)
            # A mend may reveal further faults: in a table, or in the tracker.
            if not any(f.mend for f in read.faults) or read.faults == before.faults:
                break
            planned = _list_steps(read)
    finally:
        ledger.release()
    if read.study.trials.owed:
        print("what is owed is run by the study's own command with --resume")
    return AGREE if read.agree else DISAGREE
