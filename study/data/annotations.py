"""Annotation files of WFDB records: reads their beats (`ANNOTATIONS`), writes decided classes.

Some databases, such as the supraventricular one (svdb), annotate beats twice, with labels that may
differ; MIT-BIH does not. Taken as two beats they would give impossible RR intervals. So
annotations closer together than two beats can be count as one beat.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.catalogue import ANNOTATIONS
from study.data.wfdb_header import WFDB_ERRORS, require_files
from study.errors import DataError, NoBeatsError
from study.keys import SYMBOLS

AAMI = MappingProxyType({s: name for name, symbols in SYMBOLS.items() for s in symbols})
"""AAMI class of every beat symbol; Q (paced, fused with paced, unclassifiable) is not studied."""

BEAT_SYMBOLS = frozenset(AAMI)
"""Annotations that are beats; all others (rhythm, noise, waves, comments) are not."""

UNCLASSIFIABLE = "Q"
"""WFDB's symbol of a beat of unknown class: it is left out and counted as class Q."""

LONGEST_RR_S = 6.0
"""A longer interval is a gap: beats were not marked, or there were none to mark, as while the
ventricles flutter. Pauses of a heart that goes on last "up to 6 seconds" in record 232 of MIT-BIH
(https://archive.physionet.org/physiobank/database/html/mitdbdir/records.htm)."""

SILENCE_S = 2.0
"""A stretch without signal as long as this may hide beats: missing samples, or equal ones. A quiet
baseline between slow beats, coarsely sampled, is shorter."""

_DETECTED = frozenset("N|")
"""Symbols by which a detector marks beats, whose classes it does not tell."""

_MOST_OUTSIDE = 0.01
"""Share of a record's beats that may be marked outside its signal: they are left out."""

_NOTE = re.compile(rb"(.)\xfc(?=## )", re.DOTALL)
"""Length and code of a note about the whole file."""
_RATE = re.compile(rb"## time resolution: (\d+\.?\d*)")
_BEGIN, _END = b"## annotation type definitions", b"## end of definitions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled:
    """The two or more annotations of one beat."""

    samples: tuple[int, ...]  # their sample indices, at the file's own rate
    symbols: tuple[str, ...]  # their symbols

    @property
    def agree(self) -> bool:
        """Whether all of them are of one AAMI class."""
        return len({AAMI[symbol] for symbol in self.symbols}) == 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """The annotations of one record, at the sampling rate of its file."""

    beat_samples: NDArray[np.int64]  # [beats] sample index of every beat, in order of time
    beat_symbols: NDArray[np.str_]  # [beats] their WFDB symbols, each in `BEAT_SYMBOLS`
    other_annotations: Mapping[str, int]  # count of each annotation symbol that is not a beat
    doubled: tuple[Doubled, ...] = ()  # beats that were annotated more than once, in order of time
    labelled: bool = True  # whether symbols tell classes; a detector's do not


def annotation_file(folder: Path, name: str) -> Path:
    """Return the first of a record's annotation files that is there; its .atr if none is."""
    paths = [folder / f"{name}{suffix}" for suffix in ANNOTATIONS]
    return next((path for path in paths if path.exists()), paths[0])


def read_annotations(
    folder: Path,
    name: str,
    *,
    n_samples: int | None = None,
    sampling_rate_hz: float | None = None,
    frame_rate_hz: float | None = None,
    shortest_rr_s: float | None = None,
    must_be_labelled: bool = True,
) -> Annotations:
    """Read the annotations of one record, beats apart from all others.

    A .ecg or .qrs file may be a detector's, with no beat but N: then the beats have no classes.

    Args:
        folder: The record's folder.
        name: The record's name.
        n_samples: Length of the signal; nearly all beats must lie in it.
        sampling_rate_hz: Rate of the signal, at which beats are returned; None is the file's own.
        frame_rate_hz: Rate of the signal's frames, which the file may count instead of samples.
        shortest_rr_s: Beat annotations closer together than this are one beat; with None each is
            a beat.
        must_be_labelled: Refuse a detector's file.

    Raises:
        MissingDataError: If there is no file of them.
        NoBeatsError: If none of its annotations is a beat, or, where they must be labelled, it is
            a detector's.
        DataError: If it is truncated or cannot be read, does not fit the signal, or has
            annotations out of order or two beats at one sample.
    """
    path = annotation_file(folder, name)
    raw = _read(path)
    counted_hz = float(raw.fs or frame_rate_hz or sampling_rate_hz or SAMPLING_RATE_HZ)
    rate_hz = sampling_rate_hz or counted_hz
    if not any(math.isclose(counted_hz, known) for known in (rate_hz, frame_rate_hz or rate_hz)):
        raise DataError(
            f"counts its samples at {counted_hz:g} Hz, but the signal has {rate_hz:g} Hz", path
        )
    samples, symbols = np.asarray(raw.sample, np.int64), np.asarray(raw.symbol, np.str_)
    samples = samples * max(1, round(rate_hz / counted_hz))  # samples per frame are a whole number
    is_beat = np.isin(symbols, sorted(BEAT_SYMBOLS))
    # Checked first: a record without beats is left out of a folder, whatever its other faults.
    kinds = BEAT_SYMBOLS | _DETECTED
    kinds &= set(symbols.tolist())
    labelled = path.suffix == ANNOTATIONS[0] or not kinds <= _DETECTED
    if kinds and not labelled and must_be_labelled:
        raise NoBeatsError(
            f"marks beats by {' and '.join(sorted(kinds))} alone, as a detector does: without "
            f"classes they can be neither learnt nor scored; name it {ANNOTATIONS[0]} if an "
            "annotator judged them",
            path,
        )
    if not is_beat.any():
        raise NoBeatsError(f"has no beats among {len(samples)} annotations", path)
    # Where beats may be annotated twice, two annotations at one sample are one beat, no fault.
    if fault := _order_fault(samples, is_beat, n_samples, distinct=shortest_rr_s is None):
        raise DataError(fault, path)
    others = dict(sorted(Counter(symbols[~is_beat].tolist()).items()))
    within = (shortest_rr_s or 0.0) * rate_hz
    merged = merge_doubled(samples[is_beat], symbols[is_beat], within, others)
    return replace(merged, labelled=labelled)


def _read(path: Path) -> Any:
    """Return the annotations of a file as `wfdb` reads them."""
    import wfdb

    require_files(path.parent, path.stem, (path.suffix,))
    try:
        content = path.read_bytes()
        _check_notes(path, content)
        # Two zero bytes end every annotation file; without them the reader loses beats silently.
        if content[-2:] == b"\0\0":
            return wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    except DataError:
        raise
    except WFDB_ERRORS as error:
        raise DataError("cannot be read as WFDB annotations", path) from error
    raise DataError("truncated: its end mark is missing; fetch the file again", path)


def _check_notes(path: Path, content: bytes) -> None:
    """Refuse unknown notes, at which `wfdb.rdann` (4.3) loops for ever."""
    rate_known = defining = False
    for match in _NOTE.finditer(content):
        note = content[match.end() : match.end() + match[1][0]]
        if match.start() % 2 or len(note) < 3:  # no pair of bytes begins here, or it is no note
            continue
        rate = _RATE.match(note)
        if defining == (note == _END) and note in (_BEGIN, _END):
            defining = not defining
        elif rate and not rate_known:
            rate_known = float(rate[1]) > 0
        else:
            raise DataError(
                f"wfdb cannot read its note {note.decode('latin-1')!r}; it reads one "
                "'## time resolution: HZ', and definitions between their begin and end",
                path,
            )


def _order_fault(
    samples: NDArray[np.int64],
    is_beat: NDArray[np.bool_],
    n_samples: int | None,
    *,
    distinct: bool,
) -> str:
    """Return a fault of the annotations' positions, or an empty string."""
    if (np.diff(samples) < 0).any():
        at = int(np.argmax(np.diff(samples) < 0))
        return (
            f"annotations must be in order of time, but sample {samples[at + 1]} follows sample "
            f"{samples[at]}"
        )
    beats = samples[is_beat]
    if distinct and (np.diff(beats) == 0).any():
        at = int(beats[np.argmax(np.diff(beats) == 0)])
        return f"two beats are annotated at sample {at}; keep one"
    end = np.inf if n_samples is None else n_samples
    outside = int(np.count_nonzero((beats < 0) | (beats >= end)))
    if outside > max(1, _MOST_OUTSIDE * len(beats)):
        return (
            f"{outside} of {len(beats)} beats are outside the signal's {n_samples} samples; are "
            "they of another signal?"
        )
    return ""


def merge_doubled(
    samples: NDArray[np.int64],
    symbols: NDArray[np.str_],
    within: float,
    other_annotations: Mapping[str, int] | None = None,
) -> Annotations:
    """Make one beat of beat annotations that lie close together.

    Samples and symbols are [annotations], in order of time. Annotations less than `within`
    samples after a beat's first one belong to the beat, whose position is that first one. It gets
    the first symbol if all are of one AAMI class; otherwise it is unclassifiable.
    """
    others = other_annotations or {}
    if not (np.diff(samples) < within).any():
        return Annotations(beat_samples=samples, beat_symbols=symbols, other_annotations=others)
    starts = [0]
    # Measured from a beat's first annotation, so that a chain of close ones cannot grow endlessly.
    for i, sample in enumerate(samples.tolist()):
        if i and sample - int(samples[starts[-1]]) >= within:
            starts.append(i)
    beat_symbols, doubled = symbols[starts].astype("<U1"), []
    for beat, (start, stop) in enumerate(zip(starts, [*starts[1:], len(samples)], strict=True)):
        if stop - start > 1:
            marks = Doubled(
                samples=tuple(samples[start:stop].tolist()),
                symbols=tuple(symbols[start:stop].tolist()),
            )
            doubled.append(marks)
            if not marks.agree:
                beat_symbols[beat] = UNCLASSIFIABLE
    return Annotations(
        beat_samples=samples[starts],
        beat_symbols=beat_symbols,
        other_annotations=others,
        doubled=tuple(doubled),
    )


def write_annotations(
    folder: Path,
    name: str,
    extension: str,
    *,
    samples: NDArray[np.int64],
    symbols: NDArray[np.str_],
    sampling_rate_hz: float,
) -> Path:
    """Write beats as a WFDB annotation file, which `wfdb.rdann` and WFDB's viewers read.

    Samples and symbols are [beats], samples rising. WFDB allows letters, digits, hyphens and
    underscores in the name, and letters in the extension.
    """
    import wfdb

    wfdb.wrann(
        name,
        extension,
        samples,
        symbol=symbols.tolist(),
        fs=sampling_rate_hz,
        write_dir=str(folder),
    )
    return folder / f"{name}.{extension}"


def over_gaps(
    beat_samples: NDArray[np.int64],
    sampling_rate_hz: float,
    no_signal: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Tell which of the intervals between a record's beats are gaps, [K - 1].

    `no_signal` tells which samples are missing or part of a stretch without signal, [samples].
    """
    gap = np.diff(beat_samples) > LONGEST_RR_S * sampling_rate_hz
    if no_signal is not None and no_signal.any():
        lost = np.append(0, np.cumsum(no_signal))[np.clip(beat_samples, 0, len(no_signal))]
        gap |= np.diff(lost) >= SILENCE_S * sampling_rate_hz
    return gap
