"""The lock of a study: one process holds it.

The lock names the process by its number and its start time: the system reuses numbers.
"""

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
"""How long to wait for a lock, s: a reader holds it for a moment, a driver for much longer."""
_PROC = Path("/proc")
_LINE = re.compile(r"process (\d+) on ([^\s,]+)(?:, begun (\S+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process on a host."""

    pid: int  # its number, which the system reuses after its end
    host: str
    begun: str = ""  # when it began, by the system's own count; empty where that is unknown

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
        """Return the line that the lock's file has for it."""
        return f"{self}, begun {self.begun}\n" if self.begun else f"{self}\n"

    def runs(self) -> bool | None:
        """Whether it still runs; None where it is on another host."""
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
    """Return the process and folder of a start, as `here` noted them, if its folder is another."""
    owner = Owner.read(str(start.get("owner", ""))) if start else None
    if start is None or owner is None or start.get("folder") == str(folder.resolve()):
        return None
    return owner, str(start.get("folder"))


def here(folder: Path) -> dict[str, str]:
    """Return the folder and the process of this start, to be noted in the study."""
    return {"folder": str(folder.resolve()), "owner": Owner.current().line()}


def _begun(pid: int) -> str:
    """Return when a process began: boot identifier and ticks since boot, not the wall clock."""
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

    The system releases the lock when its holder ends in any way. The lock's text names the holder;
    only where a file system has no locks does the text decide.

    Raises:
        StudyStateError: If another process holds it (the message names process and host), or the
            folder cannot be written.
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
                # Nothing was written yet: remove the folder made for the lock.
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
        # A process that was refused may have deleted the file since this one opened it.
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
    """Return the process that a study's lock names, and whether it holds the lock now."""
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
