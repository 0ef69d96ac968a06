"""The files that a trial leaves: their names, and whether one is whole.

Neither torch nor Ray is needed to tell.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from typing import Any

from numpy.typing import NDArray

from study import __version__
from study.archive import archive_fault, read_arrays
from study.errors import ArchiveError, CheckpointError, StudyStateError
from study.keys import CLASSES
from study.redact import shown
from study.tuning.storage import Storage

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
PREDICTIONS, PER_RECORD, SCORES = "predictions.npz", "per_record.csv", "scores.json"
RESULTS = (PREDICTIONS, PER_RECORD, SCORES, WEIGHTS)
"""What a complete trial has."""

_LOG_PROBS = {"log_probs": ("f", 3)}
_NAMES = ("BINPUT", "LONG_BINPUT", "MEMOIZE")
"""What a pickle does with a value besides holding it."""

_BESIDES = {"gates": ("f", 2), "attention": ("f", 3), "confusion": ("iuf", 2)}


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


def checkpoint_epoch(content: bytes) -> int:
    """Return the epoch after which a trial with this checkpoint goes on; nothing is executed.

    Raises:
        CheckpointError: If the trial would start again: it is damaged, or of another version.
    """
    if fault := archive_fault(content):
        raise CheckpointError(f"its checkpoint is damaged ({fault})")
    found: dict[str, object] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            key: object = None
            for code, value, _ in pickletools.genops(archive.read(name)):
                if code.name in _NAMES:
                    continue
                if key in ("version", "epoch"):
                    found.setdefault(str(key), value)
                key = value if isinstance(value, str) else None
        version, epoch = found["version"], found["epoch"]
    except (StopIteration, LookupError, ValueError) as error:
        raise CheckpointError(f"its checkpoint is damaged ({type(error).__name__})") from error
    if version != __version__:
        raise CheckpointError(f"its checkpoint is of version {version}, this is {__version__}")
    if not isinstance(epoch, int):
        raise CheckpointError("its checkpoint is damaged (it names no epoch)")
    return epoch


def read_predictions(
    storage: Storage, digest: str, *, n_beats: int
) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a trial's predictions; None where it has none.

    Args:
        storage: Where trials keep their files.
        digest: The trial's.
        n_beats: Beats that it must have predicted.

    Raises:
        StudyStateError: If the file is damaged, or does not hold predictions of so many beats.
    """
    content = storage.folder(digest).read(PREDICTIONS)
    if content is None:
        return None
    try:
        arrays = read_arrays(content, _LOG_PROBS, _BESIDES)
        shape, expected = arrays["log_probs"].shape, (n_beats, len(CLASSES))
        if not shape[0] or shape[1:] != expected:
            raise ArchiveError(
                f"must hold log_probs of [seeds, {n_beats}, {len(CLASSES)}], got {list(shape)}"
            )
    except ArchiveError as error:
        raise StudyStateError(
            f"{shown(storage.root)}/{digest}/{PREDICTIONS} {error}; "
            "bring it back from a copy, or move it away"
        ) from error
    return arrays
