"""Whether a study's records agree: its Optuna storage, which is the truth, and its files.

What its tracker has is compared in `study.tuning.tracker_agreement`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from study.addresses import redact, shown
from study.keys import Outcome, Tag
from study.store import trials
from study.store.folder import BEATS, CLAIM, SPACE_COPY, TRIALS, leftovers
from study.store.plan import GROWS, PLAN_FILE
from study.store.status import Facts
from study.store.storage import Storage
from study.store.trial_files import CHECKPOINT, RESULTS, SCORES, file_fault
from study.store.trials import TrialRow, trials_csv
from study.tracking.mlflow_runs import RecordedRun

if TYPE_CHECKING:
    from study.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mending:
    """How all faults of a kind are mended.

    Args:
        says: What will be done about these faults, in words.
        do: Does it; returns what came of it beyond that, or nothing.
        at_start: Whether a start does it too; otherwise `--repair` alone.
    """

    says: Callable[[Sequence[Fault]], str]
    do: Callable[[Ledger, Sequence[Fault]], str]
    at_start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong with a study's records.

    Args:
        kind: Its name among the kinds of faults.
        found: What is wrong, in words that follow the trial's name.
        trial: Its trial's number; None where it is about the study.
        digest: Its trial's digest, or that of a floor; empty where it is about the study.
        file: A file to be deleted: its name in the trial's folder, or a path.
        mend: How it is mended; None where only the user can, and `found` says how.
        refused: Whether no start may run over it.
    """

    kind: str
    found: str
    trial: int | None = None
    digest: str = ""
    file: str = ""
    mend: Mending | None = None
    refused: bool = False


def steps(faults: Sequence[Fault]) -> list[tuple[Mending, list[Fault]]]:
    """Return how faults are mended, each with those that it ends, in the order of the faults."""
    by_mend: dict[Mending, list[Fault]] = {}
    for fault in faults:
        if fault.mend is not None:
            by_mend.setdefault(fault.mend, []).append(fault)
    return list(by_mend.items())


class Mend(StrEnum):
    """What makes the records agree again, in the order in which it is done."""

    SETTLE = "settle"
    """Tell Optuna how a trial ended that no process runs."""
    MARK = "mark"
    """Say of an attempt that another followed."""
    WITHDRAW = "withdraw"
    """Owe a trial again whose results are lost."""
    DELETE = "delete"
    """Delete a file that nothing reads."""
    TABLE = "table"
    """Write `trials.csv` again."""
    TELL = "tell"
    """Tell the tracker an outcome that it was not told."""
    SEND = "send"
    """Send the tracker what the journal keeps, and how the last start ended."""
    REMOVE = "remove"
    """Delete a run of the tracker that is there twice, or has metrics twice."""
    RESEND = "resend"
    """Tell the tracker again what the journal has of a trial."""
    REPLAY = "replay"
    """Tell the tracker the whole journal again."""
    NOTHING = "nothing"
    """Only the user can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A place where two records of a study do not agree.

    Args:
        mend: What makes them agree.
        what: What is wrong, in words that follow the trial's name.
        trial: Its trial's number; None where it is about the study.
        digest: Its trial's digest, or that of a floor; empty where it is about the study.
        file: A file to be deleted: its name in the trial's folder, or a path.
        run: A run to be deleted.
    """

    mend: Mend
    what: str
    trial: int | None = None
    digest: str = ""
    file: str = ""
    run: RecordedRun | None = None


def disagreements(facts: Facts) -> list[Disagreement]:
    """Compare a study's storage and files."""
    if facts.gap:
        return list(_without_storage(facts))
    return [
        *_of_storage(facts),
        *_of_plan(facts),
        *_of_folder(facts),
        *_of_results(facts),
        *_of_checkpoints(facts),
        *_leftovers(facts),
        *_of_table(facts),
    ]


def _without_storage(facts: Facts) -> Iterator[Disagreement]:
    # A plan alone is of a start that ended before it proposed anything.
    if facts.tracked or (facts.folder / BEATS).exists():
        yield Disagreement(
            mend=Mend.NOTHING,
            what=f"the Optuna storage: {facts.gap}; give --study-storage as the study was started "
            "with, or bring the file back from a copy",
        )


def _of_storage(facts: Facts) -> Iterator[Disagreement]:
    if facts.held:
        return
    for trial in facts.trials:
        outcome = trial.user_attrs.get(Tag.OUTCOME)
        what = ""
        if trial.state is TrialState.WAITING:
            what = "waits in Optuna, and nothing will ask for it"
        elif not trial.state.is_finished() and outcome in trials.COUNTED:
            what = f"is RUNNING in Optuna, where it is written down as {outcome}"
        elif not trial.state.is_finished():
            what = "is RUNNING in Optuna, and no process runs it"
        if what:
            yield Disagreement(mend=Mend.SETTLE, what=what, trial=trial.number)
    known = trials.attempts(facts.trials)
    for digest, outcome in facts.journal.outcomes.items():
        if digest not in known:
            yield Disagreement(
                mend=Mend.NOTHING,
                what=f"the Optuna storage has no row of configuration {digest}, which was "
                f"{outcome}: bring the storage back from a copy, or let --resume run it again",
            )
    for number, follower in trials.unmarked(facts.trials, facts.marks).items():
        yield Disagreement(
            mend=Mend.MARK,
            what=f"was followed by trial {follower}, and is not marked as superseded",
            trial=number,
        )


def _of_plan(facts: Facts) -> Iterator[Disagreement]:
    """Compare what a start refuses: another plan than the storage's, another study's results."""
    kept = facts.attrs.get(trials.PLAN)
    if kept is not None:
        for key in sorted(kept.keys() | facts.plan.keys()):
            # The budget of a start that was killed just then may be in one of the two.
            if key != GROWS and kept.get(key) != facts.plan.get(key):
                yield Disagreement(
                    mend=Mend.NOTHING,
                    what=f"{PLAN_FILE} has {key} {facts.plan.get(key)!r}, the Optuna storage "
                    f"{kept.get(key)!r}: bring the file back from a copy",
                )
    claimed = facts.storage.read(CLAIM)
    if (
        claimed is not None
        and facts.study_id
        and claimed.decode(errors="replace") != facts.study_id
    ):
        yield Disagreement(
            mend=Mend.NOTHING,
            what=f"{shown(facts.storage.root)} has the results of another study of this name; "
            "give --storage as this one was started with, or bring the folder back from a copy",
        )


def _of_folder(facts: Facts) -> Iterator[Disagreement]:
    """Look for what every start writes, whether anything is left to run or not."""
    again = "the study's own command with --resume writes it again"
    if facts.settled and not (facts.folder / SPACE_COPY).exists():
        yield Disagreement(mend=Mend.NOTHING, what=f"{SPACE_COPY} is missing; {again}")
    beats = facts.folder / BEATS
    fault = file_fault(BEATS, beats.read_bytes() if beats.exists() else None)
    if facts.settled and fault:
        yield Disagreement(
            mend=Mend.NOTHING,
            what=f"{BEATS}, which all predictions refer to, {fault}; {again}",
        )


def _of_results(facts: Facts) -> Iterator[Disagreement]:
    rows = [row for row in facts.settled.values() if row.outcome is Outcome.COMPLETE]
    if not rows:
        return
    files = [(row, facts.storage.folder(row.digest)) for row in rows]
    if not any(place.holds(name) for _, place in files for name in RESULTS):
        yield Disagreement(
            mend=Mend.NOTHING,
            what=f"{shown(facts.storage.root)} has no file of any complete trial; give --storage "
            "as the study was started with, or bring the folder back from a copy",
        )
        return
    for row, place in files:
        yield from _of_trial(row, place)


def _of_trial(row: TrialRow, place: Storage) -> Iterator[Disagreement]:
    try:
        found = [(name, file_fault(name, place.read(name))) for name in RESULTS]
        if not any(fault for _, fault in found):
            found.append((SCORES, _other_scores(row, place)))
    except OSError as error:
        yield Disagreement(
            mend=Mend.NOTHING,
            what=f"its files cannot be read ({redact(error, place.root)})",
            trial=row.number,
            digest=row.digest,
        )
        return
    faults = [f"{name} {fault}" for name, fault in found if fault]
    if faults:
        yield Disagreement(
            mend=Mend.WITHDRAW, what="; ".join(faults), trial=row.number, digest=row.digest
        )


def _other_scores(row: TrialRow, place: Storage) -> str:
    """Say where a trial's file of scores has others than the storage."""
    scores = json.loads(place.read(SCORES) or b"{}")
    kept = scores.get("metrics", {}) if isinstance(scores, dict) else {}
    for name, value in row.metrics.items():
        # The storage has also what was logged on the way, such as the loss of the last epoch.
        if name in kept and kept[name] != value:
            return f"has {name} {kept[name]}, the Optuna storage has {value}"
    return ""


def _of_checkpoints(facts: Facts) -> Iterator[Disagreement]:
    if facts.held:  # the driver deletes one just after it has settled the trial
        return
    for digest, row in facts.settled.items():
        if facts.storage.folder(digest).holds(CHECKPOINT):
            yield Disagreement(
                mend=Mend.DELETE,
                what=f"is {row.outcome}, and its {CHECKPOINT} is still there",
                trial=row.number,
                digest=digest,
                file=CHECKPOINT,
            )


def _leftovers(facts: Facts) -> Iterator[Disagreement]:
    if facts.held:
        return
    for path in leftovers(facts.folder, facts.storage.root):
        yield Disagreement(
            mend=Mend.DELETE,
            what=f"{_within(path, facts.folder)} is half written, and nothing reads it",
            file=str(path),
        )


def _within(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _of_table(facts: Facts) -> Iterator[Disagreement]:
    """Compare `trials.csv`, which every start writes at its end."""
    if facts.held or not facts.settled:
        return
    path = facts.folder / TRIALS
    if not path.exists():
        yield Disagreement(mend=Mend.TABLE, what=f"{TRIALS} is missing")
    elif path.read_text() != table(facts):
        yield Disagreement(mend=Mend.TABLE, what=f"{TRIALS} has not the rows of the storage")


def table(facts: Facts) -> str:
    """Return `trials.csv` as the storage has it."""
    return trials_csv(sorted(facts.settled.values(), key=lambda row: row.number))
