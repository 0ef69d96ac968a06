"""Who holds a study: told apart from another process that has its number."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from study.errors import StudyStateError
from study.store.lock import Owner, holder, locked
from tests.builders import ended_process, refused


def refusal(folder: Path) -> str:
    return refused(StudyStateError, locked(folder).__enter__)


def test_a_process_that_runs_is_told_from_one_that_ended_and_one_that_cannot_be_asked() -> None:
    owner = Owner.current()
    assert owner.runs() is True
    assert replace(owner, host="elsewhere").runs() is None
    assert replace(owner, pid=ended_process(), begun="").runs() is False
    if os.path.exists("/proc/self/stat"):
        assert replace(owner, begun="00000000+1").runs() is False, "a later one of its number"


def test_a_study_in_use_is_refused_naming_process_and_host(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with locked(folder):
        assert refusal(folder) == (
            f"study 'mine' is being run by process {os.getpid()} on {socket.gethostname()}; "
            "wait for it, or stop it"
        )
    killed = replace(Owner.current(), pid=ended_process())
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_text(killed.line())
    assert holder(folder) == (killed, False), "a killed holder is named, and holds nothing"
    with locked(folder):
        assert holder(folder) == (Owner.current(), True)


def test_without_locks_another_host_s_line_holds_and_the_way_out_is_said(tmp_path: Path) -> None:
    """As on Lustre without flock, where a killed owner's line stays."""
    lock = tmp_path / "lock"
    lock.write_text(Owner(pid=1, host="node7").line())
    with mock.patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "no locks")):
        assert refusal(tmp_path).endswith(
            "is being run by process 1 on node7; wait for it, or stop it; where "
            f"that process is gone, delete {lock}"
        )
        lock.unlink()
        with locked(tmp_path):
            assert lock.read_text() == Owner.current().line()


def test_a_look_at_the_lock_does_not_refuse_a_start(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    with (tmp_path / "lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (look.fileno(), fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass


def test_a_lock_is_given_back_when_its_holder_raises_and_leaves_no_folder(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert holder(one) == (None, False)
    with pytest.raises(KeyboardInterrupt), locked(one), locked(other):
        assert holder(one) == holder(other) == (Owner.current(), True), "two studies at once"
        (one / "plan.json").write_text("{}")
        raise KeyboardInterrupt
    assert (one / "lock").read_text() == ""
    assert not other.exists(), "of a start that was refused before it wrote anything"
    with locked(one):
        assert "process" in (one / "lock").read_text()


def test_a_workspace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    said = f"{tmp_path}/studies/new: cannot be written (Not a directory); a study keeps its rec"
    assert refusal(tmp_path / "studies" / "new").startswith(said)
