"""Folders of a process: gone at its end, or swept by the next where it was killed."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from study.tuning.owner import Owner
from study.tuning.scratch import scratch, sweep

KILLED = """
import os, signal, tempfile
tempfile.tempdir = {folder!r}
from study.tuning.scratch import scratch
with scratch() as folder:
    (folder / "big").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_lasts_for_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch() as folder:
        assert folder.parent == tmp_path
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(folder=str(tmp_path))], cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / "study-of-somebody").mkdir()
    (tmp_path / "study-elsewhere").mkdir()
    away = Owner(pid=1, host="another")
    (tmp_path / "study-elsewhere" / "owner").write_text(away.line())
    target = tmp_path / "precious"
    target.mkdir()
    (target / "owner").write_bytes((left / "owner").read_bytes())
    (tmp_path / "study-link").symlink_to(target)
    with scratch() as mine:
        assert sweep() == [left]
        assert mine.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "precious",
        "study-elsewhere",
        "study-link",
        "study-of-somebody",
    ]
    assert (target / "owner").exists()


def test_a_folder_that_something_still_writes_into_is_swept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "study-left"
    (left / "0").mkdir(parents=True)
    (left / "owner").write_text(replace(Owner.current(), begun="before").line())

    def fails(path: Path, **_: object) -> None:
        raise OSError(errno.ENOTEMPTY, "a process made a file while it was deleted", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fails)
        sweep()
    assert (left / "owner").exists()
    assert sweep() == [left]
    assert list(tmp_path.iterdir()) == []
