"""Conducts a study: proposes trials, takes their reports, decides, and records all in order.

It does not depend on an engine: `study.tuning.ray_tune` connects it to Ray Tune. Nor does it
depend on the tracker: it only says which trial changed, without waiting.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from study.keys import EPOCH, Outcome, Tag
from study.spaces.settings import SAMPLED
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.trials import Proposal
from study.tuning.progress import Progress
from study.tuning.proposals import Proposals
from study.tuning.trial import BUSY_SECONDS, CHECKPOINT, METRICS, NOTE
from study.wording import plural

_logger = logging.getLogger(__name__)

REPEATS_TO_EXHAUSTION = 20
"""A space counts as exhausted after this many repeated configurations in a row."""


@dataclass(slots=True)
class _Live:
    """A trial that was proposed and has not ended. Times are from `time.monotonic()`."""

    number: int
    proposal: Proposal
    began: float  # when a worker first had it; before that, when it was proposed
    begun: bool = False  # whether a worker has had it
    epochs: int = 0  # the last epoch that was reported
    value: float = math.nan  # its objective at that epoch
    busy_s: float = 0.0  # seconds of training and scoring that the last try has reported
    tried_at: float = math.inf  # when the last try began
    heard_at: float = math.inf  # last sign of life; infinite where none is expected
    noted: bool = False  # whether the last try has reported: its first report may hold a note
    overdue: bool = False  # whether the last try took longer than a trial may
    hangs: int = 0  # number of workers ended because they hung
    why_lost: str = ""  # why the last worker was lost


class Conductor:
    """Decides for a running study: what runs next, what is stopped, how each trial ended.

    Args:
        plan: What the study does.
        proposals: What comes next.
        ledger: The durable truth.
        progress: Tells the user.
        storage: Where trials keep their files; None keeps none.
        changed: Called with a trial's digest after each new record of the trial.
        trial_limit_s: Wall seconds that one trial may take, from its start or its last retry; None
            is no limit.
    """

    def __init__(
        self,
        *,
        plan: StudyPlan,
        proposals: Proposals,
        ledger: Ledger,
        progress: Progress,
        storage: Storage | None = None,
        changed: Callable[[str], None] = lambda digest: None,
        trial_limit_s: float | None = None,
    ) -> None:
        self._plan = plan
        self._proposals = proposals
        self._ledger = ledger
        self._changed = changed
        self._progress = progress
        self._storage = storage
        self._trial_limit_s = trial_limit_s
        trials = ledger.trials()
        self._owed = [proposals.again(trial) for trial in trials.owed]
        self._settled = {row.digest: (row, proposal) for row, proposal in trials.proposals}
        self._next_index = trials.next_index
        self._all_screened = self._said_screened = False
        self._live: dict[str, _Live] = {}
        self.exhausted = trials.exhausted
        self.waits = False
        """Whether the last `propose` returned None because a running trial must end first."""
        self.busy_s = 0.0
        self.begun = 0
        self.fault = ""
        """The fault of the machine that must be mended before the study can go on."""
        self.ended_at: list[float] = []
        for row in trials.rows:
            progress.known(row.outcome, row.metric(plan.objective))

    @property
    def owed(self) -> int:
        """Number of interrupted configurations, which come first."""
        return len(self._owed)

    def propose(self, key: str) -> dict[str, Any] | None:
        """Open the next trial under an engine's key; None if none is left or the study `waits`."""
        repeats = 0
        self.waits = False
        while not self.exhausted:
            opened = self._next()
            if opened is None:
                return None
            trial, proposal = opened
            if proposal.digest not in self._settled and not self._is_live(proposal.digest):
                number = self._ledger.open(trial, proposal)
                self._live[key] = _Live(number, proposal, time.monotonic())
                return proposal.config.flat()
            known, _ = self._settled.get(proposal.digest, (None, None))
            self._ledger.close_duplicate(trial, proposal, known)
            repeats += 1
            if repeats >= REPEATS_TO_EXHAUSTION:
                # The best of the configurations screened so far are still trained in full.
                self._all_screened = True
                self.exhausted = not self._proposals.n_screened
                self._progress.line(
                    f"the sampler proposed {repeats} known configurations in a row: "
                    f"the space counts as exhausted after {len(self._settled)} trials"
                )
        return None

    def _is_live(self, digest: str) -> bool:
        return any(live.proposal.digest == digest for live in self._live.values())

    @property
    def _enough(self) -> bool:
        return len(self._settled) + len(self._live) >= self._plan.trials

    def _next(self) -> tuple[Any, Proposal] | None:
        if self._owed:
            proposal = self._owed.pop(0)
            return self._ledger.enqueue(proposal), proposal
        if self._proposals.n_screened:
            return self._screened_or_final()
        if self._enough:
            return None
        opened = self._proposed()
        # A grid or a comparison may name a configuration twice: it then has fewer trials.
        self.exhausted = opened is None
        return opened

    def _proposed(self) -> tuple[Any, Proposal] | None:
        enumerated = self._proposals.enumerated(self._next_index)
        if enumerated is not None:
            self._next_index += 1
            return self._ledger.enqueue(enumerated), enumerated
        if self._plan.sampler in SAMPLED and self._plan.kind == "search":
            return self._proposals.sampled(self._ledger)
        return None

    def _screened_or_final(self) -> tuple[Any, Proposal] | None:
        """Return the next trial to screen; after the last, the best of an arm to train in full."""
        screens = self._proposals.screens
        live = [item.proposal for item in self._live.values()]
        screening = [proposal.arm for proposal in live if screens(proposal)]
        n_screened = sum(screens(proposal) for _, proposal in self._settled.values())
        if not self._all_screened and n_screened + len(screening) < self._proposals.n_screened:
            if (opened := self._proposed()) is not None:
                return opened
            self._all_screened = True
        finals = self._proposals.finals(self._settled.values())
        # No further configuration is screened. So an arm's best is known when all its screened
        # trials have ended, even while other arms' trials still run.
        left = [
            final
            for final in finals
            if final.arm not in screening and not self._is_live(final.digest)
        ]
        if not left:
            self.waits = bool(screening)
            # An arm whose screened trials all failed has no final.
            enough = len(self._ledger.trials().counted) + len(self._live) >= self._plan.trials
            self.exhausted = not (self.waits or enough)
            return None
        if not (screening or self._said_screened):
            self._said_screened = True
            self._progress.line(
                f"{plural(n_screened, 'configuration')} screened; the best of each arm "
                f"is trained in full: {len(finals)} to go"
            )
        return self._ledger.enqueue(left[0]), left[0]

    def started(self, key: str) -> None:
        """Note that a trial got its resources, at first or after the loss of its worker."""
        live = self._live[key]
        live.tried_at = live.heard_at = time.monotonic()
        live.noted = False
        if live.begun:
            cause = live.why_lost or "its worker was lost"
            self._progress.line(f"trial {live.number:>3} retried  {cause}")
            return
        live.begun, live.began = True, time.monotonic()
        self.begun += 1
        self._progress.started(live.number, live.proposal)
        self._begin(live)

    def _begin(self, live: _Live) -> None:
        self._ledger.begin(live.number)
        self._changed(live.proposal.digest)

    def reported(self, key: str, result: Mapping[str, Any]) -> bool:
        """Record an epoch; return whether the trial should be stopped."""
        live = self._live[key]
        live.heard_at = time.monotonic()
        metrics = result[METRICS]
        if not live.noted and result[NOTE] and metrics:
            self._progress.line(f"trial {live.number:>3} {result[NOTE]}")
        live.noted = True
        if not metrics:
            return False
        epoch, busy_s = int(result[EPOCH]), float(result[BUSY_SECONDS])
        # A retry counts busy seconds from zero again.
        took_s = busy_s - live.busy_s if busy_s >= live.busy_s else busy_s
        self._progress.trained(live.number, epoch, max(0, epoch - live.epochs), took_s)
        live.epochs = max(live.epochs, epoch)
        live.value = float(metrics.get(self._plan.objective, math.nan))
        live.busy_s = busy_s
        pruned = self._ledger.record(live.number, epoch, live.value, metrics)
        self._changed(live.proposal.digest)
        limit = self._trial_limit_s
        live.overdue = limit is not None and time.monotonic() - live.tried_at > limit
        return pruned or live.overdue

    def completed(self, key: str, result: Mapping[str, Any]) -> None:
        """Close a trial that ended by itself or was stopped."""
        live = self._live[key]
        outcome, cause = self._verdict(live, result)
        details = str(result[NOTE]) if result[Tag.OUTCOME] == Outcome.FAILED else ""
        if details:
            _logger.debug("trial %d: %s", live.number, details)
        self._close(key, outcome, cause, result.get(METRICS, {}), details)

    def _verdict(self, live: _Live, result: Mapping[str, Any]) -> tuple[Outcome, str]:
        if result[Tag.OUTCOME] == Outcome.FAILED:
            return Outcome.FAILED, str(result[Tag.CAUSE])
        if result[Tag.OUTCOME] in (Outcome.COMPLETE, Outcome.SCREENED):
            if math.isfinite(live.value):
                return Outcome(result[Tag.OUTCOME]), ""
            return Outcome.FAILED, f"{self._plan.objective} is undefined after the last epoch"
        if live.overdue:
            return Outcome.FAILED, f"exceeded --trial-time-limit at epoch {live.epochs}"
        return Outcome.PRUNED, f"{self._plan.scheduler} stopped it at epoch {live.epochs}"

    def runs(self, key: str) -> bool:
        """Say whether a trial is open: neither ended nor recorded as stopped."""
        return key in self._live

    def hung(self) -> set[str]:
        """Return the trials whose present epoch has taken the whole time limit, each once.

        A trial that is only slow ends at its next epoch; a retry would not help. A trial that
        hangs never reaches it: its worker must be ended and the trial retried.
        """
        limit, now = self._trial_limit_s, time.monotonic()
        if limit is None:
            return set()
        silent = {key for key, live in self._live.items() if now - live.heard_at > limit}
        for key in silent:
            live = self._live[key]
            live.hangs += 1
            live.heard_at = math.inf
        return silent

    def lost(self, key: str, cause: str) -> None:
        """Note that a trial's worker was lost; Ray tries the trial again."""
        live = self._live[key]
        live.why_lost = self._hang(live) or cause
        live.heard_at = math.inf

    def _hang(self, live: _Live) -> str:
        if not live.hangs:
            return ""
        times = "" if live.hangs == 1 else f" ({live.hangs} times)"
        return f"an epoch took longer than the whole --trial-time-limit{times}"

    def failed(self, key: str, cause: str, *, faulty: bool = False) -> None:
        """Close a trial whose worker was lost more often than retries are allowed.

        Where the machine is at fault (`faulty`), the trial stays owed and the study ends.
        """
        if faulty:
            self.fault = self.fault or cause
            self._close(key, Outcome.STOPPED, cause, {})
        else:
            live = self._live[key]
            if not live.begun:  # it never had a worker; its outcome still counts
                live.begun, live.began = True, time.monotonic()
                self._begin(live)
            self._close(key, Outcome.FAILED, self._hang(live) or cause, {})

    def stop(self, cause: str) -> None:
        """Record all running trials as stopped: they stay owed."""
        for key in list(self._live):
            self._close(key, Outcome.STOPPED, cause, {})

    def _close(
        self,
        key: str,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        details: str = "",
    ) -> None:
        live = self._live.pop(key)
        seconds = time.monotonic() - live.began if live.begun else 0.0
        self.busy_s += live.busy_s
        self.ended_at.append(time.monotonic())
        digest = live.proposal.digest
        row = self._ledger.close(
            live.number,
            outcome,
            cause=cause,
            metrics=metrics,
            epochs=live.epochs,
            seconds=seconds,
            objective=live.value,
            traceback=details,
        )
        self._changed(digest)
        if outcome is Outcome.STOPPED:
            self._progress.stopped(live.number)
        else:
            self._settled[digest] = row, live.proposal
            self._drop_checkpoint(digest)
            self._progress.ended(
                live.number,
                outcome,
                value=live.value,
                epochs=live.epochs,
                untrained=live.proposal.config.train.epochs - live.epochs,
                seconds=seconds,
                cause=cause,
            )

    def _drop_checkpoint(self, digest: str) -> None:
        if self._storage is not None:
            with suppress(OSError):  # a leftover file does no harm
                self._storage.folder(digest).delete(CHECKPOINT)
