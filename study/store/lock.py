"""The lock of a study: one process holds it, and is told from a later one of its number."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from study.errors import StudyStateError
from study.files import writing

_LOCK = "lock"
_PATIENCE_S = 0.5
"""How long a lock is waited for: a reader has it for a moment, and a driver for longer."""
_PROC = Path("/proc")
_LINE = re.compile(r"process (\d+) on ([^\s,]+)(?:, begun (\S+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process on a host."""

    pid: int  # its number, which the system gives away again after its end
    host: str
    begun: str = ""  # when it began, by the system's own count; empty where that cannot be told

    @classmethod
    def current(cls) -> Owner:
        """Return this process."""
        return cls(pid=os.getpid(), host=socket.gethostname(), begun=_begun(os.getpid()))

    @classmethod
    def read(cls, text: str) -> Owner | None:
        """Return the owner that a lock names; None where it names none."""
        match = _LINE.match(text)
        return match and cls(pid=int(match[1]), host=match[2], begun=match[3] or "")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def line(self) -> str:
        """Return what a lock says of it."""
        return f"{self}, begun {self.begun}\n" if self.begun else f"{self}\n"

    def runs(self) -> bool | None:
        """Whether it still runs; None where it is on another host, which cannot be asked."""
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it runs, under another user
        return not self.begun or self.begun == _begun(self.pid)


def elsewhere(start: Mapping[str, Any] | None, folder: Path) -> tuple[Owner, str] | None:
    """Return process and folder of a start that `here` described, if it was of another folder."""
    owner = Owner.read(str(start.get("owner", ""))) if start else None
    if start is None or owner is None or start.get("folder") == str(folder.resolve()):
        return None
    return owner, str(start.get("folder"))


def here(folder: Path) -> dict[str, str]:
    """Return what a start writes down of itself: its folder and its process."""
    return {"folder": str(folder.resolve()), "owner": Owner.current().line()}


def _begun(pid: int) -> str:
    """Return boot and clock ticks since then at which a process began: no wall clock in it."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
        # The second field is a name in parentheses, which may hold anything.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return f"{boot}+{fields[19]}"
    except (OSError, IndexError):  # a system without /proc, or a process that ended just now
        return ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a study for this process.

    The system gives the lock back when its holder ends, however it ends. The lock's text says
    who holds it; it decides only where a file system has no locks.

    Raises:
        StudyStateError: If another process holds it (says which, on which host), or the folder
            cannot be written.
    """
    path = folder / _LOCK
    with _acquired(folder) as file:
        line = Owner.current().line()
        with writing(path, len(line)):
            file.truncate(0)
            file.write(line)
            file.flush()
        try:
            yield
        finally:
            file.truncate(0)
            if [entry.name for entry in folder.iterdir()] == [_LOCK]:
                # Refused before anything was written: nothing stays behind.
                path.unlink()
                folder.rmdir()


def _acquired(folder: Path) -> TextIO:
    path, deadline = folder / _LOCK, time.monotonic() + _PATIENCE_S
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise StudyStateError(
                f"{folder}: cannot be written ({error.strerror}); a study keeps its records in "
                "studies/ of the current folder: start it in one of yours"
            ) from error
        file.seek(0)
        owner = Owner.read(file.read())
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held, way_out = False, ""
        except BlockingIOError:
            held, way_out = True, ""
        except OSError:  # a file system without locks, where a killed owner's line stays
            held = owner is not None and owner.runs() is not False
            way_out = f"; where that process is gone, delete {path}"
        # Who was refused before may have deleted the file since it was opened here.
        if not held and path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()
        if held and time.monotonic() > deadline:
            raise StudyStateError(
                f"study '{folder.name}' is being run by {owner or 'another process'}; wait for "
                f"it, or stop it{way_out}"
            )
        time.sleep(0.05)


def holder(folder: Path) -> tuple[Owner | None, bool]:
    """Return who holds a study, or held it and did not give it back; and whether it does now."""
    try:
        with (folder / _LOCK).open() as file:
            owner = Owner.read(file.read())
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return owner, True
            except OSError:  # a file system without locks
                return owner, owner is not None and owner.runs() is not False
    except OSError:
        return None, False
    return owner, False
