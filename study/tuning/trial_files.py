"""The files that a trial leaves: their names, and whether one is whole.

Neither torch nor Ray is needed to tell: npz and pt files are zip archives, whose checksums
`torch.load` does not look at.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import StudyStateError
from study.redact import shown
from study.tuning.storage import Storage

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
PREDICTIONS, PER_RECORD, SCORES = "predictions.npz", "per_record.csv", "scores.json"
RESULTS = (PREDICTIONS, PER_RECORD, SCORES, WEIGHTS)
"""What a complete trial has."""

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What reading an altered archive may raise."""


def archive_fault(content: bytes) -> str:
    """Return what is wrong with an npz or pt file, or an empty string."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            altered = archive.testzip()
    except _DAMAGE as error:
        return f"{type(error).__name__}: {error}"
    return f"the checksum of its part {altered} is wrong" if altered else ""


def file_fault(name: str, content: bytes | None) -> str:
    """Return what is wrong with a file of a trial, or an empty string."""
    if content is None:
        return "is missing"
    if name.endswith((".npz", ".pt")):
        fault = archive_fault(content)
        return f"is damaged ({fault})" if fault else ""
    if name.endswith(".json"):
        try:
            json.loads(content)
        except ValueError as error:
            return f"is damaged ({error})"
    return "" if content else "is empty"


def read_predictions(storage: Storage, digest: str) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a trial's predictions; None where it has none.

    Raises:
        StudyStateError: If the file is damaged.
    """
    content = storage.folder(digest).read(PREDICTIONS)
    if content is None:
        return None
    fault = file_fault(PREDICTIONS, content)
    if fault:
        raise StudyStateError(
            f"{shown(storage.root)}/{digest}/{PREDICTIONS} {fault}; "
            "bring it back from a copy, or move it away"
        )
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)
