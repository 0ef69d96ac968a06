"""Who holds a study: told apart from another process that has its number."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from study.store.lock import Owner


def test_this_process_runs_and_is_read_back_from_its_line() -> None:
    owner = Owner.current()
    assert str(owner) == f"process {os.getpid()} on {socket.gethostname()}"
    assert Owner.read(owner.line()) == owner
    assert owner.runs() is True


def test_a_process_that_has_ended_does_not_run() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert Owner(pid=ended.pid, host=socket.gethostname()).runs() is False


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc on this system")
def test_a_later_process_of_the_same_number_is_told_apart() -> None:
    assert replace(Owner.current(), begun="00000000+1").runs() is False


def test_a_process_of_another_host_cannot_be_asked() -> None:
    assert replace(Owner.current(), host="elsewhere").runs() is None


@pytest.mark.parametrize("text", ["", "a word", "process x on y"])
def test_a_text_that_names_nobody_is_nobody(text: str) -> None:
    assert Owner.read(text) is None


def test_a_line_without_a_beginning_is_read() -> None:
    assert Owner.read("process 7 on here\n") == Owner(pid=7, host="here")
