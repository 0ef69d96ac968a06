"""npz and pt files, both zip archives: whether one is whole, and the arrays that one must hold.

`torch.load` does not look at their checksums, and nothing in either is ever executed.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import ArchiveError, listed

Kind = tuple[str, int]
"""Of an array: the `kind` characters of its type that are allowed, and its dimensions."""


def archive_fault(content: bytes) -> str:
    """Return what is wrong with an npz or pt file, or an empty string."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            altered = archive.testzip()
    except Exception as error:  # no list would be whole: each way of compression has its own
        return f"{type(error).__name__}: {error}"
    return f"the checksum of its part {altered} is wrong" if altered else ""


def read_arrays(
    content: bytes, needed: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file.

    Args:
        content: The file.
        needed: What it must have.
        optional: What it may have.

    Raises:
        ArchiveError: If it is damaged, or an array is absent or of another kind.
    """
    if fault := archive_fault(content):
        raise ArchiveError(f"is damaged ({fault})")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            # Of a part that is no array numpy gives the bytes.
            arrays = {name: part for name, part in file.items() if isinstance(part, np.ndarray)}
    except Exception as error:  # headers of arrays are parsed as Python: any error may come
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
        raise ArchiveError(listed("is not what it should be", faults))
    return arrays
