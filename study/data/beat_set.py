"""The prepared arrays that all later steps use, and their cache on disk.

A cache file has the digest of its content on the first line, then an uncompressed `.npz`. It is
trusted only if that digest and its key are right. Two processes that prepare the same beats leave
one whole file.

Shapes: N beats, T samples (128), R RR features, P permutations, M sampled beats.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.beats import LabelledBeats
from study.config import WINDOWS, Cut, SignalSpec
from study.errors import ArchiveError, DiskError
from study.files import pack_arrays, read_arrays, write_whole

CACHE_VARIABLE = "STUDY_CACHE_DIR"
"""Environment variable that names another cache folder than the workspace's."""

_DIGEST_BYTES = 32
_TEXTS = ("dataset", "source", "segmentation", "resampling", "fingerprint")
_ARRAYS = ("record", "r_peak_sample", "label", "ecg")
_KINDS = {
    **{"record": ("i", 1), "r_peak_sample": ("i", 1), "label": ("i", 1), "ecg": ("f", 2)},
    **{"reliance.beats": ("i", 1), "reliance.donors": ("i", 2), "meta": ("u", 1)},
}
_OPTIONAL_KINDS = {
    **{"reliance.windows": ("f", 3), "reference.recut": ("f", 3)},
    **{"reference.deviation": ("f", 2), "reference.distances": ("f", 2)},
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliance:
    """Permuted RR, to measure how much a model relies on RR (see `study.training.reliance`)."""

    # [M] indices of the sampled beats: all S, V, F and a fixed sample of N
    beats: NDArray[np.int64]
    # [P, M] index of the beat of the same record whose RR each sampled beat gets
    donors: NDArray[np.int64]
    # [P, M, T] the sampled beats re-cut with their donor's RR; None where the window does not
    # depend on RR (every segmentation but daeac)
    windows: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """How beats differ from the patient's usual beat (see `study.data.reference.templates`)."""

    template: str  # how templates were made
    deviation: NDArray[np.float32]  # [N, T] deviations from the templates
    distances: NDArray[np.float32]  # [N, 2] logarithms of rms deviations
    # [P, M, T] deviations of the reliance sample's re-cut windows; None where there are none
    recut: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeatSet(LabelledBeats):
    """All beats of one data set under one segmentation; records are sorted by name."""

    dataset: str  # as `study.data.source.Source` has it, or `DS2`
    source: str  # its kind, as `study.data.source.Source` has it
    segmentation: str  # how windows were cut
    resampling: str  # how they were resampled to 128 samples: `linear` or `antialiased`
    r_peak_sample: NDArray[np.int64]  # [N] sample index of the R peak at 360 Hz
    ecg: NDArray[np.float32]  # [N, T] windows, each with zero mean and unit variance
    # RR feature sets by name, each [N, R]: the keys of `study.data.rr.FEATURES`
    rr: Mapping[str, NDArray[np.float32]]
    reliance: Reliance  # permuted RR for the reliance measurement
    dropped: Mapping[str, Mapping[str, int]]  # beats left out, by record and reason
    fingerprint: str  # digest of source checksums, preparation code version and parameters
    reference: Reference | None = None  # beats beside their templates; None without a template
    databases: tuple[str, ...] = ()  # database of each record; empty where all are of one

    @property
    def cut(self) -> Cut:
        """Segmentation, resampling and, if any, template; as `SignalSpec.cut`."""
        template = () if self.reference is None else (self.reference.template,)
        return self.segmentation, self.resampling, *template

    @property
    def left_out(self) -> Counter[str]:
        """Beats left out of all records, by reason."""
        totals: Counter[str] = Counter()
        for reasons in self.dropped.values():
            totals.update(reasons)
        return totals

    def windows(self, morphology: str) -> NDArray[np.float32]:
        """Return the windows that a network sees, [N, T], or [N, 2, T] under `both`."""
        deviation = None if self.reference is None else self.reference.deviation
        return _windows_of(morphology, self.ecg, deviation)

    def recut(self, morphology: str) -> NDArray[np.float32]:
        """Return the re-cut windows of the reliance sample, [P, M, T] or [P, M, 2, T]."""
        deviation = None if self.reference is None else self.reference.recut
        return _windows_of(morphology, self.reliance.windows, deviation)

    def late_shape(self, spec: SignalSpec) -> NDArray[np.float32] | None:
        """Return the distances from templates [N, 2] of a configuration, or None without them."""
        if not spec.n_shape:
            return None
        assert self.reference is not None
        return self.reference.distances

    def early_rr(self, spec: SignalSpec) -> NDArray[np.float32] | None:
        """Return the two early ratios [N, 2] of a configuration, or None without early RR."""
        return None if spec.early_set is None else self.rr[spec.early_set]

    def late_rr(self, spec: SignalSpec) -> NDArray[np.float32] | None:
        """Return the late RR vectors [N, R] of a configuration, or None without a late vector."""
        return None if spec.late_set is None else self.rr[spec.late_set]


def _windows_of(
    morphology: str, beat: NDArray[np.float32] | None, deviation: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the windows of a morphology: beat or deviation [..., T], or both [..., 2, T]."""
    asked = [{"beat": beat, "deviation": deviation}[name] for name in WINDOWS[morphology]]
    windows = [each for each in asked if each is not None]
    assert len(windows) == len(asked), f"these beats have no {morphology}"
    return windows[0] if len(windows) == 1 else np.stack(windows, axis=-2)


def default_cache_dir(workspace: Path) -> Path:
    """Return the folder of prepared beats: `STUDY_CACHE_DIR`, else one in the workspace."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else workspace / ".cache" / "beats"


def load_cached(path: Path, key: str) -> BeatSet | None:
    """Return the beats of a cache file, or None if they must be prepared anew.

    The key is a digest of everything that shapes the beats; it must be the one in the file.
    """
    try:
        with path.open("rb") as file:
            digest = file.readline(2 * _DIGEST_BYTES + 1)
            content = file.read()
        if digest.strip() != _digest(content):
            raise ArchiveError("it is truncated or altered")
        return _unpacked(content, key)
    except FileNotFoundError:
        return None
    # An intact file may be of another version, or hold something else.
    except (OSError, ArchiveError, LookupError, TypeError, AttributeError, ValueError) as error:
        _logger.warning("%s: cannot be used, preparing the beats anew: %s", path, error)
        return None


def store_cached(path: Path, key: str, beat_set: BeatSet) -> None:
    """Write beats to a cache file; an unwritable folder only causes a warning."""
    content = _packed(key, beat_set)
    try:
        write_whole(path, _digest(content) + b"\n" + content)
    except DiskError as error:
        _logger.warning("%s; the beats are not cached", error)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest().encode()


def _packed(key: str, beat_set: BeatSet) -> bytes:
    meta: dict[str, Any] = {name: getattr(beat_set, name) for name in _TEXTS}
    meta |= {"key": key, "record_names": beat_set.record_names}
    if beat_set.databases:
        meta["databases"] = beat_set.databases
    meta["dropped"] = {name: dict(counts) for name, counts in beat_set.dropped.items()}
    arrays: dict[str, Any] = {name: getattr(beat_set, name) for name in _ARRAYS}
    arrays |= {f"rr.{name}": rows for name, rows in beat_set.rr.items()}
    reliance, reference = beat_set.reliance, beat_set.reference
    arrays |= {
        "reliance.beats": reliance.beats,
        "reliance.donors": reliance.donors,
        "reliance.windows": reliance.windows,
    }
    if reference is not None:
        meta["template"] = reference.template
        arrays |= {
            "reference.deviation": reference.deviation,
            "reference.distances": reference.distances,
            "reference.recut": reference.recut,
        }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    return pack_arrays(arrays, compressed=False)


def _unpacked(content: bytes, key: str) -> BeatSet:
    arrays: dict[str, Any] = read_arrays(content, _KINDS, _OPTIONAL_KINDS)
    meta = json.loads(arrays["meta"].tobytes())
    if meta["key"] != key:
        raise ArchiveError("its beats do not match its name")
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
        reference=_reference(meta["template"], arrays) if "template" in meta else None,
        databases=tuple(meta.get("databases", ())),
    )


def _reference(template: str, arrays: Mapping[str, Any]) -> Reference:
    return Reference(
        template=template,
        deviation=arrays["reference.deviation"],
        distances=arrays["reference.distances"],
        recut=arrays.get("reference.recut"),
    )
