"""One WFDB record to classify: its lead, its beats, and why some beats cannot be classified.

The network does not see the record's own labels: a beat is left out because of its position, never
because of its annotation. In a record without beat annotations, the GQRS detector of `wfdb` finds
the R peaks; a .ecg or .qrs file may have those of another detector. Of the two of
`wfdb.processing`, XQRS misses premature wide beats, which a classifier must find. GQRS finds them,
but judges beats by their height in millivolts: so it gets the signal scaled to the usual height.

Shapes: K beats of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.config import Cut
from study.data.annotations import (
    AAMI,
    Annotations,
    Doubled,
    annotation_file,
    merge_doubled,
)
from study.data.beat_set import BeatSet
from study.data.catalogue import ANNOTATIONS, DS1, FILE_SUFFIXES
from study.data.external import external_rules
from study.data.fetch import published_among, record_checksums
from study.data.prepare import prepare_record
from study.data.synthetic import MANIFEST
from study.data.wfdb_header import WFDB_ERRORS
from study.data.wfdb_record import Lead, Record, annotations_of, read_lead, to_record
from study.data.windows import SHORTEST_RR_S, gaps_of, why_unfit
from study.errors import DataError, NoBeatsError

DETECTOR = "GQRS of wfdb.processing"
"""Name of the detector of R peaks, for messages."""

_USUAL_SWING_MV = 1.5
_STRETCH_S = 2.0
"""The median swing, lowest to highest sample, over such stretches is scaled to the usual one."""

_SEARCH_S = 0.1
"""How far a wide QRS's extremum may lie from GQRS's detection, which matches a filter."""

_BASELINE_S = 0.4
"""Length of the running mean from which extrema are measured."""

_NO_LABEL = "N"
"""Symbol of beats of unknown class, where a record must have one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneRecord:
    """A record to classify."""

    lead: Lead  # the lead that was read, as recorded
    samples: NDArray[np.int64]  # [K] sample of each R peak, at the lead's own rate
    # [K] AAMI class that each beat is annotated as, or None where R peaks were found
    annotated: NDArray[np.str_] | None
    found_by: str  # what found the R peaks; empty where beats are annotated with classes
    doubled: tuple[Doubled, ...]  # beats that were annotated more than once
    made_up: bool  # whether it is synthetic
    in_ds1: bool  # whether it is a record of MIT-BIH's DS1, by its content
    # [K] why a beat cannot be classified, one of `study.data.windows.DROP_REASONS`; empty where it
    # can
    left_out: NDArray[np.str_]
    resampled: Record  # the record at 360 Hz, every beat of the same symbol

    def beats(self, cut: Cut) -> BeatSet:
        """Return the beats that can be classified, in order; their labels have no meaning."""
        return prepare_record(self.resampled, cut)


def record_path(path: Path) -> Path:
    """Return a record's path without suffix, also if one of its files was named."""
    return path.with_suffix("") if path.suffix in (*FILE_SUFFIXES, *ANNOTATIONS) else path


def read_one(path: Path, *, leads: Sequence[str] = (), detect: bool = False) -> OneRecord:
    """Read a record with its own beat annotations, or find R peaks where it has none.

    Args:
        path: The record, with or without the suffix of one of its files.
        leads: Accepted leads, best first; `study.data.catalogue.EXTERNAL_LEADS` if empty.
        detect: Find R peaks even if there are annotations.

    Raises:
        DataError: If a file is missing or cannot be used, it is a record of MIT-BIH's sealed
            DS2, or no beats are found.
    """
    path = record_path(path)
    folder, name = path.parent, path.name
    checksums = record_checksums(folder, name, annotated=False)
    lead = read_lead(folder, name, rules=external_rules(leads), by_option=True)
    annotations = None if detect else _annotated(folder, lead)
    beats = annotations or _detected(lead)
    unlabelled = np.full(len(beats.beat_samples), _NO_LABEL)
    resampled = to_record(
        lead,
        Annotations(
            beat_samples=beats.beat_samples, beat_symbols=unlabelled, other_annotations={}
        ),
    )
    return OneRecord(
        lead=lead,
        samples=beats.beat_samples,
        annotated=_classes(beats) if beats.labelled else None,
        found_by="" if beats.labelled else _finder(path) if annotations else DETECTOR,
        doubled=beats.doubled,
        made_up=(folder / MANIFEST).exists(),
        in_ds1=published_among(checksums, DS1) is not None,
        left_out=why_unfit(resampled, gaps_of(resampled)),
        resampled=resampled,
    )


def _annotated(folder: Path, lead: Lead) -> Annotations | None:
    if not annotation_file(folder, lead.record).exists():
        return None
    try:
        return annotations_of(
            lead, folder, lead.record, rules=external_rules(), must_be_labelled=False
        )
    except NoBeatsError:  # only rhythm annotations, as in some databases of atrial fibrillation
        return None


def _detected(lead: Lead) -> Annotations:
    samples = find_r_peaks(lead)
    symbols = np.full(len(samples), _NO_LABEL)
    merged = merge_doubled(samples, symbols, SHORTEST_RR_S * lead.sampling_rate_hz)
    return replace(merged, labelled=False)


def _finder(path: Path) -> str:
    return f"the detector that wrote {annotation_file(path.parent, path.name).name}"


def _classes(annotations: Annotations) -> NDArray[np.str_]:
    return np.array([AAMI[symbol] for symbol in annotations.beat_symbols.tolist()])


def find_r_peaks(lead: Lead) -> NDArray[np.int64]:
    """Return the R peaks of a lead, [beats] samples at its own rate, strictly rising.

    Each detection is moved to the largest deflection near it, up or down: annotators mark beats
    there, so the windows of the training data are anchored there.
    """
    from wfdb import processing

    signal, rate_hz = lead.signal_mv.astype(np.float64), lead.sampling_rate_hz
    where, fault = f"record {lead.record}", f"no beats were found by {DETECTOR} in {lead.name}"
    try:
        detections = processing.gqrs_detect(sig=_scaled(signal, lead), fs=rate_hz)
        if len(detections) == 0:
            raise DataError(f"{fault}; is it an ECG?", where)
        r_peaks = processing.correct_peaks(
            signal,
            np.asarray(detections, dtype=np.int64),
            search_radius=round(_SEARCH_S * rate_hz),
            smooth_window_size=round(_BASELINE_S * rate_hz),
            peak_dir="both",
        )
    except DataError:
        raise
    except WFDB_ERRORS as error:
        raise DataError(f"{fault}; is it an ECG?", where) from error
    return np.unique(np.asarray(r_peaks, dtype=np.int64))


def _scaled(signal_mv: NDArray[np.float64], lead: Lead) -> NDArray[np.float64]:
    width = min(len(signal_mv), round(_STRETCH_S * lead.sampling_rate_hz))
    whole = len(signal_mv) // width * width
    swings = np.ptp(signal_mv[:whole].reshape(-1, width), axis=1)
    # A lead that was off most of the time is scaled by its other stretches.
    on = (swings > 0) & ~lead.no_signal[:whole].reshape(-1, width).any(axis=1)
    swings = swings[on] if on.any() else np.ptp(signal_mv, keepdims=True)
    return np.asarray(signal_mv * (_USUAL_SWING_MV / np.median(swings)))
