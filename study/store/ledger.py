"""Writes a study's Optuna storage, which is the truth about the study.

Every proposal becomes an Optuna trial before it runs, and Optuna gets every outcome before
anything else records it. Ray's own snapshots are not used: after a SIGKILL they lag behind the
storage and cannot be restored. A start of the driver closes the trials that an earlier one left
RUNNING and proposes each again under the same digest of its configuration; the earlier attempt is
marked as superseded.

Pruning is asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel
Hyperparameter Tuning", MLSys). Its rungs consist only of the values reported to the storage: a
resume keeps them, and an interrupted trial's values count once, with its next attempt.
"""

from __future__ import annotations

import math
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.models.rules import active_parameters
from study.store.history import (
    BEGAN,
    END,
    EPOCH,
    METRICS,
    START,
    TRACEBACK,
    Epoch,
    name_of,
    numbered,
)
from study.store.optuna_storage import (
    close_storage,
    one_transaction,
    open_storage,
    storage_fault,
)
from study.store.trials import (
    CONFIG,
    DRAW,
    DUPLICATE_OF,
    EPOCHS,
    EXHAUSTED,
    INDEX,
    INFORMS,
    OBJECTIVE,
    PROTECTED,
    SECONDS,
    STATES,
    SUPERSEDED,
    WITHDRAWN,
    Marks,
    Proposal,
    TrialRow,
    Trials,
    row_of,
    rungs,
)

_LONGEST_TRACEBACK = 20_000
"""How many of a failure's last characters are kept: databases have limits."""


class Ledger:
    """Writes the Optuna study of one study; creates it where it does not exist.

    Args:
        storage_url: SQLAlchemy URL of the storage, or one that is open.
        name: Name of the study.
        sampler: Optuna's sampler, for proposals that are not enumerated.
        epochs: Full budget of a trial.
        objective: Name of a trial's value in Optuna's dashboard; empty for no name.
        reduction_factor: At each rung, one in this many trials goes on; None prunes nothing.

    Raises:
        StudyStateError: If the storage cannot be opened.
    """

    def __init__(
        self,
        *,
        storage_url: str | BaseStorage,
        name: str,
        sampler: optuna.samplers.BaseSampler | None = None,
        epochs: int = 1,
        objective: str = "",
        reduction_factor: int | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._storage = open_storage(storage_url)
            self._study = optuna.create_study(
                study_name=name,
                storage=self._storage,
                direction="maximize",
                sampler=sampler,
                load_if_exists=True,
            )
            # A damaged row should fail here, not at a later read.
            self._study.get_trials(deepcopy=False)
        except Exception as error:
            # SQLAlchemy raises driver-specific errors, some of which quote the URL's password.
            url = storage_url if isinstance(storage_url, str) else ""
            fault = storage_fault(error, url)
            raise StudyStateError(
                f"study '{name}': its Optuna storage cannot be opened ({fault}); check "
                "--study-storage, or bring the storage back from a copy"
            ) from None
        if Tag.STUDY_ID not in self._study.user_attrs:
            # Written last: a study without an identity was never started.
            self._study.set_user_attr(Tag.STUDY_ID, uuid.uuid4().hex[:12])
        if objective and self._study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self._study.set_metric_names([objective])
        self._epochs = epochs
        self._rungs = rungs(epochs, reduction_factor or 2)
        self._reduction_factor = reduction_factor
        self._start = 0
        self._live: dict[int, optuna.Trial] = {}
        self._last_epoch: dict[int, int] = {}
        self._marks = Marks.of(self._study.user_attrs)

    def release(self) -> None:
        """Close the storage's connections; SQLite then has everything in one file."""
        close_storage(self._storage)

    @property
    def study_id(self) -> str:
        """Identity of this study in any tracker: another study may have the same name later."""
        return str(self._study.user_attrs[Tag.STUDY_ID])

    def note(self, key: str, value: Any) -> None:
        """Record an attribute of the whole study."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """Return a recorded attribute of the study, or None."""
        return self._study.user_attrs.get(key)

    def reconcile(self) -> list[FrozenTrial]:
        """Close trials that an earlier driver left running; return those that must run again."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                continue
            if trial.state is TrialState.WAITING:
                # Enqueued but never asked for: the next `ask` would return this trial.
                self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                continue
            ended = {
                EPOCHS: trial.last_step or 0,
                Tag.CAUSE: "the driver ended",
                Tag.OUTCOME: str(Outcome.STOPPED),
            }
            with one_transaction(self._storage):
                for key, value in ended.items():
                    self._storage.set_trial_user_attr(trial._trial_id, key, value)
                self._study.tell(trial.number, state=STATES[Outcome.STOPPED])
        return self.trials().owed

    def withdraw(self, number: int, cause: str) -> None:
        """Withdraw a settled trial's outcome: it must run again, under the same digest."""
        self._mark(WITHDRAWN, number, cause)
        # An exhausted space now has something to run again.
        self.note(EXHAUSTED, False)

    def _mark(self, kind: str, number: int, value: int | str) -> None:
        self._study.set_user_attr(name_of(kind, number), value)
        self._marks = Marks.of(self._study.user_attrs)

    def ask(self) -> optuna.Trial:
        """Ask the sampler for a trial; its parameters are suggested by the caller."""
        return self._study.ask()

    def inform(self, earlier: Sequence[FrozenTrial]) -> None:
        """Add another study's trials for the sampler to learn from, once; they do not count."""
        if not self.noted(INFORMS):
            self._study.add_trials(earlier)
            self.note(INFORMS, len(earlier))

    def enqueue(self, proposal: Proposal) -> optuna.Trial:
        """Open a trial with given parameters.

        Raises:
            StudyStateError: If Optuna did not take the parameters as they are.
        """
        self._study.enqueue_trial(dict(proposal.params))
        trial = self._study.ask(dict(proposal.distributions))
        if trial.params != dict(proposal.params):
            raise StudyStateError(
                f"Optuna took {trial.params} for the proposal {dict(proposal.params)}; "
                "this is a fault of the study tool"
            )
        return trial

    def open(self, trial: optuna.Trial, proposal: Proposal) -> int:
        """Record a trial's proposal, and count it as running; return its number."""
        attrs = {
            Tag.ARM: proposal.arm,
            Tag.ATTEMPT: proposal.attempt,
            INDEX: proposal.index,
            DRAW: proposal.draw,
            CONFIG: active_parameters(proposal.config),
            PROTECTED: proposal.protected,
            Tag.DIGEST: proposal.digest,
        }
        with one_transaction(self._storage):
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            if proposal.attempt > 1:
                self._follow(trial, proposal.digest)
        self._live[trial.number] = trial
        return trial.number

    def _follow(self, trial: optuna.Trial, digest: str) -> None:
        """Mark earlier attempts, and copy their epochs to this one.

        This attempt continues from their checkpoint, or repeats their epochs with the same result.
        """
        for earlier in self._study.get_trials(deepcopy=False):
            if earlier.user_attrs.get(Tag.DIGEST) != digest or earlier.number >= trial.number:
                continue
            is_repeat = DUPLICATE_OF in earlier.user_attrs
            if not is_repeat and earlier.number not in self._marks.superseded:
                self._mark(SUPERSEDED, earlier.number, trial.number)
            last = self._last_epoch.get(trial.number, 0)
            for epoch, value in sorted(earlier.intermediate_values.items()):
                if epoch > last:
                    trial.report(value, epoch)
            self._last_epoch[trial.number] = max(last, *numbered(EPOCH, earlier.user_attrs), 0)

    def begin(self, number: int) -> None:
        """Record that a worker now has a trial."""
        self._live[number].set_user_attr(BEGAN, round(time.time(), 3))

    def record(
        self, number: int, epoch: int, objective: float, metrics: Mapping[str, float]
    ) -> bool:
        """Record an epoch in one transaction; return whether the trial should be pruned.

        Where an epoch runs again, after a loss of its worker or driver, its first report stays.
        """
        trial = self._live[number]
        if epoch > self._last_epoch.get(number, 0):
            with one_transaction(self._storage):
                trial.set_user_attr(name_of(EPOCH, epoch), Epoch(time.time(), metrics).attr())
                # Optuna's samplers learn from these values, and the rungs are made of them.
                if math.isfinite(objective):
                    trial.report(objective, epoch)
            self._last_epoch[number] = epoch
        if self._reduction_factor is None or epoch not in self._rungs:
            return False
        if not math.isfinite(objective) or trial.user_attrs[PROTECTED]:
            return False
        return not self._promoted(epoch, objective)

    def begin_start(self, about: Mapping[str, str]) -> None:
        """Record a start of the driver, with its commit, versions and device."""
        self._start = 1 + max(numbered(START, self._study.user_attrs), default=0)
        self.note(
            name_of(START, self._start), {"at_s": round(time.time(), 3), "about": dict(about)}
        )

    def end_start(self, outcome: Outcome, metrics: Mapping[str, float]) -> None:
        """Record how the last start ended, with figures of the study."""
        start = self._start or max(numbered(START, self._study.user_attrs))
        ended = Epoch(time.time(), metrics).attr()
        self.note(
            name_of(END, start),
            {"ended_s": ended["at"], "outcome": str(outcome), METRICS: ended[METRICS]},
        )

    def close_duplicate(
        self, trial: optuna.Trial, proposal: Proposal, known: TrialRow | None
    ) -> None:
        """Close a repeated proposal with its original's outcome; a running original has none."""
        attrs = {
            DUPLICATE_OF: known.number if known else proposal.digest,
            Tag.DIGEST: proposal.digest,
            Tag.ARM: proposal.arm,
        }
        value = known.metrics.get(OBJECTIVE) if known else None
        outcome = known.outcome if known and value is not None else Outcome.FAILED
        shorter = outcome in (Outcome.PRUNED, Outcome.SCREENED)
        with one_transaction(self._storage):
            for key, content in attrs.items():
                trial.set_user_attr(key, content)
            if shorter and known is not None and value is not None:
                trial.report(value, known.epochs)
            final = value if outcome is Outcome.COMPLETE else None
            self._study.tell(trial, final, state=STATES[outcome])

    def _promoted(self, rung: int, value: float) -> bool:
        """Say whether a value is among the best of those that have reached its rung so far."""
        reached = [
            trial.intermediate_values[rung]
            for trial in self._study.get_trials(deepcopy=False)
            if rung in trial.intermediate_values
            and trial.user_attrs.get(Tag.OUTCOME) != Outcome.STOPPED
            and DUPLICATE_OF not in trial.user_attrs
            and INFORMS not in trial.user_attrs
            and not self._marks.voids(trial.number)
        ]
        n_promoted = max(1, len(reached) // (self._reduction_factor or 1))
        return value >= sorted(reached, reverse=True)[n_promoted - 1]

    def close(
        self,
        number: int,
        outcome: Outcome,
        *,
        cause: str,
        metrics: Mapping[str, float],
        epochs: int,
        seconds: float,
        objective: float = math.nan,
        traceback: str = "",
    ) -> TrialRow:
        """Record how a trial ended, and return it as a row; only a stopped trial runs again."""
        trial = self._live.pop(number)
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        attrs: dict[str, Any] = {
            METRICS: finite,
            EPOCHS: epochs,
            SECONDS: round(seconds, 3),
            Tag.CAUSE: cause,
            Tag.OUTCOME: str(outcome),
        }
        if traceback:
            attrs[TRACEBACK] = traceback[-_LONGEST_TRACEBACK:]
        with one_transaction(self._storage):
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            final = objective if outcome is Outcome.COMPLETE else None
            self._study.tell(number, final, state=STATES[outcome])
        return row_of(self._storage.get_trial(trial._trial_id), self._epochs)

    def trials(self) -> Trials:
        """Return all trials as the storage has them now; running ones do not count as lost."""
        return Trials(
            all=tuple(self._study.get_trials(deepcopy=False)),
            attrs=self._study.user_attrs,
            epochs=self._epochs,
            running=True,
        )
