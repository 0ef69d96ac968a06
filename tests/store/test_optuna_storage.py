"""The Optuna storage on disk: how SQLite writes it, where, and what a kill leaves."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from study.store import optuna_storage
from study.store.optuna_storage import close_storage, open_storage, reading, sqlite_url

KILLED = """
import os, signal, sys
from study.store.optuna_storage import open_storage
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(study_name="s", storage=open_storage(sys.argv[1]))
for number in range(5):
    study.ask().set_user_attr("number", number)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of mounts with one local disk, whatever this machine has."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n")
    monkeypatch.setattr(optuna_storage, "MOUNTS", mounts)
    return mounts


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


def trials(url: str) -> int:
    with reading(url) as storage:
        return len(storage.get_all_trials(storage.get_study_id_from_name("s")))


@pytest.mark.parametrize("name", ["a b#c", "a?b", "a%20b", "a'b\"c", "Zoë", "me:secret@host"])
def test_a_file_is_where_it_is_said_to_be_in_any_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "study.db"
    path.parent.mkdir()
    storage = open_storage(sqlite_url(path))
    optuna.create_study(study_name="s", storage=storage)
    close_storage(storage)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    assert trials(sqlite_url(path)) == 0


def test_a_file_on_a_shared_disk_is_written_as_sqlite_does(disk: Path, tmp_path: Path) -> None:
    disk.write_text("server:/home / nfs4 rw 0 0\n")
    close_storage(open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    assert journal(tmp_path / "study.db") == "delete"


def test_a_file_that_is_being_read_is_opened_as_it_is(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(study_name="s", storage=f"sqlite:///{path}")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM studies").fetchall()
    storage = open_storage(f"sqlite:///{path}?timeout=0.1")
    assert [study.study_name for study in storage.get_all_studies()] == ["s"]
    reader.close()
    assert journal(path) == "delete"


def test_the_disk_is_the_one_mounted_nearest(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    for mounts, local in (
        ("/dev/sda1 / ext4 rw 0 0", True),
        ("server:/x / nfs4 rw 0 0\n/dev/sdb1 /data xfs rw 0 0", True),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /data/my\\040files lustre rw 0 0", False),
        ("/dev/sda1 / ext4 rw 0 0\nserver:/x /database nfs4 rw 0 0", True),
        ("/dev/sdb1 /data xfs rw 0 0\nserver:/x /data nfs4 rw 0 0", False),
        ("unheard / of rw 0 0", False),
    ):
        table.write_text(mounts)
        assert optuna_storage.on_local_disk(Path("/data/my files/study.db"), table) is local, (
            mounts
        )
    assert not optuna_storage.on_local_disk(Path("/data/study.db"), tmp_path / "nothing")


def test_a_local_file_is_written_ahead_and_read_meanwhile(disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage = open_storage(url)
    study = optuna.create_study(study_name="s", storage=storage)
    for expected in (1, 2):
        study.ask()
        assert trials(url) == expected, "it is in the file that is written ahead"
    assert journal(tmp_path / "study.db") == "wal"
    assert (tmp_path / "study.db-wal").stat().st_size > 0
    close_storage(storage)
    assert trials(url) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mounts", "study.db"]


def test_a_killed_writer_loses_nothing_and_a_reader_sees_all(disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    words = [sys.executable, "-c", KILLED, url]
    killed = subprocess.run(words, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    before = sorted(tmp_path.iterdir())
    assert trials(url) == 5
    assert sorted(tmp_path.iterdir()) == before
    study = optuna.load_study(study_name="s", storage=open_storage(url))
    assert [trial.user_attrs["number"] for trial in study.trials] == list(range(5))
