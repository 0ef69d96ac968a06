"""A clock that was set back between two starts, and a study that is started twice."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace

import pytest

from study.keys import Outcome
from tests.studies import Studies

pytestmark = pytest.mark.faults

A_DAY_EARLIER = """
import runpy, sys, time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 86400
time.time_ns = lambda: now_ns() - 86400 * 10**9
sys.argv = ["study.run", *sys.argv[1:]]
runpy.run_module("study.run", run_name="__main__", alter_sys=True)
"""


def test_a_study_goes_on_after_the_clock_was_set_back(studies: Studies) -> None:
    name = "clock"
    start = studies.start("fast", name)
    start.wait_for(lambda: studies.events(name) >= 4, "an epoch")
    start.process.send_signal(signal.SIGKILL)
    start.ended()
    earlier = replace(studies, program=(sys.executable, "-c", A_DAY_EARLIER))
    earlier.run("fast", name, "--resume").succeeded()
    assert len(studies.audit(name)) == 4
    assert studies.left() == []


def test_a_study_that_runs_cannot_be_started_again_and_is_not_hurt(studies: Studies) -> None:
    name, lasting = "started-twice", ("--epochs", "40", "--trials", "1")
    first = studies.start("long", name, *lasting)
    first.wait_for(lambda: "trial   0 started" in first.said(), "the first trial")
    for option in ((), ("--resume",)):
        refused = studies.here("long", name, *lasting, *option)
        assert refused.code == 2, refused
        assert f"study '{name}' is being run by process {first.process.pid} on " in refused.err
    first.ended().succeeded()
    assert list(studies.audit(name).values()) == [Outcome.COMPLETE]
