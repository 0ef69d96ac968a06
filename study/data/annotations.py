"""Annotation files of WFDB records: the reference beats (.atr) read, decided classes written."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.doubled import Doubled, merged
from study.data.records import BEAT_SYMBOLS
from study.data.wfdb_header import WFDB_ERRORS, require_files
from study.errors import DataError, NoBeatsError

_NOTE = re.compile(rb"(.)\xfc(?=## )", re.DOTALL)
"""Length and code of a note that says something of the whole file."""
_RATE = re.compile(rb"## time resolution: (\d+\.?\d*)")
_BEGIN, _END = b"## annotation type definitions", b"## end of definitions"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """The annotations of one record, at the sampling rate of its file.

    Args:
        beat_samples: [beats] sample index of every beat, in order of time.
        beat_symbols: [beats] their WFDB symbols, each in `BEAT_SYMBOLS`.
        other_annotations: Count of each annotation symbol that is not a beat.
        doubled: Beats that were annotated more than once.
    """

    beat_samples: NDArray[np.int64]
    beat_symbols: NDArray[np.str_]
    other_annotations: Mapping[str, int]
    doubled: tuple[Doubled, ...] = ()


def read_annotations(
    folder: Path,
    name: str,
    *,
    n_samples: int | None = None,
    sampling_rate_hz: float | None = None,
    shortest_rr_s: float | None = None,
) -> Annotations:
    """Read the reference annotations (.atr) of one record, beats apart from all others.

    Args:
        folder: Folder of the WFDB files.
        name: Record name, without suffix.
        n_samples: Length of the signal that they must lie in; None does not check it.
        sampling_rate_hz: Of that signal; None takes what the annotations or the header state.
        shortest_rr_s: Beat annotations closer together are of one beat (see
            `study.data.doubled`); None takes each for a beat and refuses two at one sample.

    Raises:
        MissingDataError: If the .atr file is not there.
        NoBeatsError: If none of its annotations is a beat.
        DataError: If it is truncated or cannot be read, is of another sampling rate than the
            signal, has annotations out of order or outside the signal, or two beats at one
            sample where `shortest_rr_s` is None.
    """
    import wfdb

    path = folder / f"{name}.atr"
    require_files(folder, name, (".atr",))
    try:
        # Two zero bytes end every annotation file; without them the reader loses beats silently.
        content = path.read_bytes()
        truncated = content[-2:] != b"\0\0"
        _check_notes(path, content)
        raw = None if truncated else wfdb.rdann(str(folder / name), "atr")
    except DataError:
        raise
    except WFDB_ERRORS as err:
        raise DataError(f"{path}: cannot be read as WFDB annotations: {err}") from err
    if raw is None:
        raise DataError(f"{path}: truncated: its end mark is missing; fetch the file again")
    rate_hz = sampling_rate_hz or float(raw.fs or SAMPLING_RATE_HZ)
    if raw.fs and not math.isclose(raw.fs, rate_hz):
        raise DataError(
            f"{path}: counts its samples at {raw.fs:g} Hz, but the signal has {rate_hz:g} Hz"
        )
    samples, symbols = np.asarray(raw.sample, np.int64), np.asarray(raw.symbol, np.str_)
    is_beat = np.isin(symbols, sorted(BEAT_SYMBOLS))
    _check_order(path, samples, is_beat, n_samples, distinct=shortest_rr_s is None)
    beats = merged(samples[is_beat], symbols[is_beat], (shortest_rr_s or 0.0) * rate_hz)
    return Annotations(
        beat_samples=beats.samples,
        beat_symbols=beats.symbols,
        other_annotations=dict(sorted(Counter(symbols[~is_beat].tolist()).items())),
        doubled=beats.doubled,
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

    Args:
        folder: Where to; it must exist.
        name: Record name: letters, digits, hyphens and underscores.
        extension: Of the file; letters.
        samples: [beats] rising.
        symbols: [beats] WFDB symbols.
        sampling_rate_hz: Of these samples.

    Returns:
        The file.
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


def _check_notes(path: Path, content: bytes) -> None:
    """Refuse a note at which `wfdb.rdann` (4.3) never ends: it skips none that it does not know.

    Raises:
        DataError: If there is one.
    """
    rate_known = defining = False
    for found in _NOTE.finditer(content):
        note = content[found.end() : found.end() + found[1][0]]
        if found.start() % 2 or len(note) < 3:  # no pair of bytes begins here, or no note
            continue
        rate = _RATE.match(note)
        if defining == (note == _END) and note in (_BEGIN, _END):
            defining = not defining
        elif rate and not rate_known:
            rate_known = float(rate[1]) > 0
        else:
            raise DataError(
                f"{path}: its note {note.decode('latin-1')!r} is none that wfdb can read: one "
                "'## time resolution: HZ', and definitions between their begin and end"
            )


def _check_order(
    path: Path,
    samples: NDArray[np.int64],
    is_beat: NDArray[np.bool_],
    n_samples: int | None,
    *,
    distinct: bool,
) -> None:
    if not is_beat.any():
        raise NoBeatsError(
            f"{path}: a record must have beats; none of {len(samples)} annotations is"
        )
    if (np.diff(samples) < 0).any():
        at = int(np.argmax(np.diff(samples) < 0))
        raise DataError(
            f"{path}: annotations must be in order of time, but sample {samples[at + 1]} follows "
            f"sample {samples[at]}"
        )
    beats = samples[is_beat]
    if distinct and (np.diff(beats) == 0).any():
        at = int(beats[np.argmax(np.diff(beats) == 0)])
        raise DataError(f"{path}: two beats are annotated at sample {at}; keep one")
    last = int(samples[-1])
    if samples[0] < 0 or (n_samples is not None and last >= n_samples):
        outside = int(samples[0]) if samples[0] < 0 else last
        raise DataError(
            f"{path}: annotation at sample {outside} is outside the signal's {n_samples} samples"
        )
