"""A study's folder: which starts it admits, who holds it, and which names it takes."""

from __future__ import annotations

import errno
import fcntl
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from study.errors import StudyStateError, UsageError
from study.store.folder import leftovers, study_folder
from study.store.lock import Owner, holder, locked

HOLD = """
import sys
from pathlib import Path
from study.store.lock import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["fusion_grid", "a", "v1.2-b_3", "9"])
def test_a_plain_name_is_a_folder_of_the_workspace(tmp_path: Path, name: str) -> None:
    assert study_folder(tmp_path, name) == tmp_path / "studies" / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../other", "a/b", "/etc", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 101],
)
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        study_folder(tmp_path, name)
    assert str(caught.value) == (
        f"study {name!r}: a study's name has letters, digits, '-', '_' and '.', "
        "not starting with '.'"
    )


def test_a_study_in_use_is_refused_naming_process_and_host(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StudyStateError) as caught, locked(folder):
            pass
        assert str(caught.value) == (
            f"study 'mine' is being run by process {process.pid} on {socket.gethostname()}; "
            "wait for it, stop it, or take another --name"
        )
    finally:
        process.kill()
        process.communicate()
    left, held = holder(folder)
    assert left is not None
    assert (left.pid, held) == (process.pid, False), "a killed holder is named, and holds nothing"
    with locked(folder):
        assert holder(folder) == (Owner.current(), True)


def test_without_locks_a_line_of_another_host_holds_and_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Lustre without flock, where a killed owner's line stays."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = tmp_path / "lock"
    lock.write_text(Owner(pid=1, host="node7").line())
    with pytest.raises(StudyStateError) as caught, locked(tmp_path):
        pass
    assert str(caught.value).endswith(
        "is being run by process 1 on node7; wait for it, stop it, or take another --name; where "
        f"that process is gone, delete {lock}"
    )
    lock.unlink()
    with locked(tmp_path):
        assert lock.read_text() == Owner.current().line()


def test_two_studies_of_a_workspace_are_held_at_once(tmp_path: Path) -> None:
    with locked(tmp_path / "one"), locked(tmp_path / "two"):
        assert holder(tmp_path / "one") == holder(tmp_path / "two") == (Owner.current(), True)


def test_a_look_at_the_lock_does_not_refuse_a_start(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    with (tmp_path / "lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (look.fileno(), fcntl.LOCK_UN)).start()
        with locked(tmp_path):
            pass


def test_a_folder_that_is_not_held_has_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path) == (None, False)


def test_half_written_files_are_found_and_no_others(tmp_path: Path) -> None:
    for name in ("plan.json.part", "beats.npz.7.part", "trials/d/checkpoint.pt.7.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("plan.json", "trials/d/checkpoint.pt", "a.particle"):
        (tmp_path / name).write_text("")
    found = leftovers(tmp_path, str(tmp_path / "trials"))
    assert [path.name for path in found] == [
        "beats.npz.7.part",
        "plan.json.part",
        "checkpoint.pt.7.part",
    ]
    assert leftovers(tmp_path, "s3://bucket/study") == found


def test_a_lock_is_given_back_when_its_holder_raises(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path):
        assert "process" in (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""


def test_a_refused_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyStateError), locked(tmp_path / "studies" / "new"):
        raise StudyStateError("refused")
    assert list((tmp_path / "studies").iterdir()) == []


def test_a_workspace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "studies").write_text("a file")
    with pytest.raises(StudyStateError) as caught, locked(tmp_path / "studies" / "new"):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/studies/new: cannot be written (Not a directory); a study keeps its records "
        "in studies/ of the current folder: start it in one of yours"
    )
