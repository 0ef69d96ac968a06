"""Runs a study under Ray Tune: adapters between Ray's callbacks and the `Conductor`, and the run.

Each start of the driver is a new Ray experiment over the trials still owed. Ray provides
placement, retries after lost workers, GPU shares and clusters; the ledger holds the truth. Ray
treats an error from a callback as a trial's failure, or ends with its own error that names another
cause. So the study's own first error is kept, ends the run and is raised again afterwards.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

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
"""How often a trial is retried after its worker was lost."""

NODES_EVERY_S = 2.0
"""Seconds between two looks at a cluster's nodes."""

_DISK_ERROR = f"{DiskError.__module__}.{DiskError.__qualname__}: "

_Answer = TypeVar("_Answer")
_P = ParamSpec("_P")


@dataclass(slots=True)
class StopSignal:
    """Why a study should end before it is done; empty while it should go on."""

    cause: str = ""  # message for the user
    interrupted: bool = False  # whether a signal asks for it
    faulty: bool = False  # whether a fault of the machine must be mended first
    at_once: bool = False  # whether to end without the wait for MLflow


@contextmanager
def catching_signals(stop: StopSignal) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into an orderly stop.

    A second one leaves out the wait for MLflow; Ray takes its seconds to end all the same.
    """

    def handle(number: signal.Signals) -> None:
        if stop.interrupted:
            stop.at_once = True
            raise KeyboardInterrupt(number.name)
        stop.cause, stop.interrupted = stop.cause or f"{number.name} received", True
        with suppress(OSError):  # the terminal may be gone
            _logger.warning(
                "%s: stopping, which takes seconds; finished work is kept. After a second signal "
                "the end does not wait for MLflow.",
                number.name,
            )

    with handling(handle):
        yield


def slots(resources: Resources, demand: Demand | None) -> Callable[[], int]:
    """Return a function that counts the trials that may run at once.

    `demand` is that on a cluster, whose nodes come and go; None is a local Ray.
    """
    if demand is None:
        return lambda: resources.concurrency
    # A trial's resources are fixed at the start; only how many trials fit may change.
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
    """Run the conductor's proposals until none is left or a stop is signalled.

    A stop is signalled from outside, or here when the deadline, a `time.monotonic()`, passes.
    `demand` is as in `slots`.
    """
    # Ray logs a traceback for each lost worker; the conductor prints one line instead.
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
    """Calls a conductor until its first error; keeps the error, and makes no more calls."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self.error: Exception | None = None

    def ask(self, question: Callable[[Conductor], _Answer], otherwise: _Answer) -> _Answer:
        """Return the conductor's answer, or `otherwise` after an error."""
        if self.error is None:
            try:
                return question(self._conductor)
            except Exception as error:
                self.error = error
        return otherwise

    def about(
        self,
        trial_id: str,
        question: Callable[Concatenate[Conductor, str, _P], _Answer],
        *args: _P.args,
        **options: _P.kwargs,
    ) -> _Answer | None:
        """Ask about a running trial; None for a trial that was recorded as stopped."""

        def answered(conductor: Conductor) -> _Answer | None:
            runs = conductor.runs(trial_id)
            return question(conductor, trial_id, *args, **options) if runs else None

        return self.ask(answered, None)


class _Unsaved:
    """Is left out of Ray's snapshot of the driver, which nothing reads."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class ProposalSearcher(_Unsaved, Searcher):  # type: ignore[misc]
    """Passes Ray's requests for a trial on to the conductor."""

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

    Without this limit, Ray asks for a trial even while all slots are taken: the sampler would
    propose it without the running trials' outcomes.
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
        self._guarded.about(trial.trial_id, Conductor.started)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._guarded.about(trial.trial_id, Conductor.completed, trial.last_result)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._guarded.about(trial.trial_id, Conductor.lost, LostWorker.of(trial).text())

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Where Ray itself has ended, the trial is not at fault.
        loss, gone = LostWorker.of(trial), ray_fault()
        cause, faulty = gone or loss.text(trial.num_failures), bool(gone) or loss.faulty
        self._guarded.about(trial.trial_id, Conductor.failed, cause, faulty=faulty)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        hung: set[str] = self._guarded.ask(lambda conductor: conductor.hung(), set())
        for trial in trials if hung else ():
            actor = trial.temporary_state.ray_actor
            if trial.trial_id in hung and actor is not None:
                # Ray then counts the worker as lost, and retries the trial.
                ray.kill(actor)


class Stops(_Unsaved, Stopper):  # type: ignore[misc]
    """Ends a trial when the conductor says so, and the experiment at a stop signal or an error.

    Ray shows a stopper every result first, even a trial's last: so one call records an epoch and
    decides on it. A Ray scheduler would not see the last result.
    """

    def __init__(self, guarded: Guarded, stop: StopSignal, deadline: float | None) -> None:
        self._guarded = guarded
        self._stop = stop
        self._deadline = deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record a result; return whether its trial ends, or was already recorded as stopped."""
        ends = self._guarded.about(trial_id, Conductor.reported, result)
        return ends is None or ends

    def stop_all(self) -> bool:
        return self._guarded.ask(self._stops, True)

    def _stops(self, conductor: Conductor) -> bool:
        stop = self._stop
        if not stop.cause and (fault := conductor.fault or ray_fault()):
            stop.cause, stop.faulty = fault, True
        if not stop.cause and self._deadline and time.monotonic() > self._deadline:
            stop.cause = "the study's --time-limit was reached"
        if stop.cause:
            # Now: Ray takes seconds to end its workers, and a second signal may come first.
            conductor.stop(stop.cause)
        return bool(stop.cause)


@dataclass(frozen=True, slots=True)
class LostWorker:
    """Why a worker was lost."""

    message: str  # Ray's message: some lines, with the reason in the first or the last

    @classmethod
    def of(cls, trial: Trial) -> LostWorker:
        """Read Ray's record of a trial's last failure."""
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
        """Whether a disk or a network was at fault: every other configuration would fail too."""
        return self._reason.startswith(_DISK_ERROR)

    def text(self, times: int = 1) -> str:
        """Return the reason in a line, with its number of occurrences."""
        if self.faulty:
            return self._reason.removeprefix(_DISK_ERROR)
        # The last line of a traceback has the reason; in Ray's own messages the first has it.
        lines = [self._reason] if "ray::" in self.message else self.message.splitlines()
        # Ray gives no reason for a worker that ends before it is ready.
        reason = " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:500]
        often = "" if times == 1 else f" {times} times"
        return f"its worker was lost{often}: {reason or 'no reason, as when memory runs out'}"
