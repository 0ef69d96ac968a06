"""A local Ray gives the process its signals back, and gets none of those sent to its group."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

import study
from study.errors import StudyStateError
from study.tuning.ray_session import leave_ray, ray_session, reachable
from study.tuning.ray_tune import StopSignal, catching_signals
from study.tuning.resources import Demand

# In a process of its own: signals and groups are those of a process.
_PROGRAM = """
import os, signal
from pathlib import Path
import ray
from ray._private.node import Node
from study.tuning.ray_session import ray_session
from study.tuning.ray_tune import StopSignal, catching_signals
from study.tuning.resources import Demand

heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
end = Node.kill_all_processes

def signal_and_end(self, *given, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    end(self, *given, **options)

Node.kill_all_processes = signal_and_end
with ray_session(Demand(concurrency=1), None, 0):
    os.kill(os.getpid(), signal.SIGTERM)
    print("running", len(heard))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    groups = {os.getpgid(int(child)) for child in children}
    imported = ray.get(ray.remote(lambda: __import__("study").__doc__).remote())
    print("workers import", imported)
print("groups of their own", len(groups) > 1 and os.getpgid(0) not in groups)
print("ending", len(heard))
os.kill(os.getpid(), signal.SIGTERM)
print("ended", len(heard))
"""


def test_ray_leaves_the_process_its_signals_its_group_and_its_imports(tmp_path: Path) -> None:
    """Ray replaces the handler where it begins; where it ends, it leaves the default one.

    It also lets workers import from the current folder first, where a user may have a `study/`.
    """
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").write_text('"""another"""')
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(study.__file__).parents[1])},
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [
        *("running 1", f"workers import {study.__doc__}", "groups of their own True"),
        *("ending 2", "ended 3"),
    ]


@pytest.mark.parametrize("dropped", [False, True])
def test_sigterm_while_ray_starts_interrupts(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, dropped: bool
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, before))

    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray's own handler does
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            if not dropped:
                raise

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        with ray_session(Demand(concurrency=1), None, 0):
            pass


def test_nothing_is_collected_while_ray_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = []
    monkeypatch.setattr(ray, "shutdown", lambda: collecting.append(gc.isenabled()))
    leave_ray()
    assert collecting == [False]
    assert gc.isenabled()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_stops_in_order_and_a_second_raises(number: signal.Signals) -> None:
    signal.signal(number, signal.default_int_handler)  # CI may run where it is ignored
    stop, before = StopSignal(), signal.getsignal(number)
    with catching_signals(stop):
        signal.raise_signal(number)
        assert (stop.cause, stop.interrupted) == (f"{number.name} received", True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_signal_that_was_ignored_stays_ignored(request: pytest.FixtureRequest) -> None:
    before, stop = signal.signal(signal.SIGHUP, signal.SIG_IGN), StopSignal()
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    with catching_signals(stop):
        signal.raise_signal(signal.SIGHUP)
    assert not stop.cause


def test_no_cluster_is_found_where_the_environment_asks_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(StudyStateError, match="--address auto: nothing answers there"):
        reachable("auto")
