"""Makes temporary folders for this process; deletes those that killed processes left."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from study.errors import UsageError
from study.store.lock import Owner

_PREFIX, _OWNER = "study-", "owner"

_ELSEWHERE = (Path("/tmp"), Path("/var/tmp"))  # nosec B108: mkdtemp makes folders of our own
"""Used when the path of TMPDIR is too long, as in a batch job."""

_NAME = re.compile(_PREFIX + "([0-9a-f]+)-.+")
"""A folder's name, with the process's number in hexadecimal in case the marker is missing."""

_UNMARKED_S = 1.0
"""A folder older than this without a marker: its process was killed before it wrote one."""

_TRIES, _PAUSE_S = 10, 0.2
"""How often a deletion is tried, and the pause between two tries."""


@contextmanager
def scratch(longest: int | None = None) -> Iterator[Path]:
    """Give a block an empty folder whose path has at most `longest` bytes.

    A killed process leaves its folder, whose marker names the process: `sweep` deletes it.

    Raises:
        UsageError: If no place for temporary files has so short a path.
    """
    folder = _made(longest)
    # At exit the interpreter does not wait for a thread's block: delete the folder then.
    leave = partial(_delete, folder)
    atexit.register(leave)
    try:
        (folder / _OWNER).write_text(Owner.current().line())
        yield folder
    finally:
        leave()
        atexit.unregister(leave)


def _made(longest: int | None) -> Path:
    prefix = f"{_PREFIX}{os.getpid():x}-"
    usual = Path(tempfile.gettempdir())
    for parent in (usual, *_ELSEWHERE):
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            length = len(os.fsencode(folder))
            if longest is None or length <= longest:
                return folder
            folder.rmdir()
    if longest is None:
        # Where TMPDIR is full or read-only, its own error says so.
        return Path(tempfile.mkdtemp(prefix=prefix))
    room = longest - len(f"/{prefix}12345678")
    raise UsageError(
        f"TMPDIR {usual}: its path has {len(os.fsencode(usual))} bytes, the sockets of a study "
        f"allow {room}, and {' and '.join(map(str, _ELSEWHERE))} cannot be written; set TMPDIR to "
        f"a folder whose path has at most {room} bytes"
    )


def sweep() -> list[Path]:
    """Delete this user's folders of ended processes; return their paths."""
    swept = []
    parents = dict.fromkeys((Path(tempfile.gettempdir()), *_ELSEWHERE))
    for folder in (folder for parent in parents for folder in parent.glob(f"{_PREFIX}*")):
        try:
            about = folder.lstat()
            # Anyone may put a link among temporary files.
            if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode):
                continue
            owner = _owner(folder, age_s=time.time() - about.st_mtime)
        except (OSError, UnicodeDecodeError):
            continue
        if owner is not None and owner.runs() is False:
            _delete(folder)
            swept.append(folder)
    return swept


def _owner(folder: Path, *, age_s: float) -> Owner | None:
    """Return a folder's owner: from its marker, or from its name where a kill left no marker."""
    marker = folder / _OWNER
    owner = Owner.read(marker.read_text()) if marker.exists() else None
    named = _NAME.fullmatch(folder.name)
    # After a clock was set back its age is negative; then it is not waited for.
    if owner is None and named is not None and not 0 <= age_s < _UNMARKED_S:
        return Owner(pid=int(named[1], 16), host=socket.gethostname())
    return owner


def _delete(folder: Path) -> None:
    """Delete a folder, its marker last: a later sweep deletes what remains.

    Ray's processes outlive their driver for a moment, and still write.
    """
    for _ in range(_TRIES):
        with suppress(OSError):
            for path in folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _OWNER:
                    path.unlink()
            if [path.name for path in folder.iterdir()] in ([], [_OWNER]):
                shutil.rmtree(folder)
                return
        time.sleep(_PAUSE_S)
