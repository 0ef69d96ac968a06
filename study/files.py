"""Files: written whole or not at all; errors that name the file; CSV, JSON, npz and pt."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from study.addresses import redact, shown
from study.errors import ArchiveError, DiskError, listed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = tuple[str, int]
"""Allowed form of an array: the `kind` characters of its type, and its number of dimensions."""


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file under another name, then rename it; an old file stays whole until then.

    `durable` waits until the disk has it, so that a power cut does not leave it empty.

    Raises:
        DiskError: If it cannot be written; no half-written file stays behind.
    """
    whole = content.encode() if isinstance(content, str) else content
    # A unique name: two processes or threads, on any machines, may write the same file.
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


def output_fault(path: Path, *, folder: bool = False, new: bool = False) -> str:
    """Return why an output cannot be written, or an empty string; leaves no trace.

    A command asks before the work whose result is to go there, in a file or in a folder of
    several; `new` says that it may not be there yet, as it is never replaced.
    """
    place = path if folder else path.parent
    try:
        if new and path.exists():
            return f"{path}: is there already, and is never replaced; name another"
        if path.exists() and path.is_dir() is not folder:
            return f"{path}: must be a {'folder' if folder else 'file'}; name another"
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{path}: cannot be written ({place}: {_reason(error, path)}); name another place"


@contextmanager
def writing(target: str | Path, n_bytes: int) -> Iterator[None]:
    """Name the target and the size in the error of a block whose writes fail.

    Raises:
        DiskError: If the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        # Not chained: the original error may quote an address with its keys.
        raise DiskError(
            f"{shown(str(target))}: cannot be written ({_reason(error, target)}); "
            f"it takes {_size(n_bytes)}"
        ) from None


@contextmanager
def reading(target: str | Path) -> Iterator[None]:
    """Name the source in the error of a block whose reads fail.

    Raises:
        DiskError: If the block raises `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{shown(str(target))}: cannot be read ({_reason(error, target)})"
        ) from None


def _reason(error: OSError, target: str | Path) -> str:
    return os.strerror(error.errno) if error.errno else redact(error, str(target))


def _size(n_bytes: int) -> str:
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1e3:.1f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:.1f} MB"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV with a line of headings; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def rows_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return CSV of rows that all have the same columns, in the order of the first."""
    header = list(rows[0]) if rows else []
    return csv_text(header, ([row[name] for name in header] for row in rows))


def to_json(value: Any) -> Any:
    """Return values and arrays in JSON's types; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's
        return to_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return metrics read from JSON: null becomes NaN."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def archive_fault(content: bytes) -> str:
    """Return what is wrong with an npz or pt file, or an empty string.

    Both are zip archives. `torch.load` does not check their checksums.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            altered = archive.testzip()
    except Exception as error:  # each method of compression raises its own
        return f"{type(error).__name__}: {error}"
    return f"the checksum of its part {altered} is wrong" if altered else ""


def pack_arrays(arrays: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """Return arrays as an npz file, for `read_arrays`; those that are None are left out."""
    import numpy as np

    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, **{name: array for name, array in arrays.items() if array is not None})
    return buffer.getvalue()


def read_arrays(
    content: bytes, needed: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file; nothing in it is ever executed.

    Raises:
        ArchiveError: If it is damaged, or an array is absent or of another kind.
    """
    # Imported here: a command's help needs no arrays.
    import numpy as np

    if fault := archive_fault(content):
        raise ArchiveError(f"is damaged ({fault})")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            # For a part that is no array, numpy returns the bytes.
            arrays = {name: part for name, part in file.items() if isinstance(part, np.ndarray)}
    except Exception as error:  # numpy parses an array's header as Python: any error is possible
        raise ArchiveError(f"is damaged ({type(error).__name__})") from error
    faults = [f"has no '{name}'" for name in needed if name not in arrays]
    for name, (kinds, ndim) in {**needed, **(optional or {})}.items():
        if name in arrays and (arrays[name].dtype.kind not in kinds or arrays[name].ndim != ndim):
            got = arrays[name]
            faults.append(
                f"'{name}' must have {ndim} dimensions and a type of kind {' or '.join(kinds)}, "
                f"got {list(got.shape)} {got.dtype}"
            )
    if faults:
        raise ArchiveError(listed("lacks the expected content", faults))
    return arrays
