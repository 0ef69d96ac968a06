"""Files that are written whole or not at all, and errors of disks that name the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from study.addresses import redact, shown
from study.errors import DiskError


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file beside its place, then put it there; what was there stays until then.

    Args:
        path: The file.
        content: What it shall hold.
        durable: Wait until the disk has it, so that a power cut does not leave it empty.

    Raises:
        DiskError: If the disk does not take it; nothing half-written stays behind.
    """
    whole = content.encode() if isinstance(content, str) else content
    # A name of its own: two processes or threads, on whatever machines, may write the same file.
    part = path.with_name(f"{path.name}.{uuid4().hex}.part")
    with writing(path, len(whole)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(whole)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextmanager
def writing(place: str | Path, n_bytes: int) -> Iterator[None]:
    """Name what a block writes, and the room that it takes, where the disk does not take it.

    Raises:
        DiskError: If the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        # Not chained: the original error may quote an address with its keys.
        raise DiskError(
            f"{shown(str(place))}: cannot be written ({_why(error, place)}); "
            f"it takes {_size(n_bytes)}"
        ) from None


@contextmanager
def reading(place: str | Path) -> Iterator[None]:
    """Name what a block reads where the disk does not give it.

    Raises:
        DiskError: If the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(f"{shown(str(place))}: cannot be read ({_why(error, place)})") from None


def _why(error: OSError, place: str | Path) -> str:
    return os.strerror(error.errno) if error.errno else redact(error, str(place))


def _size(n_bytes: int) -> str:
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1e3:.1f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:.1f} MB"
