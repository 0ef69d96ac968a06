"""What a study's records say: `python -m study.run --status NAME`, and `--repair NAME`.

The status is read, also while the study runs. A repair shows what it will do before it does it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import StudyStateError, TrackingError, UsageError
from study.keys import EXPERIMENTS, Outcome

if TYPE_CHECKING:
    from study.store.checks import Disagreement
    from study.store.status import Facts
    from study.store.storage import Storage
    from study.tracking.mlflow_runs import MlflowRecords
    from study.tracking.sink import Sink

AGREE, DISAGREE = 0, 1

OpenSink = Callable[[Namespace, str, Path, Path], "Sink"]
"""Returns the tracker of a command line, of records of a kind, in a workspace and its folder."""

_WHERE = ("study_storage", "storage", "tracking_uri", "no_track")
_ALLOWED = {"status", "repair", "verbose", "quiet", *_WHERE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where the records of a study are."""

    folder: Path
    url: str
    storage: Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What was read of them, and where they disagree.

    Args:
        facts: The study.
        found: Where its records disagree.
        records: Its tracker; None where it was not looked into.
        tracker: What is to be said of the tracker.
        compared: Whether the tracker was compared, or there was nothing to compare.
        left_out: Whether it was not to be compared.
    """

    facts: Facts
    found: Sequence[Disagreement]
    records: MlflowRecords | None
    tracker: str
    compared: bool
    left_out: bool

    @property
    def agree(self) -> bool:
        """Whether all that was to be compared agrees."""
        return not self.found and (self.compared or self.left_out)


def show_records(args: Namespace, defaults: Mapping[str, Any], open_sink: OpenSink) -> int:
    """Show the status of a study, and repair it where that was asked; return the exit code.

    Args:
        args: The command line.
        defaults: What it holds where an option is not given.
        open_sink: Opens the tracker, to be told.

    Raises:
        UsageError: If there is no such study, or options mean nothing here.
        StudyStateError: If the study's plan or journal cannot be read, or it is to be repaired
            while it runs.
    """
    from study.store.folder import locked, study_folder
    from study.store.status import plan_of
    from study.store.storage import Storage

    _check(args, defaults)
    name = args.status if args.repair is None else args.repair
    folder = study_folder(Path.cwd(), name)
    plan_of(folder)
    places = _Places(
        folder=folder,
        url=args.study_storage or f"sqlite:///{folder / 'study.db'}",
        storage=Storage.at(args.storage).folder(name)
        if args.storage
        else Storage.at(folder / "trials"),
    )
    if args.repair is None:
        same = " with the same options" if any(getattr(args, option) for option in _WHERE) else ""
        command = f"`python -m study.run --repair {name}`{same}"
        return _show(_read(args, places), repair=command)
    if args.dry_run:
        return _plan(args, places)
    with locked(folder):
        return _repair(args, places, open_sink)


def _check(args: Namespace, defaults: Mapping[str, Any]) -> None:
    if args.status is not None and args.repair is not None:
        raise UsageError("--status, --repair: give one; --repair shows the status first")
    option = "--status" if args.repair is None else "--repair"
    allowed = _ALLOWED | ({"dry_run"} if args.repair is not None else set())
    lost = [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if name not in allowed and value != defaults[name]
    ]
    if lost:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in _WHERE)
        known += "" if args.repair is None else ", --dry-run"
        raise UsageError(
            f"{', '.join(lost)}: means nothing with {option}, which goes by the study's own plan; "
            f"it takes {known}, -v and -q"
        )


def _read(args: Namespace, places: _Places, *, mine: bool = False) -> _Read:
    from study.store.checks import disagreements
    from study.store.journal import JOURNAL, SENT, Mark
    from study.store.status import read_facts
    from study.tuning.tracker_agreement import in_tracker, unsent

    facts = read_facts(places.folder, storage_url=places.url, storage=places.storage, mine=mine)
    found = disagreements(facts)
    records, compared, tracker = None, True, "nothing was told to any tracker"
    if args.no_track:
        compared, tracker = False, "left out (--no-track)"
    elif not facts.tracked and (facts.recorded or (places.folder / SENT).exists()):
        compared, tracker = False, f"NOT COMPARED: {JOURNAL} is missing; bring it back from a copy"
    elif facts.tracked:
        found += unsent(facts)
        total = len(facts.journal.events)
        tracker = f"{total - facts.unsent} of {total} events of the journal are sent"
        try:
            records = _records(args, facts)
            told = Mark(facts.folder, facts.journal.last, records.store).other_store
            if told and not args.tracking_uri:
                raise TrackingError(
                    f"they were sent to {told}, and this is {records.where}: give --tracking-uri"
                )
            found += in_tracker(facts, records)
            tracker += f" to {records.where}"
        except TrackingError as error:
            records, compared = None, False
            tracker += f"; NOT COMPARED: {error}"
    return _Read(
        facts=facts,
        found=found,
        records=records,
        tracker=tracker,
        compared=compared,
        left_out=args.no_track,
    )


def _records(args: Namespace, facts: Facts) -> MlflowRecords:
    from study.tracking.mlflow_runs import MlflowRecords

    return MlflowRecords(
        tracking_uri=args.tracking_uri,
        experiment=EXPERIMENTS[str(facts.plan["data_source"])],
        workspace=Path.cwd(),
    )


def _show(read: _Read, *, repair: str = "") -> int:
    """Print a status; return the exit code."""
    from study.store.checks import Mend

    for line in _status(read.facts):
        print(line)
    print(f"MLflow: {read.tracker}")
    for fault in read.facts.journal.faults:
        print(f"note: {fault}")
    _show_agreement(read)
    facts = read.facts
    if not (facts.held or facts.gap) and (facts.owed or facts.not_proposed):
        print("to go on: the command that started it, with --resume")
    if repair and any(one.mend is not Mend.NOTHING for one in read.found):
        when = "when it has ended, " if read.facts.held else ""
        print(f"{when}{repair} makes them agree where it can, after showing how")
    # What could not be compared is not known to agree.
    return AGREE if read.agree else DISAGREE


def _show_agreement(read: _Read) -> None:
    which = "the three records" if read.compared else "the records but MLflow's"
    if not read.found:
        running = ", as far as they can while it runs" if read.facts.held else ""
        print(f"{which} agree{running}")
        return
    places = f"{len(read.found)} place{'s' if len(read.found) > 1 else ''}"
    print(f"{which} disagree in {places}:")
    arms = {row.number: row.arm for row in read.facts.settled.values()}
    for one in sorted(read.found, key=lambda one: (one.trial is not None, one.trial or 0)):
        if one.trial is None:
            print(f"  {one.what}")
        else:
            print(f"  {_trial(one.trial, arms.get(one.trial, ''))}: {one.what}")


def _trial(number: int, arm: str) -> str:
    return f"trial {number:>3}" + (f"  {arm}" if arm else "")


def _status(facts: Facts) -> Iterator[str]:
    from study.reporting.trial_tables import shorter_outcome
    from study.spaces.settings import SCREENING

    plan, rows = facts.plan, sorted(facts.settled.values(), key=lambda row: row.number)
    up_to = "up to " if plan.get("scheduler") == SCREENING else ""
    yield (
        f"study '{facts.name}': {plan.get('kind')} of space '{plan.get('space')}', "
        f"{plan.get('trials')} trials of {up_to}{plan.get('epochs')} epochs, "
        f"objective {plan.get('objective')}, data: {plan.get('data_source')}"
    )
    if facts.held:
        yield f"it is being run by {facts.owner or 'another process'}"
    elif facts.gap:
        yield f"nobody runs it; nothing is known of its trials: {facts.gap}"
        return
    else:
        yield f"nobody runs it; {facts.last_start}"
    counts = [
        f"{sum(row.outcome is outcome for row in rows)} {outcome}"
        for outcome in (Outcome.COMPLETE, shorter_outcome(rows), Outcome.FAILED)
    ]
    counts += [f"{len(facts.running)} running", f"{len(facts.owed)} owed"]
    end = "nothing new to propose" if facts.exhausted else f"{facts.not_proposed} not proposed yet"
    yield f"trials: {', '.join(counts)}, {end}"
    if facts.superseded or facts.duplicates:
        yield f"besides: {facts.superseded} superseded attempts, {facts.duplicates} repeats"
    for trial in facts.running:
        done = f"epoch {trial.last_step or 0} of {trial.user_attrs['config']['epochs']}"
        yield f"running: {_trial(trial.number, trial.user_attrs['arm'])}: {done} reported"
    for owed in facts.owed:
        goes_on = (
            f"goes on after epoch {owed.epoch}" if owed.epoch else f"starts again: {owed.why}"
        )
        yield (
            f"owed:    {_trial(owed.number, owed.arm)}: {goes_on} "
            f"(attempt {owed.attempt}: {owed.cause})"
        )
    for row in rows:
        if row.outcome is Outcome.FAILED:
            yield f"failed:  {_trial(row.number, row.arm)}: {row.cause.strip()}"


def _plan(args: Namespace, places: _Places) -> int:
    """Show what a repair would do."""
    read = _read(args, places)
    _refuse_running(read.facts)
    code = _show(read)
    _list_steps(args, read)
    return code


def _refuse_running(facts: Facts) -> None:
    if facts.held:
        raise StudyStateError(
            f"study '{facts.name}' is being run by {facts.owner or 'another process'}; "
            "wait for it, or stop it"
        )


def _list_steps(args: Namespace, read: _Read) -> list[Any]:
    from study.tuning.repair import steps

    planned = steps(read.facts, read.found, tracking=read.records is not None)
    if not planned:
        print("repair: nothing to do" if not read.found else "repair: none of it can be repaired")
    else:
        print("repair:")
    for number, step in enumerate(planned, start=1):
        print(f"  {number}. {step.text}")
    return planned


def _repair(args: Namespace, places: _Places, open_sink: OpenSink) -> int:
    from study.store.ledger import Ledger
    from study.tuning.repair import Repair

    read = _read(args, places, mine=True)
    _refuse_running(read.facts)
    code = _show(read)
    planned = _list_steps(args, read)
    if not planned:
        return code
    plan = read.facts.plan
    sink = None
    if read.records is not None:
        sink = open_sink(args, str(plan["data_source"]), Path.cwd(), places.folder)
    ledger = Ledger(storage_url=places.url, name=read.facts.name, epochs=int(plan["epochs"]))
    try:
        repair = Repair(read.facts, ledger, sink=sink, records=read.records)
        for number, step in enumerate(planned, start=1):
            print(f"{number} of {len(planned)}: {repair.do(step)}", flush=True)
    finally:
        ledger.release()
    after = _read(args, places, mine=True)
    _show_agreement(after)
    if after.facts.owed:
        print("what is owed is run by the study's own command with --resume")
    return AGREE if after.agree else DISAGREE
