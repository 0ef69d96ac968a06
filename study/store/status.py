"""The facts of a study in any state: what is done, running, failed and owed, and who runs it.

It only reads, also while the study runs, and needs neither torch nor Ray. What its records say of
each other is in `study.store.checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from study.addresses import redact, shown
from study.errors import CheckpointError, StudyStateError, UsageError, did_you_mean
from study.keys import Outcome, Tag
from study.store import trials
from study.store.folder import check_plan_is_there, holder, studies
from study.store.journal import JOURNAL, Kind, Lines, Mark, read
from study.store.optuna_storage import reading, storage_fault
from study.store.owner import Owner, elsewhere
from study.store.plan import load_plan
from study.store.storage import Storage
from study.store.trial_files import CHECKPOINT, checkpoint_epoch
from study.store.trials import (
    DUPLICATE_OF,
    EXHAUSTED,
    PLACE,
    RUN_ID,
    TRACKED,
    Marks,
    TrialRow,
    row_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedTrial:
    """A configuration that was begun and is to be run again.

    Args:
        number: Its last attempt.
        arm: What is compared.
        digest: Its configuration's.
        attempt: How many attempts there were.
        cause: Why it is owed.
        epoch: The epoch after which it goes on; 0 where it starts again.
        why: Why it starts again; empty where it goes on.
    """

    number: int
    arm: str
    digest: str
    attempt: int
    cause: str
    epoch: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a study's folder, storage and journal held when they were read, in this order.

    Args:
        folder: The study's folder.
        plan: Its plan.
        storage: Where its trials' files are.
        owner: Who runs it, or ran it and did not give it back.
        held: Whether it is being run.
        trials: Its Optuna trials.
        attrs: Attributes of its Optuna study.
        gap: Why there are none; empty where there are.
        journal: What its tracker was to be told.
        sent: Number of the last event that the tracker has.
    """

    folder: Path
    plan: Mapping[str, Any]
    storage: Storage
    owner: Owner | None
    held: bool
    trials: tuple[FrozenTrial, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    gap: str = ""
    journal: Lines = Lines()
    sent: int = 0

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @property
    def study_id(self) -> str:
        """Its identity in trackers; empty before its first start."""
        return str(self.attrs.get(Tag.STUDY_ID, ""))

    @property
    def tracked(self) -> bool:
        """Whether any start told a tracker of it."""
        return bool(self.journal.events)

    @property
    def recorded(self) -> bool:
        """Whether any of its trials has a run in a tracker."""
        return any(RUN_ID in trial.user_attrs for trial in self.trials)

    @property
    def unsent(self) -> int:
        """Events that the tracker has not been sent."""
        return sum(event.number > self.sent for event in self.journal.events)

    @cached_property
    def marks(self) -> Marks:
        """What was said of finished trials later."""
        return Marks.of(self.attrs)

    @cached_property
    def settled(self) -> dict[str, TrialRow]:
        """The configurations whose outcome counts, by digest.

        One that a killed driver had written down and not told Optuna counts too.
        """
        epochs = int(self.plan.get("epochs", 0))
        return {
            digest: row_of(tries[-1], epochs)
            for digest, tries in trials.attempts(self.trials).items()
            if self._counts(tries[-1])
        }

    def _counts(self, trial: FrozenTrial) -> bool:
        told = trial.state.is_finished() or not self.held
        outcome = trial.user_attrs.get(Tag.OUTCOME)
        return told and outcome in trials.COUNTED and not self.marks.aside(trial.number)

    @cached_property
    def unsettled(self) -> dict[str, FrozenTrial]:
        """The last attempts at all other configurations that were begun, by digest."""
        return {
            digest: tries[-1]
            for digest, tries in trials.attempts(self.trials).items()
            if digest not in self.settled
        }

    @property
    def running(self) -> list[FrozenTrial]:
        """Trials that are being run."""
        last = self.unsettled.values()
        return [trial for trial in last if self.held and not trial.state.is_finished()]

    @cached_property
    def owed(self) -> list[OwedTrial]:
        """Configurations that were interrupted or withdrawn, in order of number."""
        running = {trial.number for trial in self.running}
        found = [trial for trial in self.unsettled.values() if trial.number not in running]
        return [self._owed(trial) for trial in sorted(found, key=lambda trial: trial.number)]

    def _owed(self, trial: FrozenTrial) -> OwedTrial:
        attrs = trial.user_attrs
        cause = self.marks.withdrawn.get(trial.number)
        epoch, why = _continuation(self.storage.folder(attrs[Tag.DIGEST]))
        return OwedTrial(
            number=trial.number,
            arm=attrs[Tag.ARM],
            digest=attrs[Tag.DIGEST],
            attempt=attrs[Tag.ATTEMPT],
            cause=cause or attrs.get(Tag.CAUSE) or "the driver ended",
            epoch=epoch,
            why=why,
        )

    @property
    def exhausted(self) -> bool:
        """Whether the space ran out of new configurations."""
        return bool(self.attrs.get(EXHAUSTED))

    @property
    def not_proposed(self) -> int:
        """Configurations of the budget that are still to be proposed."""
        begun = len(self.settled) + len(self.unsettled)
        return 0 if self.exhausted else max(0, int(self.plan.get("trials", 0)) - begun)

    @property
    def superseded(self) -> int:
        """Attempts that others followed."""
        return sum(len(tries) - 1 for tries in trials.attempts(self.trials).values())

    @property
    def duplicates(self) -> int:
        """Proposals of a configuration that was known."""
        return sum(DUPLICATE_OF in trial.user_attrs for trial in self.trials)

    @property
    def last_start(self) -> str:
        """How the last start ended, in words."""
        if not self.trials and not self.tracked:
            return "nothing was started yet"
        if not self.attrs.get(TRACKED):
            who = f", {self.owner}," if self.owner else ""
            return (
                f"the last start{who} did not close it: killed, out of disk, its Optuna storage "
                "away, or its machine down"
            )
        # What a repair tells for a start that could not has no figures.
        closes = [
            event
            for event in self.journal.events
            if event.kind is Kind.CLOSE and event.content.get("metrics")
        ]
        when = ""
        if self.journal.closed and closes:
            moment = datetime.fromtimestamp(closes[-1].time_s, UTC)
            when = f" at {moment.isoformat(sep=' ', timespec='seconds')}"
        stops = [
            trial.user_attrs[Tag.CAUSE]
            for trial in self.unsettled.values()
            if trial.user_attrs.get(Tag.OUTCOME) == Outcome.STOPPED
            and Tag.CAUSE in trial.user_attrs
        ]
        if stops:
            return f"the last start was stopped{when}: {stops[-1]}"
        return f"the last start ended{when}"


def plan_of(folder: Path) -> Mapping[str, Any]:
    """Return the plan of a study that exists.

    Raises:
        UsageError: If there is no such study.
        StudyStateError: If its plan cannot be read.
    """
    check_plan_is_there(folder)
    plan = load_plan(folder)
    if plan is None:
        names = [str(known["name"]) for known in studies(folder.parent.parent)]
        raise UsageError(
            f"there is no study '{folder.name}' in {folder.parent}; there is: "
            f"{', '.join(names) or 'none'}.{did_you_mean(folder.name, names)}"
        )
    return plan


def read_facts(folder: Path, *, storage_url: str, storage: Storage, mine: bool = False) -> Facts:
    """Read a study's folder.

    Args:
        folder: The study's folder.
        storage_url: SQLAlchemy URL of its Optuna storage.
        storage: Where its trials' files are.
        mine: Whether this process holds the study, and runs nothing.

    Raises:
        UsageError: If there is no such study.
        StudyStateError: If its plan or its journal cannot be read.
    """
    plan = plan_of(folder)
    owner, held = holder(folder)
    trials, attrs, gap = _read_storage(folder.name, storage_url)
    journal = read(folder)
    if held and not mine:
        # Its last line may be being written.
        cut = f"{JOURNAL}: its last line"
        faults = tuple(fault for fault in journal.faults if not fault.startswith(cut))
        journal = replace(journal, faults=faults)
    if mine:
        owner, held = None, False
    other = None if attrs.get(TRACKED) else elsewhere(attrs.get(PLACE), folder)
    if other is not None and other[0].runs():
        # From a copy of the folder, whose lock is another, with the same Optuna storage.
        owner, held = other[0], True
    return Facts(
        folder=folder,
        plan=plan,
        storage=storage,
        owner=owner,
        held=held,
        trials=trials,
        attrs=attrs,
        gap=gap,
        journal=journal,
        sent=Mark(folder, journal.last).sent,
    )


def _read_storage(name: str, url: str) -> tuple[tuple[FrozenTrial, ...], Mapping[str, Any], str]:
    """Return trials and attributes of an Optuna study, or why there are none."""
    try:
        with reading(url) as storage:
            study_id = storage.get_study_id_from_name(name)
            attrs = dict(storage.get_study_user_attrs(study_id))
            return tuple(storage.get_all_trials(study_id)), attrs, ""
    except FileNotFoundError as error:
        return (), {}, f"{error.args[0]} does not exist"
    except KeyError:
        return (), {}, f"{shown(url)} holds no study '{name}'"
    except Exception as error:
        return (), {}, f"{shown(url)} cannot be read ({storage_fault(error, url)})"


def _continuation(files: Storage) -> tuple[int, str]:
    """Return the epoch after which a trial goes on; or 0, and why it starts again."""
    try:
        content = files.read(CHECKPOINT)
        if content is None:
            return 0, "it has no checkpoint"
        return checkpoint_epoch(content), ""
    except CheckpointError as error:
        return 0, str(error)
    except OSError as error:
        raise StudyStateError(
            f"{shown(files.root)}/{CHECKPOINT}: cannot be read ({redact(error, files.root)})"
        ) from None
