"""Prepared beats on disk: one file per key, trusted only if its digest and its key hold.

A file is the digest of its content on a line of its own, then an uncompressed `.npz`. It is
written beside its final name and moved there in one step, so two processes that prepare the same
beats leave one whole file.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.archive import read_arrays
from study.data.beat_set import BeatSet, Reliance
from study.errors import ArchiveError

CACHE_VARIABLE = "STUDY_CACHE_DIR"
"""Environment variable that names another cache folder than the workspace's."""

_DIGEST_BYTES = 32
_TEXTS = ("dataset", "source", "segmentation", "resampling", "fingerprint")
_ARRAYS = ("record", "r_peak_sample", "label", "ecg")
_KINDS = {
    **{"record": ("i", 1), "r_peak_sample": ("i", 1), "label": ("i", 1), "ecg": ("f", 2)},
    **{"reliance.beats": ("i", 1), "reliance.donors": ("i", 2), "meta": ("u", 1)},
}

_logger = logging.getLogger(__name__)


def default_cache_dir(workspace: Path) -> Path:
    """Return the folder of prepared beats: `STUDY_CACHE_DIR`, else one in the workspace."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else workspace / ".cache" / "beats"


def load(path: Path, key: str) -> BeatSet | None:
    """Return the beats of a cache file, or None if they must be prepared anew.

    Args:
        path: The file.
        key: Digest of everything that shapes the beats; must be the one they were stored under.
    """
    try:
        with path.open("rb") as file:
            digest = file.readline(2 * _DIGEST_BYTES + 1)
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as err:
        _logger.warning("%s: cannot be read, preparing the beats anew: %s", path, err)
        return None
    if digest.strip() != _digest(content):
        _logger.warning("%s: truncated or altered, preparing the beats anew", path)
        return None
    try:
        beat_set = _unpacked(content, key)
    except (ArchiveError, LookupError, TypeError, AttributeError, ValueError):
        beat_set = None
    if beat_set is None:
        _logger.warning("%s: holds other content than its name says, preparing anew", path)
    return beat_set


def store(path: Path, key: str, beat_set: BeatSet) -> None:
    """Write beats to a cache file; a folder that cannot be written costs a warning only."""
    content = _packed(key, beat_set)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(_digest(content) + b"\n")
                file.write(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as err:
        _logger.warning("%s: cannot be written, the beats are not cached: %s", path, err)


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest().encode()


def _packed(key: str, beat_set: BeatSet) -> memoryview:
    meta: dict[str, Any] = {name: getattr(beat_set, name) for name in _TEXTS}
    meta |= {"key": key, "record_names": beat_set.record_names}
    meta["dropped"] = {name: dict(counts) for name, counts in beat_set.dropped.items()}
    arrays: dict[str, NDArray[Any]] = {name: getattr(beat_set, name) for name in _ARRAYS}
    arrays |= {f"rr.{name}": rows for name, rows in beat_set.rr.items()}
    arrays |= {
        "reliance.beats": beat_set.reliance.beats,
        "reliance.donors": beat_set.reliance.donors,
    }
    if beat_set.reliance.windows is not None:
        arrays["reliance.windows"] = beat_set.reliance.windows
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    # The stub takes any keyword for a flag of savez itself.
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getbuffer()


def _unpacked(content: bytes, key: str) -> BeatSet | None:
    arrays: dict[str, Any] = read_arrays(content, _KINDS)
    meta = json.loads(arrays["meta"].tobytes())
    if meta["key"] != key:
        return None
    return BeatSet(
        **{name: meta[name] for name in _TEXTS},
        **{name: arrays[name] for name in _ARRAYS},
        record_names=tuple(meta["record_names"]),
        rr={name[3:]: rows for name, rows in arrays.items() if name.startswith("rr.")},
        reliance=Reliance(
            beats=arrays["reliance.beats"],
            donors=arrays["reliance.donors"],
            windows=arrays.get("reliance.windows"),
        ),
        dropped=meta["dropped"],
    )
