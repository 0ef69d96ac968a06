"""One WFDB record to be classified: its lead, its beats, and why some of them cannot be.

Labels of the record's own take no part in what the network sees: a beat is left out for where it
lies, never for what it is annotated as.

Shapes: K beats of the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.data.annotations import Annotations, read_annotations
from study.data.beat_set import BeatSet
from study.data.beats import SHORTEST_RR_S, why_left_out
from study.data.checksums import published_among
from study.data.detect import find_r_peaks
from study.data.doubled import Doubled, merged
from study.data.external import external_rules
from study.data.prepare import Cut, prepare_record
from study.data.records import AAMI, DS1, FILE_SUFFIXES
from study.data.split_file import file_checksums
from study.data.wfdb_header import require_files
from study.data.wfdb_record import Lead, Record, read_lead, to_record
from study.errors import NoBeatsError

_ANY = "N"
"""Symbol that stands for a beat of no known class, where a record must have one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneRecord:
    """A record to be classified.

    Args:
        lead: The lead that was read, as recorded.
        samples: [K] sample of each R peak, at the lead's own rate.
        annotated: [K] AAMI class that each beat is annotated as, or None where R peaks were found.
        doubled: Beats that were annotated more than once.
        in_ds1: Whether it is a record of MIT-BIH's DS1, told by its content.
        why: [K] why a beat cannot be classified, one of `study.data.beats.DROP_REASONS`; empty
            where it can.
        resampled: The record at 360 Hz, every beat of the same symbol.
    """

    lead: Lead
    samples: NDArray[np.int64]
    annotated: NDArray[np.str_] | None
    doubled: tuple[Doubled, ...]
    in_ds1: bool
    why: NDArray[np.str_]
    resampled: Record

    def beats(self, cut: Cut) -> BeatSet:
        """Return the beats that can be classified, in order; their labels mean nothing.

        Raises:
            DataError: If there are none.
        """
        return prepare_record(self.resampled, cut)


def record_path(path: Path) -> Path:
    """Return a record's path without suffix, where it is named by one of its files."""
    return path.with_suffix("") if path.suffix in FILE_SUFFIXES else path


def read_one(path: Path, *, leads: Sequence[str] = (), detect: bool = False) -> OneRecord:
    """Read a record with its own beat annotations (.atr), or find R peaks where it has none.

    Args:
        path: The record, with or without the suffix of one of its files.
        leads: Accepted leads, best first; `study.data.external.EXTERNAL_LEADS` if empty.
        detect: Find R peaks although there are annotations.

    Raises:
        MissingDataError: If the header or a signal file is not there.
        DataError: If a file cannot be used, it is a record of MIT-BIH's sealed DS2, or no beats
            are found.
    """
    path = record_path(path)
    folder, name = path.parent, path.name
    require_files(folder, name, (".hea",))
    checksums = file_checksums(folder, name)
    lead = read_lead(folder, name, rules=external_rules(leads))
    annotations = None if detect else _annotated(folder, lead)
    beats = annotations or _found(lead)
    unlabelled = np.full(len(beats.beat_samples), _ANY)
    resampled = to_record(
        lead,
        Annotations(
            beat_samples=beats.beat_samples, beat_symbols=unlabelled, other_annotations={}
        ),
    )
    return OneRecord(
        lead=lead,
        samples=beats.beat_samples,
        annotated=None if annotations is None else _classes(annotations),
        doubled=beats.doubled,
        in_ds1=published_among(checksums, DS1) is not None,
        why=why_left_out(resampled),
        resampled=resampled,
    )


def _annotated(folder: Path, lead: Lead) -> Annotations | None:
    if not (folder / f"{lead.record}.atr").exists():
        return None
    try:
        return read_annotations(
            folder,
            lead.record,
            n_samples=len(lead.signal_mv),
            sampling_rate_hz=lead.sampling_rate_hz,
            shortest_rr_s=SHORTEST_RR_S,
        )
    except NoBeatsError:  # Rhythm marks alone, as in some databases of atrial fibrillation.
        return None


def _found(lead: Lead) -> Annotations:
    samples = find_r_peaks(lead)
    beats = merged(samples, np.full(len(samples), _ANY), SHORTEST_RR_S * lead.sampling_rate_hz)
    return Annotations(
        beat_samples=beats.samples, beat_symbols=beats.symbols, other_annotations={}
    )


def _classes(annotations: Annotations) -> NDArray[np.str_]:
    return np.array([AAMI[symbol] for symbol in annotations.beat_symbols.tolist()])
