"""Which process holds a study, told apart from a later one that got its number."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Return the process and folder of a start from another folder; None where it was this one.

    Args:
        start: What `here` gave that start.
        folder: The study's folder.
    """
    owner = Owner.read(str(start.get("owner", ""))) if start else None
    if start is None or owner is None or start.get("folder") == str(folder.resolve()):
        return None
    return owner, str(start.get("folder"))


def here(folder: Path) -> dict[str, str]:
    """Return what says that this process runs the study of a folder."""
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
