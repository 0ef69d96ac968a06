"""Folders of a process: gone at its end, or swept by the next where it was killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from study.errors import UsageError
from study.store.lock import Owner
from study.store.scratch import scratch, sweep
from tests.builders import ended_process

BEGIN = """
import os, signal, tempfile, threading, time
tempfile.tempdir = {folder!r}
from study.store.scratch import scratch
"""

KILLED = """
with scratch() as folder:
    (folder / "big").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""

THREAD = """
begun = threading.Event()
def hold():
    with scratch() as folder:
        (folder / "big").write_text("x")
        begun.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
begun.wait()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_has_a_short_path_where_sockets_need_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch(longest=45) as folder:
        assert folder.parent == Path("/tmp")
        (folder / "owner").write_text(Owner(pid=ended_process(), host=Owner.current().host).line())
        assert sweep() == [folder]
    monkeypatch.setattr("study.store.scratch._ELSEWHERE", (tmp_path / "absent",))
    with pytest.raises(UsageError, match="^TMPDIR .* set TMPDIR to a folder"):
        scratch(longest=45).__enter__()
    assert list(tmp_path.iterdir()) == []


def ran(script: str, folder: Path) -> int:
    """Run a script that makes temporary files in a folder; return its exit code."""
    words = [sys.executable, "-c", BEGIN.format(folder=str(folder)) + script]
    return subprocess.run(words, cwd=Path(__file__).parents[2]).returncode


def test_a_folder_goes_with_its_process_or_is_swept_and_nothing_else(tmp_path: Path) -> None:
    assert ran(THREAD, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert ran(KILLED, tmp_path) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = [tmp_path / name for name in ("study-of-somebody", "study-elsewhere", "precious")]
    for folder in others:
        folder.mkdir()
    (others[1] / "owner").write_text(Owner(pid=1, host="another").line())
    (others[2] / "owner").write_bytes((left / "owner").read_bytes())
    (tmp_path / "study-link").symlink_to(others[2])
    with scratch() as mine:
        assert sweep() == [left]
        assert mine.exists()
    assert {*tmp_path.iterdir()} == {*others, tmp_path / "study-link"}
    assert (others[2] / "owner").exists()


@pytest.mark.parametrize("marker", [None, ""])
def test_what_was_killed_without_its_marker_is_swept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str | None
) -> None:
    gone = f"study-{ended_process():x}-"
    names = (f"{gone}left", f"{gone}begun", f"study-{os.getpid():x}-ours", "study-model-x")
    left, begun, ours, model = (tmp_path / name for name in names)
    for folder in (left, begun, ours, model):
        folder.mkdir()
        if marker is not None:
            (folder / "owner").write_text(marker)
        if folder != begun:
            os.utime(folder, (0, time.time() - 2))
    assert sweep() == [left]
    # It may be of a process that is about to write its marker.
    assert begun.exists()
    monkeypatch.setattr(time, "time", lambda: begun.stat().st_mtime + 1.5)
    assert sweep() == [begun]
    assert ours.exists() and model.exists()


def test_a_folder_that_something_still_writes_into_goes_when_that_ends(tmp_path: Path) -> None:
    left = tmp_path / "study-left"
    (left / "0").mkdir(parents=True)
    (left / "owner").write_text(replace(Owner.current(), begun="before").line())
    # As if a process made a file for each that is deleted.
    with mock.patch.object(shutil, "rmtree"), mock.patch.object(time, "sleep") as waits:
        sweep()
    assert (left / "owner").exists() and waits.call_count == 10
    sweep()
    assert list(tmp_path.iterdir()) == []
