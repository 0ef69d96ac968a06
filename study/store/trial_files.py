"""The files that a trial leaves: their names, and checks that they are whole.

Checking needs neither torch nor Ray.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from study import __version__
from study.addresses import shown
from study.errors import ArchiveError, CheckpointError, StudyStateError
from study.files import archive_fault, pack_arrays, read_arrays, to_json
from study.keys import CLASSES
from study.store.history import METRICS
from study.store.storage import Storage
from study.training.results import MASKS, Inspection, TrialResult

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
PREDICTIONS, PER_RECORD, SCORES = "predictions.npz", "per_record.csv", "scores.json"
RESULTS = (PREDICTIONS, PER_RECORD, SCORES, WEIGHTS)
"""The files of a complete trial."""

_LOG_PROBS = {"log_probs": ("f", 3)}
_PROGRESS, _STATE = "progress.json", "state.pt"
"""The parts of a checkpoint."""

_INSPECTED = {"sampled_beats": ("i", 1), "mean_beat": ("f", 2)}
_OPTIONAL = {
    "gates": ("f", 2),
    "confusion": ("iuf", 2),
    "attention": ("f", 3),
    "deletion": ("f", 1),
    "branch_share": ("f", 1),
    **_INSPECTED,
}
"""Optional arrays of `predictions.npz`, with kind and dimensions."""


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


def pack_checkpoint(epoch: int, state: bytes) -> bytes:
    """Return a checkpoint: a training state, and the epoch after which it was taken.

    The epoch can be read without torch and without the state.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_PROGRESS, json.dumps({"version": __version__, "epoch": epoch}))
        archive.writestr(_STATE, state)
    return buffer.getvalue()


def unpack_checkpoint(content: bytes) -> tuple[int, bytes]:
    """Return the epoch after which a trial continues from a checkpoint, and its training state.

    Raises:
        CheckpointError: If it is damaged or of another version: the trial would start from the
            beginning.
    """
    # Checksums first: neither json nor torch checks them.
    if fault := archive_fault(content):
        raise CheckpointError(f"its checkpoint is damaged ({fault})")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            progress = json.loads(archive.read(_PROGRESS))
            version, epoch = str(progress["version"]), int(progress["epoch"])
            state = archive.read(_STATE)
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"its checkpoint is damaged ({type(error).__name__})") from error
    if version != __version__:
        raise CheckpointError(f"its checkpoint is of version {version}, this is {__version__}")
    return epoch, state


def read_predictions(
    storage: Storage, digest: str, *, n_beats: int
) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a trial's predictions; None where it has none.

    Raises:
        StudyStateError: If the file is damaged, or does not hold predictions of so many beats.
    """
    content = storage.folder(digest).read(PREDICTIONS)
    if content is None:
        return None
    try:
        arrays = read_arrays(content, _LOG_PROBS, _OPTIONAL)
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
    """Pack out-of-fold log-probabilities, confusion matrix, gates and the inspection as npz."""
    inside = result.inspection
    arrays: dict[str, object] = {
        "log_probs": result.log_probs,
        "confusion": result.confusion,
        "gates": result.gates,
    }
    if inside is not None:
        arrays |= {
            "sampled_beats": inside.beats,
            "mean_beat": inside.mean_beat,
            "attention": inside.attention,
            "deletion": [inside.deletion[mask] for mask in MASKS] if inside.deletion else None,
            "branch_share": inside.branch_share,
        }
    return pack_arrays(arrays)


def inspection_of(arrays: Mapping[str, NDArray[Any]]) -> Inspection | None:
    """Return the inspection among a trial's arrays, or None."""
    if not arrays.keys() >= _INSPECTED.keys():
        return None
    deletion = arrays.get("deletion", ())
    return Inspection(
        beats=arrays["sampled_beats"],
        mean_beat=arrays["mean_beat"],
        attention=arrays.get("attention"),
        deletion={mask: float(v) for mask, v in zip(MASKS, deletion, strict=False)},
        branch_share=arrays.get("branch_share"),
    )


def scores_json(result: TrialResult, **about: object) -> bytes:
    """Return scores, reasons for undefined ones and the table of folds as JSON, after `about`."""
    scores = {
        **about,
        METRICS: result.metrics,
        "undefined": result.undefined,
        "per_fold": result.per_fold,
        "seconds_reliance": result.seconds_reliance,
    }
    return json.dumps(to_json(scores), indent=1).encode()
