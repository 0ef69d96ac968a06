"""Runs a study under Ray Tune: adapters between Ray's callbacks and the `Conductor`, and the run.

Each start of the driver is a Ray experiment of its own over what is still owed. Ray brings
placement, retries after lost workers, GPU shares and clusters; what is true is in the ledger.

Ray takes what a callback raises for the failure of a trial, or ends with an error of its own that
names another cause. So the first error of the study itself is kept, ends the run and is raised
again after it.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.stopper import Stopper

from study.command import handling
from study.errors import DiskError, UsageError
from study.store.scratch import scratch
from study.tuning.conductor import Conductor
from study.tuning.ray_session import nodes_alive, ray_fault
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.trial import CONFIG, FusionTrial, TrialJob

_logger = logging.getLogger(__name__)

MAX_LOST_WORKERS = 2
"""Times that a trial is tried again after its worker was lost."""

NODES_EVERY_S = 2.0
"""Seconds after which a cluster is asked again what nodes it has."""

_DISK_ERROR = f"{DiskError.__module__}.{DiskError.__qualname__}: "

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class StopSignal:
    """Why a study should end before it is done; empty while it should not."""

    cause: str = ""  # said to the user
    interrupted: bool = False  # whether a signal asks for it
    faulty: bool = False  # whether something of the machine has to be mended first
    at_once: bool = False  # whether to end without waiting for anything


@contextmanager
def catching_signals(stop: StopSignal) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into an orderly stop; a second one ends at once."""

    def handle(number: signal.Signals) -> None:
        if stop.interrupted:
            stop.at_once = True
            raise KeyboardInterrupt(number.name)
        stop.cause, stop.interrupted = stop.cause or f"{number.name} received", True
        with suppress(OSError):  # the terminal may be gone
            _logger.warning(
                "%s: stopping; what is done is kept. Once more ends at once.", number.name
            )

    with handling(handle):
        yield


def slots(resources: Resources, demand: Demand | None) -> Callable[[], int]:
    """Return a function that counts the trials that may run at once.

    Args:
        resources: What each trial gets, and how many ran at once when the study began.
        demand: What was asked of a cluster, whose nodes come and go; None is a Ray that stays
            as it was started.
    """
    if demand is None:
        return lambda: resources.concurrency
    # What a trial gets was settled at the start; only how often it fits may change.
    asked = replace(
        demand,
        device="cuda" if resources.gpus_per_trial else "cpu",
        gpus_per_trial=resources.gpus_per_trial or None,
    )
    known, due = resources.concurrency, 0.0

    def count() -> int:
        nonlocal known, due
        if time.monotonic() >= due:
            due = time.monotonic() + NODES_EVERY_S
            # Where no trial fits any more, owed trials wait for a node to come back.
            with suppress(UsageError):
                nodes = [node for node in nodes_alive() if resources.node in ("", *node)]
                known = plan_resources(asked, nodes).concurrency
        return known

    return count


def run_trials(
    conductor: Conductor,
    job: TrialJob,
    resources: Resources,
    *,
    stop: StopSignal,
    deadline: float | None,
    demand: Demand | None,
) -> None:
    """Run what the conductor proposes until nothing is left or a stop is signalled.

    Args:
        conductor: Proposes and listens.
        job: What the trials share.
        resources: What each trial gets, and how many run at once.
        stop: Set from outside, or here when the deadline passes.
        deadline: `time.monotonic()` at which the study's time is over; None is never.
        demand: What was asked of a cluster, whose nodes come and go; None on this machine.
    """
    # Ray logs a traceback for each lost worker; the conductor says so in a line.
    loud = _logger.isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.tune").setLevel(logging.ERROR if loud else logging.CRITICAL)
    trainable = tune.with_resources(
        tune.with_parameters(FusionTrial, job=job), resources.request()
    )
    guarded = Guarded(conductor)
    with scratch() as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=SlotLimiter(ProposalSearcher(guarded), slots(resources, demand)),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="experiment",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
                callbacks=[Listener(guarded)],
                stop=Stops(guarded, stop, deadline),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if guarded.error is None:
                raise
        finally:
            try:
                conductor.stop(stop.cause or "the driver ended")
            except Exception as error:
                guarded.error = guarded.error or error
        if guarded.error is not None:
            raise guarded.error


class Guarded:
    """Asks a conductor until its first error, which it keeps; then it asks nothing more."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.error: Exception | None = None

    def ask(self, question: Callable[[Conductor], _Answer], otherwise: _Answer) -> _Answer:
        """Return the conductor's answer; after an error `otherwise`."""
        if self.error is None:
            try:
                return question(self._conductor)
            except Exception as error:
                self.error = error
        return otherwise

    def about(self, trial_id: str, question: Callable[[Conductor], _Answer]) -> _Answer | None:
        """Ask about a running trial; None for one that was written down as stopped."""
        return self.ask(
            lambda conductor: question(conductor) if conductor.runs(trial_id) else None, None
        )


class _Unsaved:
    """Stays out of Ray's snapshot of the driver, which is never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class ProposalSearcher(_Unsaved, Searcher):  # type: ignore[misc]
    """Ray asks, the conductor proposes."""

    def __init__(self, guarded: Guarded) -> None:
        super().__init__()
        self._guarded = guarded

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        flat = self._guarded.ask(lambda conductor: conductor.propose(trial_id), None)
        if flat is not None:
            return {CONFIG: flat}
        # None makes Ray ask again later.
        waits = self._guarded.ask(lambda conductor: conductor.waits, False)
        return None if waits else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to do: the conductor hears of it through `Listener`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class SlotLimiter(_Unsaved, ConcurrencyLimiter):  # type: ignore[misc]
    """Proposes no more trials than the living nodes can run at once.

    Without a limit Ray starts workers one after the other, and asks for a trial while all slots
    are taken: by what is known then, not by what the running ones will say.
    """

    def __init__(self, search: ProposalSearcher, count: Callable[[], int]) -> None:
        super().__init__(search, max_concurrent=count())
        self._count = count

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.max_concurrent = self._count()
        suggested: dict[str, Any] | str | None = super().suggest(trial_id)
        return suggested


class Listener(_Unsaved, tune.Callback):  # type: ignore[misc]
    """Passes events of trials on to the conductor, and ends workers that hang."""

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._guarded.about(trial.trial_id, lambda conductor: conductor.started(trial.trial_id))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._guarded.about(
            trial.trial_id,
            lambda conductor: conductor.completed(trial.trial_id, trial.last_result),
        )

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        cause = LostWorker.of(trial).text()
        self._guarded.about(
            trial.trial_id, lambda conductor: conductor.lost(trial.trial_id, cause)
        )

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Where Ray itself is gone, the trial is not at fault.
        loss, gone = LostWorker.of(trial), ray_fault()
        cause, faulty = gone or loss.text(trial.num_failures), bool(gone) or loss.faulty
        self._guarded.about(
            trial.trial_id,
            lambda conductor: conductor.failed(trial.trial_id, cause, faulty=faulty),
        )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        hung: set[str] = self._guarded.ask(lambda conductor: conductor.hung(), set())
        for trial in trials if hung else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in hung and actor is not None:
                # Ray then takes the worker for lost, and tries the trial again.
                ray.kill(actor)


class Stops(_Unsaved, Stopper):  # type: ignore[misc]
    """Ends a trial when the conductor says so, and the experiment when anything does.

    Ray shows a stopper every result, also the last of a trial, and before anybody else: so an
    epoch is written down and decided upon in one call. A Ray scheduler would not see the last.
    """

    def __init__(self, guarded: Guarded, stop: StopSignal, deadline: float | None) -> None:
        self._guarded = guarded
        self._stop = stop
        self._deadline = deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take a result; return whether its trial ends, as one that runs no more does."""
        goes_on = self._guarded.about(
            trial_id, lambda conductor: not conductor.reported(trial_id, result)
        )
        return not goes_on

    def stop_all(self) -> bool:
        return self._guarded.ask(self._stops, True)

    def _stops(self, conductor: Conductor) -> bool:
        stop = self._stop
        if not stop.cause and (fault := conductor.fault or ray_fault()):
            stop.cause, stop.faulty = fault, True
        if not stop.cause and self._deadline and time.monotonic() > self._deadline:
            stop.cause = "the study's --time-limit was reached"
        if stop.cause:
            # Now: Ray takes seconds to end its workers, and a second signal may come before.
            conductor.stop(stop.cause)
        return bool(stop.cause)


@dataclass(frozen=True, slots=True)
class LostWorker:
    """Why a worker was lost."""

    message: str  # what Ray says of it: some lines, with the reason in the first or the last

    @classmethod
    def of(cls, trial: Trial) -> LostWorker:
        """Read what Ray has written down of a trial's last failure."""
        try:
            written = Path(trial.error_file).read_text()
        except (OSError, TypeError):
            written = ""
        return cls(written.rpartition("Failure # ")[2].partition("\n")[2].strip())

    @property
    def _reason(self) -> str:
        return self.message.rpartition("\n")[2]

    @property
    def faulty(self) -> bool:
        """Whether a disk or a network was at fault, which no other configuration would help."""
        return self._reason.startswith(_DISK_ERROR)

    def text(self, times: int = 1) -> str:
        """Return the reason in a line, and how often it happened."""
        if self.faulty:
            return self._reason.removeprefix(_DISK_ERROR)
        # The last line of a traceback has the reason; in Ray's own words the first has it, too.
        lines = [self._reason] if "ray::" in self.message else self.message.splitlines()
        # For a worker that ends before it is ready Ray gives no reason.
        reason = " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:500]
        often = "" if times == 1 else f" {times} times"
        return f"its worker was lost{often}: {reason or 'without a word, as when memory runs out'}"
