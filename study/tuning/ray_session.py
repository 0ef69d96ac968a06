"""Ray during a study: a local Ray that leaves nothing behind, or a running cluster."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

# Private: Ray has no option for what `_starting`, `leave_ray` and `ray_fault` do here. So
# pyproject.toml admits one minor release of Ray, and tests/tuning/test_ray_session.py names it.
import ray._private.services
import ray._private.utils
import ray._private.worker
from ray.experimental.internal_kv import _internal_kv_get
from ray.job_config import JobConfig

import study
from study.addresses import shown
from study.errors import StudyStateError, UsageError
from study.store.scratch import scratch
from study.training.engine import WORKER_ENVIRONMENT
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.trial import place_key

STARTS = 3
"""How often the start of a local Ray is tried."""

_VITAL = {"raylet", "gcs_server"}
"""Processes of a local Ray without which no trial can run."""

_HOME = Path(study.__file__).resolve().parents[1]
"""The folder that this package is imported from."""

_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""Bytes that the path of a socket may have, its end mark apart (unix(7), unix(4) of macOS)."""

_QUIET = {"logging_level": logging.ERROR, "log_to_driver": False}

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The study keeps its own records; Ray's loggers would write every metric of every report.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Trials run at the command's niceness. Ray would add 15: any other busy process then takes a
    # core, and two trials take turns on the other (benchmarks/README.md).
    "RAY_worker_niceness": "0",
    # Ray's snapshots of the experiment are never read.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    # A stopped trial is in the middle of an epoch; its last full epoch is saved.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def ray_session(demand: Demand, address: str | None, memory_bytes: int) -> Iterator[Resources]:
    """Attach to a cluster, or start a local Ray that leaves nothing behind.

    Args:
        demand: What the trials are to get.
        address: A running cluster; None starts a local Ray.
        memory_bytes: Size of the data that trials share.

    Raises:
        StudyStateError: If there is no cluster at the address, or a local Ray does not start.
        UsageError: If no trial would fit.
    """
    os.environ.update({**_ENVIRONMENT, **WORKER_ENVIRONMENT, **os.environ})
    if address:
        _attach(address)
        try:
            yield _resources_of_cluster(demand, address)
        finally:
            leave_ray()
        return
    resources = plan_resources(demand)
    below = f"/0/session_2026-01-31_12-00-00_123456_{os.getpid()}/sockets/plasma_store"
    with scratch(longest=_SOCKET_PATH - len(below)) as folder:
        try:
            _start_here(folder, resources.concurrency, memory_bytes)
            yield resources
        finally:
            leave_ray()


def _attach(address: str) -> None:
    """Connect to a running cluster."""
    # Ray sends the package to workers that have no checkout.
    runtime_env = {"py_modules": [str(_HOME / "study")], "env_vars": WORKER_ENVIRONMENT}
    try:
        with _starting():
            ray.init(address=address, runtime_env=runtime_env, job_config=_job(), **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StudyStateError(
            f"--address {address}: no Ray cluster answers ({error}); "
            "start one with `ray start --head`, or leave --address out: the same command, that "
            "of study.run with --resume, then goes on"
        ) from error


def _resources_of_cluster(demand: Demand, address: str) -> Resources:
    """Return each trial's resources on the cluster that this process is connected to."""
    alive = nodes_alive()
    if len(alive) > 1 and not demand.shared_storage:
        raise UsageError(
            f"--address {address}: the cluster has {len(alive)} nodes; give --storage a "
            "folder that all of them share, or an s3:// or gs:// URI"
        )
    planned = plan_resources(demand, alive)
    if demand.shared_storage:
        return planned
    # Trials write to this node's disk, even if nodes join later.
    return replace(planned, node=f"node:{ray.util.get_node_ip_address()}")


def place_of(digest: str) -> str:
    """Return where a running trial is, from its worker; empty if unknown."""
    with suppress(Exception):  # only a screen shows it
        if ray.is_initialized():
            return (_internal_kv_get(place_key(digest)) or b"").decode()
    return ""


def nodes_alive() -> list[Mapping[str, float]]:
    """Return the total resources of each living node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _start_here(folder: Path, n_cpus: int, memory_bytes: int) -> None:
    """Start Ray on this machine; retry, because a start may fail on a busy machine."""
    for number in range(STARTS):
        try:
            with _starting():
                ray.init(
                    address="local",  # ignores RAY_ADDRESS
                    num_cpus=n_cpus,
                    include_dashboard=False,
                    object_store_memory=max(2 * memory_bytes, 256 * 2**20),
                    _temp_dir=str(folder / str(number)),
                    job_config=_job(),
                    **_QUIET,
                )
            return
        # Ray waits half a minute for its node, then raises the class without a message.
        except Exception as error:
            leave_ray()
            if number + 1 == STARTS:
                later = "if the machine is busy, try the same command later"
                mend = later if "timed out" in str(error) else "mend that, then start again"
                raise StudyStateError(
                    f"Ray did not start, {STARTS} times ({error}); {mend}"
                ) from error


class _OwnGroup(ray._private.services.ConsolePopen):  # type: ignore[misc]
    """A process of Ray in a process group of its own.

    A signal that `timeout` or a closed terminal sends to the driver's group would end Ray's
    processes first, and the driver would wait a minute for them.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, process_group=0, **options)


def _job() -> Any:
    """Return a job whose workers search, of the driver's own folders, only that of this package.

    Ray puts the current folder and the command's folder first on their path: workers would import
    a folder `study/` that lies there.
    """
    job = JobConfig()
    serialise = job._serialize

    def with_own_folders() -> Any:
        folders = job._py_driver_sys_path
        job._py_driver_sys_path = [name for name in folders if Path(name).resolve() == _HOME]
        return serialise()

    job._serialize = with_own_folders
    return job


@contextmanager
def _starting() -> Iterator[None]:
    """Start Ray in process groups apart from ours, with no credentials in its table of jobs.

    At the end, put our handler of SIGTERM back. Everybody on a cluster can read its table of jobs,
    which has the command line with its addresses. Ray offers no option for any of this.
    """
    services, utils = ray._private.services, ray._private.utils
    popen, command_line = services.ConsolePopen, utils.get_entrypoint_name
    services.ConsolePopen = _OwnGroup
    utils.get_entrypoint_name = lambda: " ".join(map(shown, sys.orig_argv))
    own = signal.getsignal(signal.SIGTERM)
    try:
        with _arriving_signals() as arrived:
            yield
            # What Ray's handler raises may be dropped on its way, as in a callback.
            if signal.SIGTERM in arrived():
                raise KeyboardInterrupt("SIGTERM")
    except SystemExit:  # raised by Ray's handler of SIGTERM
        raise KeyboardInterrupt("SIGTERM") from None
    finally:
        services.ConsolePopen, utils.get_entrypoint_name = popen, command_line
        _restore_sigterm(own)


@contextmanager
def _arriving_signals() -> Iterator[Callable[[], bytes]]:
    """Give a function that returns the numbers of the signals that have come in the block.

    Python writes them to a descriptor whatever their handlers do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield bytes
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def arrived() -> bytes:
        try:
            return os.read(reader, 4096)
        except BlockingIOError:
            return b""

    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _restore_sigterm(handler: Any) -> None:
    """Put the process's own handler of SIGTERM back.

    When a driver begins, Ray puts its own handler first, in Python and in C++; when the driver
    ends, C++ leaves no handler: a signal would then end the process without a message
    (https://github.com/ray-project/ray/pull/65749).
    """
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def reachable(address: str, timeout_s: float = 5.0) -> None:
    """Check that something listens at the address: Ray itself would try for minutes.

    Raises:
        StudyStateError: If nothing listens, no cluster is found on this host, or the address is
            neither HOST:PORT nor 'auto'.
    """
    try:
        found = address
        if address == "auto":
            # None where RAY_ADDRESS asks for a Ray of one's own.
            found = ray._private.services.canonicalize_bootstrap_address(address) or ""
        host, _, port = found.rpartition(":")
        # Ray writes an IPv6 address in brackets, which a socket does not take.
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StudyStateError(
            f"--address {shown(address)}: nothing answers there ({error}); give HOST:PORT of a "
            "head started with `ray start --head`, or 'auto' for one on this host"
        ) from error


def ray_fault() -> str:
    """Name the vital processes of a local Ray that have ended; empty if none has."""
    node = ray._private.worker._global_node
    dead = {name for name, _ in node.dead_processes()} if node is not None else set()
    ended = sorted(dead & _VITAL)
    if not ended:
        return ""
    return f"Ray's {' and '.join(ended)} on this machine ended: stopped from outside, or killed"


def leave_ray() -> None:
    """Disconnect this process from Ray.

    While Ray shuts down, no other thread may free one of its objects, or Ray ends the whole
    process ("The core worker has already been shutdown"). The garbage collector frees objects in
    whatever thread it runs, so it is off meanwhile. Ray's processes end a second after their
    driver: our handler of SIGTERM is put back in between.
    """
    own = signal.getsignal(signal.SIGTERM)
    node = ray._private.worker._global_node
    if node is not None:
        kill = node.kill_all_processes

        def kill_with_our_handler(*given: Any, **options: Any) -> None:
            _restore_sigterm(own)
            kill(*given, **options)

        node.kill_all_processes = kill_with_our_handler
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    except KeyboardInterrupt:
        # Otherwise Ray's processes would outlive us, and write into their deleted folder.
        ray.shutdown()
        raise
    finally:
        _restore_sigterm(own)
        if collecting:
            gc.enable()
