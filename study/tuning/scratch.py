"""Folders of a process for the time that it runs, and the end of those that a killed one left."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from study.tuning.owner import Owner

# Short: Ray's sockets lie below, and their names are limited to 107 bytes.
_PREFIX, _OWNER = "study-", "owner"


@contextmanager
def scratch() -> Iterator[Path]:
    """Give an empty folder for the time of a block.

    A process that is killed leaves its folder, which says whose it was: `sweep` deletes it.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        (folder / _OWNER).write_text(Owner.current().line())
        yield folder
    finally:
        _delete(folder)


def sweep() -> list[Path]:
    """Delete this user's folders of processes that have ended; return which they were."""
    found = []
    for marker in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_OWNER}"):
        folder = marker.parent
        try:
            # Anyone may put a link where temporary files are.
            mine = folder.lstat().st_uid == os.getuid() and stat.S_ISDIR(folder.lstat().st_mode)
            owner = Owner.read(marker.read_text()) if mine else None
        except (OSError, UnicodeDecodeError):
            continue
        if owner is not None and owner.runs() is False:
            _delete(folder)
            found.append(folder)
    return found


def _delete(folder: Path) -> None:
    """Delete a folder, its marker last: where something still writes, a later sweep goes on.

    The processes of a killed driver's Ray live for seconds after it.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != _OWNER:
                path.unlink()
        shutil.rmtree(folder)
