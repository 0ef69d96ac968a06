"""The files that a trial leaves: their names, and whether one is whole.

Neither torch nor Ray is needed to tell.
"""

from __future__ import annotations

import json
from typing import Any

from numpy.typing import NDArray

from study.archive import archive_fault, read_arrays
from study.errors import ArchiveError, StudyStateError
from study.keys import CLASSES
from study.redact import shown
from study.tuning.storage import Storage

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
PREDICTIONS, PER_RECORD, SCORES = "predictions.npz", "per_record.csv", "scores.json"
RESULTS = (PREDICTIONS, PER_RECORD, SCORES, WEIGHTS)
"""What a complete trial has."""

_LOG_PROBS = {"log_probs": ("f", 3)}
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
