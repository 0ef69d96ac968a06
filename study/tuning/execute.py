"""Runs a study under Ray Tune: adapters between Ray's callbacks and the `Conductor`.

Each start of the driver is a Ray experiment of its own over what is still owed. Ray brings
placement, retries after lost workers, GPU shares and clusters; what is true is in the ledger.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.stopper import Stopper

import study
from study.errors import StudyStateError, UsageError
from study.keys import EPOCH
from study.redact import shown
from study.training.engine import WORKER_ENVIRONMENT
from study.tuning.conductor import Conductor
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.trial import CONFIG, METRICS, FusionTrial, TrialJob

_logger = logging.getLogger(__name__)

MAX_LOST_WORKERS = 2
"""Times that a trial is tried again after its worker was lost."""

NODES_EVERY_S = 2.0
"""Seconds after which a cluster is asked again what nodes it has."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The study logs by itself; Ray's loggers cost a transaction per metric and report.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Ray's snapshots of the experiment are never read.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    # A stopped trial is in the middle of an epoch; its last one is saved.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(slots=True)
class StopSignal:
    """Why a study should end before it is done; empty while it should not."""

    cause: str = ""
    interrupted: bool = False


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


def nodes_alive() -> list[Mapping[str, float]]:
    """Return what each living node of the cluster has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Scheduler(_Unsaved, FIFOScheduler):  # type: ignore[misc]
    """Asks the conductor after each epoch whether a trial goes on."""

    def __init__(self, conductor: Conductor, objective: str) -> None:
        super().__init__()
        self._conductor = conductor
        self._key = f"{METRICS}/{objective}"

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        value = float(result.get(self._key, float("nan")))
        stop = self._conductor.decide(trial.trial_id, int(result[EPOCH]), value)
        return str(self.STOP if stop else self.CONTINUE)


class _Listener(_Unsaved, tune.Callback):  # type: ignore[misc]
    """Passes events of trials on to the conductor."""

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
        self._conductor.reported(trial.trial_id, result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._conductor.completed(trial.trial_id, trial.last_result)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        error = trial.get_pickled_error() or trial.get_error()
        self._conductor.failed(trial.trial_id, lost_cause(error, trial.num_failures))


def lost_cause(error: object, times: int) -> str:
    """Say why a worker was lost: what Ray says first, and last, where the reason stands."""
    kind = [type(error).__name__] if isinstance(error, Exception) else []
    lines = str(error or "unknown").strip().splitlines()
    said = " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))[:500]
    return ": ".join([f"its worker was lost {times} times", *kind, *([said] if said else [])])


class _Stopper(_Unsaved, Stopper):  # type: ignore[misc]
    """Ends the experiment when the user or the time limit says so."""

    def __init__(self, stop: StopSignal, deadline: float | None) -> None:
        self._stop = stop
        self._deadline = deadline

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._stop.cause and self._deadline and time.monotonic() > self._deadline:
            self._stop.cause = "the study's --time-limit was reached"
        return bool(self._stop.cause)


@contextmanager
def catching_signals(stop: StopSignal) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into an orderly stop; a second one ends at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.cause:
            raise KeyboardInterrupt
        stop.cause, stop.interrupted = f"{name} received", True
        _logger.warning("%s: stopping; what is done is kept. Once more ends at once.", name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    candidates = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # What the caller has ignored stays so: `nohup` must outlive its terminal.
    signals = [number for number in candidates if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ray_session(demand: Demand, address: str | None, memory_bytes: int) -> Iterator[Resources]:
    """Attach to a cluster, or start a local Ray that leaves nothing behind.

    Args:
        demand: What the trials are to get.
        address: A running cluster; None starts a local Ray.
        memory_bytes: Size of what the trials share.

    Raises:
        StudyStateError: If there is no cluster at the address.
        UsageError: If no trial would fit.
    """
    os.environ.update({**_ENVIRONMENT, **WORKER_ENVIRONMENT, **os.environ})
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        if "://" in address:
            raise UsageError(
                f"--address {shown(address)}: Ray's client cannot drive a study; start it on a "
                "node of the cluster and give HOST:PORT or 'auto'"
            )
        # The package travels to workers that have no checkout of it.
        travels = {
            "py_modules": [str(Path(study.__file__).parent)],
            "env_vars": WORKER_ENVIRONMENT,
        }
        try:
            ray.init(address=address, runtime_env=travels, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise StudyStateError(
                f"--address {address}: no Ray cluster answers ({error}); "
                "start one with `ray start --head`, or leave --address out"
            ) from error
        try:
            alive = nodes_alive()
            if len(alive) > 1 and not demand.shared_storage:
                raise UsageError(
                    f"--address {address}: the cluster has {len(alive)} nodes; give --storage a "
                    "folder that all of them share, or an s3:// or gs:// URI"
                )
            yield plan_resources(demand, alive)
        finally:
            leave_ray()
        return
    resources = plan_resources(demand)
    # A short path: Ray's sockets live below it, and their names are limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-")
    try:
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=resources.concurrency,
            include_dashboard=False,
            object_store_memory=max(2 * memory_bytes, 256 * 2**20),
            _temp_dir=folder,
            **quiet,
        )
        yield resources
    finally:
        leave_ray()
        shutil.rmtree(folder, ignore_errors=True)


def reachable(address: str, timeout_s: float = 5.0) -> None:
    """Check that something listens at HOST:PORT: Ray itself would try for minutes.

    Raises:
        StudyStateError: If nothing does, or the address has another form.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=timeout_s).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StudyStateError(
            f"--address {shown(address)}: nothing answers there ({error}); give HOST:PORT of a "
            "head started with `ray start --head`, or 'auto' for one on this host"
        ) from error


def leave_ray() -> None:
    """End this process's part in Ray.

    Meanwhile no other thread may free one of Ray's objects, which the garbage collector does
    anywhere: Ray then ends the whole process ("The core worker has already been shutdown").
    """
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


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
    scratch = tempfile.mkdtemp(prefix="study-ray-")
    trainable = tune.with_resources(
        tune.with_parameters(FusionTrial, job=job), resources.request()
    )
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
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=0, checkpoint_at_end=False
            ),
            callbacks=[_Listener(conductor)],
            stop=_Stopper(stop, deadline),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        conductor.stop(stop.cause or "the driver ended")
        shutil.rmtree(scratch, ignore_errors=True)
