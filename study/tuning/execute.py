"""Runs a study under Ray Tune: adapters between Ray's callbacks and the `Conductor`.

Each start of the driver is a Ray experiment of its own over what is still owed. Ray brings
placement, retries after lost workers, GPU shares and clusters; what is true is in the ledger.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.stopper import Stopper

from study.errors import DiskError, UsageError
from study.interrupts import handling
from study.keys import EPOCH
from study.tuning.conductor import Conductor
from study.tuning.ray_session import nodes_alive
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.scratch import scratch
from study.tuning.trial import CONFIG, METRICS, FusionTrial, TrialJob

_logger = logging.getLogger(__name__)

MAX_LOST_WORKERS = 2
"""Times that a trial is tried again after its worker was lost."""

_DISK_ERROR = f"{DiskError.__module__}.{DiskError.__qualname__}: "

NODES_EVERY_S = 2.0
"""Seconds after which a cluster is asked again what nodes it has."""


@dataclass(slots=True)
class StopSignal:
    """Why a study should end before it is done; empty while it should not.

    Args:
        cause: Said to the user.
        interrupted: Whether a signal asks for it.
        faulty: Whether something of the machine has to be mended first.
        at_once: Whether nothing may be waited for any more.
    """

    cause: str = ""
    interrupted: bool = False
    faulty: bool = False
    at_once: bool = False


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


class _Unsaved:
    """Stays out of Ray's snapshot of the driver, which is never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _Search(_Unsaved, Searcher):  # type: ignore[misc]
    """Ray asks, the conductor proposes."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        flat = self._conductor.propose(trial_id)
        return Searcher.FINISHED if flat is None else {CONFIG: flat}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to do: the conductor hears of it through `_Listener`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Slots(_Unsaved, ConcurrencyLimiter):  # type: ignore[misc]
    """Proposes no more trials than run at once, by what the nodes hold that are there now.

    Without a limit Ray starts workers one after the other, and asks for a trial while all slots
    are taken: by what is known then, not by what the running ones will say.

    Args:
        search: Proposes.
        count: Returns how many trials may run at once.
    """

    def __init__(self, search: _Search, count: Callable[[], int]) -> None:
        super().__init__(search, max_concurrent=count())
        self._count = count

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.max_concurrent = self._count()
        suggested: dict[str, Any] | str | None = super().suggest(trial_id)
        return suggested


def slots(resources: Resources, demand: Demand | None) -> Callable[[], int]:
    """Return what counts the trials that may run at once.

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
            # Where no trial fits any more, those that are owed wait for a node to come back.
            with suppress(UsageError):
                known = plan_resources(asked, nodes_alive()).concurrency
        return known

    return count


class _Scheduler(_Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Asks the conductor after each epoch whether a trial goes on."""

    def __init__(self, conductor: Conductor, objective: str) -> None:
        super().__init__()
        self._conductor = conductor
        self._key = f"{METRICS}/{objective}"

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if not self._conductor.runs(trial.trial_id):
            return str(self.STOP)  # it was written down as stopped
        value = float(result.get(self._key, float("nan")))
        stop = self._conductor.decide(trial.trial_id, int(result[EPOCH]), value)
        return str(self.STOP if stop else self.CONTINUE)


class _Listener(_Unsaved, tune.Callback):  # type: ignore[misc]
    """Passes events of trials on to the conductor, and ends workers that hang."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._conductor.started(trial.trial_id)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        if self._conductor.runs(trial.trial_id):
            self._conductor.reported(trial.trial_id, result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        if self._conductor.runs(trial.trial_id):
            self._conductor.completed(trial.trial_id, trial.last_result)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        if self._conductor.runs(trial.trial_id):
            self._conductor.lost(trial.trial_id, Loss.of(trial).text())

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        if self._conductor.runs(trial.trial_id):
            loss = Loss.of(trial)
            self._conductor.failed(
                trial.trial_id, loss.text(trial.num_failures), faulty=loss.faulty
            )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        hung = self._conductor.hung()
        for trial in trials if hung else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in hung and actor is not None:
                # Ray then takes the worker for lost, and tries the trial again.
                ray.kill(actor)


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a worker was lost.

    Args:
        said: What Ray says of it: some lines, with the reason in the first or the last.
    """

    said: str

    @classmethod
    def of(cls, trial: Trial) -> Loss:
        """Read what Ray has written down of a trial's last failure."""
        try:
            written = Path(trial.error_file).read_text()
        except (OSError, TypeError):
            written = ""
        return cls(written.rpartition("Failure # ")[2].partition("\n")[2].strip())

    @property
    def _reason(self) -> str:
        return self.said.rpartition("\n")[2]

    @property
    def faulty(self) -> bool:
        """Whether a disk or a network was at fault, which no other configuration would help."""
        return self._reason.startswith(_DISK_ERROR)

    def text(self, times: int = 1) -> str:
        """Say it in a line, and how often it was so."""
        if self.faulty:
            return self._reason.removeprefix(_DISK_ERROR)
        # Of a traceback the last line says it; of what Ray itself has to say the first does too.
        lines = [self._reason] if "ray::" in self.said else self.said.splitlines()
        # Ray has no reason for a worker that ends before it is ready.
        reason = " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:500]
        often = "" if times == 1 else f" {times} times"
        return f"its worker was lost{often}: {reason or 'without a word, as when memory runs out'}"


class _Stopper(_Unsaved, Stopper):  # type: ignore[misc]
    """Ends the experiment when the user, the time limit or a fault of the machine says so."""

    def __init__(self, conductor: Conductor, stop: StopSignal, deadline: float | None) -> None:
        self._conductor = conductor
        self._stop = stop
        self._deadline = deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        stop = self._stop
        if not stop.cause and self._conductor.fault:
            stop.cause, stop.faulty = self._conductor.fault, True
        if not stop.cause and self._deadline and time.monotonic() > self._deadline:
            stop.cause = "the study's --time-limit was reached"
        if stop.cause:
            # Before Ray ends its workers, which takes seconds that a signal may not leave.
            self._conductor.stop(stop.cause)
        return bool(stop.cause)


def run_trials(
    conductor: Conductor,
    job: TrialJob,
    resources: Resources,
    *,
    objective: str,
    stop: StopSignal,
    deadline: float | None = None,
    demand: Demand | None = None,
) -> None:
    """Run what the conductor proposes until nothing is left or a stop is signalled.

    Args:
        conductor: Proposes and listens.
        job: What the trials share.
        resources: What each trial gets, and how many run at once.
        objective: Metric that the scheduler looks at.
        stop: Set from outside, or here when the deadline passes.
        deadline: `time.monotonic()` at which the study's time is over.
        demand: What was asked of a cluster, whose nodes come and go; None where they do not.
    """
    # Ray logs a traceback for each lost worker; the conductor says so in a line.
    loud = _logger.isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.tune").setLevel(logging.ERROR if loud else logging.CRITICAL)
    trainable = tune.with_resources(
        tune.with_parameters(FusionTrial, job=job), resources.request()
    )
    with scratch() as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Slots(_Search(conductor), slots(resources, demand)),
                scheduler=_Scheduler(conductor, objective),
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
                callbacks=[_Listener(conductor)],
                stop=_Stopper(conductor, stop, deadline),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            conductor.stop(stop.cause or "the driver ended")
