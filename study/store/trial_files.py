"""The files that a trial leaves: their names, and whether one is whole.

Neither torch nor Ray is needed to tell.
"""

from __future__ import annotations

import csv
import io
import json
import pickletools
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study import __version__
from study.addresses import shown
from study.archive import archive_fault, read_arrays
from study.errors import ArchiveError, CheckpointError, StudyStateError
from study.keys import CLASSES
from study.store.storage import Storage

if TYPE_CHECKING:  # it needs torch
    from study.training.results import TrialResult

METRICS = "metrics"
"""Key of the final metrics in `scores.json`."""

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


def pack_predictions(result: TrialResult) -> bytes:
    """Pack out-of-fold log-probabilities, gates, attention and the confusion matrix as npz."""
    arrays: dict[str, Any] = {"log_probs": result.log_probs, "confusion": result.confusion}
    if result.gates is not None:
        arrays["gates"] = result.gates
    if result.attention is not None:
        arrays["attention"] = result.attention
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def as_json(result: TrialResult) -> bytes:
    """Write scores, why the undefined ones are so, and the table of folds; NaN as null."""
    scores = {
        METRICS: _nullable(result.metrics),
        "undefined": result.undefined,
        "per_fold": [_nullable(row) for row in result.per_fold],
        "seconds_reliance": result.seconds_reliance,
    }
    return json.dumps(scores, indent=1).encode()


def _nullable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in row.items()}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write rows with equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
