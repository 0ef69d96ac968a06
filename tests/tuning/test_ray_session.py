"""A local Ray gives the process its signals back, and takes no signal that is sent to its group.

Two tests start a Ray in a process of their own: signals and groups are those of a process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from study.tuning.ray_session import ray_session
from study.tuning.resources import Demand

_SIGNALLED = """
import os, signal
from ray._private.node import Node
from study.tuning.ray_session import ray_session
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
print("ending", len(heard))
os.kill(os.getpid(), signal.SIGTERM)
print("ended", len(heard))
"""

_GROUPS = """
import os
from pathlib import Path
from study.tuning.ray_session import ray_session
from study.tuning.resources import Demand

with ray_session(Demand(concurrency=1), None, 0):
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    groups = {os.getpgid(int(child)) for child in children}
print(len(groups) > 1, os.getpgid(0) in groups)
"""


def output_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done
    return done.stdout


def test_sigterm_is_the_process_s_own_while_ray_runs_ends_and_after_that() -> None:
    """Ray replaces the handler where it begins; where it ends, it leaves the default one."""
    assert output_of(_SIGNALLED) == "running 1\nending 2\nended 3\n"


def test_ray_s_processes_are_in_groups_of_their_own() -> None:
    assert output_of(_GROUPS) == "True False\n"


def test_sigterm_while_ray_starts_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise SystemExit(15)  # as Ray's own handler of SIGTERM does

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        with ray_session(Demand(concurrency=1), None, 0):
            pass
