"""A local Ray leaves the signals of the process as they were, while it starts and afterwards."""

from __future__ import annotations

import subprocess
import sys

_SIGNALLED = """
import os, signal, sys, time
import ray._raylet
from ray._private.node import Node
from study.tuning.ray_session import ray_session
from study.tuning.resources import Demand

heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
begin, end = ray._raylet.CoreWorker, Node.kill_all_processes

def begin_and_signal(*given, **options):
    worker = begin(*given, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return worker

def signal_and_end(self, *given, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    end(self, *given, **options)

ray._raylet.CoreWorker, Node.kill_all_processes = begin_and_signal, signal_and_end
with ray_session(Demand(concurrency=1), None, 0):
    time.sleep(3.5)
    print("starting", len(heard), ray.is_initialized())
    os.kill(os.getpid(), signal.SIGTERM)
    print("running", len(heard))
print("ending", len(heard))
os.kill(os.getpid(), signal.SIGTERM)
print("ended", len(heard))
"""


def test_sigterm_is_the_process_s_own_while_ray_starts_ends_and_after_that() -> None:
    """Ray's handler aborts the process after three seconds; its end leaves the default one."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done
    assert done.stdout == "starting 1 True\nrunning 2\nending 3\nended 4\n"
