"""SIGTERM, Ctrl-C once and twice, and a terminal that is closed, at every stage of a study."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pytest

from study.keys import Outcome, Tag
from tests.studies import LIMIT_S, Studies, hear_signals

pytestmark = pytest.mark.faults

STOPPED = "python -m study.run --resume "


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["alone", "group"])
def test_sigterm_while_a_trial_runs_is_written_down_within_seconds(
    studies: Studies, send: Callable[[int, int], None]
) -> None:
    """Slurm and Docker signal the command alone, `timeout` its whole group."""
    name = f"stopped-{send.__name__}"
    start = studies.with_checkpoint(name)
    send(start.process.pid, signal.SIGTERM)
    sent = time.monotonic()

    def written() -> bool:
        return studies.trials(name)[-1].user_attrs.get(Tag.OUTCOME) == Outcome.STOPPED

    start.wait_for(written, "the trial is written down as stopped")
    assert time.monotonic() - sent < 5.0
    ended = start.ended(within_s=30)
    assert ended.code == 130, ended
    assert "stopped: SIGTERM received; 0 of 2 trials settled\n" in ended.out
    assert f"\n  {STOPPED}{name} " in ended.out
    assert "Alarms" not in ended.out, "there is nothing to be alarmed about yet"
    assert "Traceback" not in ended.err
    assert studies.left() == []
    studies.goes_on(name)


def test_a_terminal_that_is_closed_stops_the_study_in_order(studies: Studies) -> None:
    name = "terminal"
    terminal, inside = pty.openpty()

    def begin() -> None:
        hear_signals()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "study.run", *studies.words("long", name)],
        cwd=studies.folder,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=begin,
    )
    os.close(inside)
    deadline = time.monotonic() + LIMIT_S
    while not studies.checkpoints(name):
        assert process.poll() is None and time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(30) in (130, 141)
    assert studies.trials(name)[-1].user_attrs[Tag.CAUSE] == "SIGHUP received"
    assert studies.left() == []
    studies.goes_on(name)


@pytest.mark.parametrize("after_s", [0.5, 2.0])
def test_sigterm_while_ray_starts_loses_nothing(studies: Studies, after_s: float) -> None:
    """Ray has handlers of its own then: how the process ends is theirs to say."""
    name = f"starting-{10 * after_s:.0f}"
    start = studies.start("long", name)
    start.wait_for(lambda: studies.events(name) > 0, "the study is opened")
    time.sleep(after_s)
    start.process.send_signal(signal.SIGTERM)
    ended = start.ended(within_s=30)
    assert ended.code != 0, ended
    ended = studies.run("long", name, "--resume").succeeded()
    assert studies.left() == []
    assert len(studies.audit(name)) == 2


def test_a_second_ctrl_c_ends_without_mlflow_and_loses_nothing(studies: Studies) -> None:
    name = "twice"
    start = studies.with_checkpoint(name)
    start.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    start.process.send_signal(signal.SIGINT)
    ended = start.ended(within_s=15)
    assert ended.code == 130, ended
    assert "SIGINT: stopping, which takes seconds; finished work is kept. After " in ended.err
    assert "Traceback" not in ended.err
    assert studies.trials(name)[-1].user_attrs[Tag.OUTCOME] == Outcome.STOPPED
    assert studies.left() == []
    studies.goes_on(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_beginning_says_so(studies: Studies, number: signal.Signals) -> None:
    name = f"early-{number.name}"
    start = studies.start("long", name)
    lock = studies.study(name) / "lock"
    start.wait_for(lock.exists, "the study is locked")
    start.process.send_signal(number)
    ended = start.ended()
    assert ended.code == 130, ended
    assert "Traceback" not in ended.err
    begun = (studies.study(name) / "plan.json").exists()
    said = STOPPED if begun else "no trial was begun: the same command starts again\n"
    assert said in ended.out + ended.err or f"interrupted by {number.name}; what is" in ended.err
    assert studies.left() == []
