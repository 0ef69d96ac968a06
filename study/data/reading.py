"""Read one WFDB record: the signal of its accepted lead and its beats, checked on the way.

What is wrong with a record is one `DataError` that names the file, the rule and what was found.
`wfdb` is imported where it is used: a study that finds its beats in the cache never needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.header import WFDB_ERRORS, Header, read_header, require_files
from study.data.records import BEAT_SYMBOLS, LEADS
from study.errors import ChecksumError, DataError

_RATES_HZ = (100.0, 10_000.0)
_LARGEST_DENOMINATOR = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """What a record must be like to be accepted.

    Args:
        leads: Accepted lead names, best first.
        sampling_rate_hz: The only accepted rate; None accepts any and resamples to 360 Hz.
    """

    leads: tuple[str, ...] = LEADS
    sampling_rate_hz: float | None = SAMPLING_RATE_HZ


MITDB_RULES = ReadingRules()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One lead of one record at 360 Hz, with its beats.

    Args:
        name: Record name.
        lead: Name of the lead that was read.
        sampling_rate_hz: Rate of `signal_mv` and `beat_samples`: always 360.
        recorded_rate_hz: Rate of the file; differs from 360 only in one's own records.
        signal_mv: [samples] in millivolts.
        beat_samples: [beats] sample index of every beat annotation, strictly rising.
        beat_symbols: [beats] their WFDB symbols, each in `BEAT_SYMBOLS`.
        other_annotations: Count of each annotation symbol that is not a beat.
    """

    name: str
    lead: str
    sampling_rate_hz: int
    recorded_rate_hz: float
    signal_mv: NDArray[np.float32]
    beat_samples: NDArray[np.int64]
    beat_symbols: NDArray[np.str_]
    other_annotations: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """The annotations of one record, as sampled in its file; fields as in `Record`."""

    beat_samples: NDArray[np.int64]
    beat_symbols: NDArray[np.str_]
    other_annotations: Mapping[str, int]


def read_record(folder: Path, name: str, *, rules: ReadingRules = MITDB_RULES) -> Record:
    """Read the accepted lead and the beats of one record.

    Args:
        folder: Folder of the WFDB files.
        name: Record name, without suffix.
        rules: Accepted leads and sampling rate.

    Raises:
        MissingDataError: If the header, the annotations or a signal file is not there.
        ChecksumError: If the signal does not have the checksum that its header states.
        DataError: If no accepted lead is there, the sampling rate is wrong, a file is truncated
            or cannot be read, the signal is constant or not finite, there are no beats, or
            annotations are out of order or beyond the signal.
    """
    require_files(folder, name, (".hea", ".atr"))
    header = read_header(folder, name)
    _check_rate(header, rules)
    channel = _channel(header, rules)
    signal_mv = _read_signal(header, channel)
    annotations = read_annotations(folder, name, n_samples=len(signal_mv))
    ratio = Fraction(SAMPLING_RATE_HZ) / Fraction(header.sampling_rate_hz)
    signal_mv, samples = _resampled(signal_mv, annotations.beat_samples, ratio)
    return Record(
        name=name,
        lead=header.leads[channel],
        sampling_rate_hz=SAMPLING_RATE_HZ,
        recorded_rate_hz=header.sampling_rate_hz,
        signal_mv=signal_mv,
        beat_samples=samples,
        beat_symbols=annotations.beat_symbols,
        other_annotations=annotations.other_annotations,
    )


def read_annotations(folder: Path, name: str, *, n_samples: int | None = None) -> Annotations:
    """Read the reference annotations (.atr) of one record, beats apart from all others.

    Args:
        folder: Folder of the WFDB files.
        name: Record name, without suffix.
        n_samples: Length of the signal that they must lie in; None does not check it.

    Raises:
        MissingDataError: If the .atr file is not there.
        DataError: If it is truncated or cannot be read, holds no beats, or has annotations out of
            order or outside the signal.
    """
    import wfdb

    path = folder / f"{name}.atr"
    require_files(folder, name, (".atr",))
    try:
        # Two zero bytes end every annotation file; without them the reader loses beats silently.
        truncated = path.read_bytes()[-2:] != b"\0\0"
        raw = None if truncated else wfdb.rdann(str(folder / name), "atr")
    except WFDB_ERRORS as err:
        raise DataError(f"{path}: cannot be read as WFDB annotations: {err}") from err
    if raw is None:
        raise DataError(f"{path}: truncated: its end mark is missing; fetch the file again")
    samples, symbols = np.asarray(raw.sample, np.int64), np.asarray(raw.symbol, np.str_)
    is_beat = np.isin(symbols, sorted(BEAT_SYMBOLS))
    _check_order(path, samples, is_beat, n_samples)
    return Annotations(
        beat_samples=samples[is_beat],
        beat_symbols=symbols[is_beat],
        other_annotations=dict(sorted(Counter(symbols[~is_beat].tolist()).items())),
    )


def _check_order(
    path: Path, samples: NDArray[np.int64], is_beat: NDArray[np.bool_], n_samples: int | None
) -> None:
    if not is_beat.any():
        raise DataError(f"{path}: a record must have beats; none of {len(samples)} annotations is")
    if (np.diff(samples) < 0).any():
        at = int(np.argmax(np.diff(samples) < 0))
        raise DataError(
            f"{path}: annotations must be in order of time, but sample {samples[at + 1]} follows "
            f"sample {samples[at]}"
        )
    beats = samples[is_beat]
    if (np.diff(beats) == 0).any():
        at = int(beats[np.argmax(np.diff(beats) == 0)])
        raise DataError(f"{path}: two beats are annotated at sample {at}; keep one")
    last = int(samples[-1])
    if samples[0] < 0 or (n_samples is not None and last >= n_samples):
        outside = int(samples[0]) if samples[0] < 0 else last
        raise DataError(
            f"{path}: annotation at sample {outside} is outside the signal's {n_samples} samples"
        )


def _check_rate(header: Header, rules: ReadingRules) -> None:
    rate, (lowest, highest) = header.sampling_rate_hz, _RATES_HZ
    if rules.sampling_rate_hz is not None and rate != rules.sampling_rate_hz:
        raise DataError(
            f"{header.path}: sampling rate must be {rules.sampling_rate_hz:g} Hz, got {rate:g} Hz "
            "(one's own records, of any rate, are given by --records and --split)"
        )
    if not lowest <= rate <= highest:
        allowed = f"[{lowest:g}, {highest:g}] Hz"
        raise DataError(f"{header.path}: sampling rate must lie in {allowed}, got {rate:g} Hz")


def _channel(header: Header, rules: ReadingRules) -> int:
    for lead in rules.leads:
        if lead in header.leads:
            return header.leads.index(lead)
    has, accepted = ", ".join(header.leads) or "none", ", ".join(rules.leads)
    own = "" if rules.sampling_rate_hz else '; the split file may name another: lead = "..."'
    raise DataError(
        f"{header.path}: must have a lead that is accepted, best first: {accepted}; got {has}{own}"
    )


def _read_signal(header: Header, channel: int) -> NDArray[np.float32]:
    """Return one channel in millivolts, [samples]."""
    import wfdb

    path = header.signal_path(channel)
    try:
        raw: Any = wfdb.rdrecord(str(header.stem), channels=[channel], physical=False)
    except WFDB_ERRORS as err:
        raise DataError(f"{path}: cannot be read as a WFDB signal: {err}") from err
    stated = header.checksums[channel]
    if stated is not None and (got := raw.calc_checksum()[0]) != stated:
        raise ChecksumError(
            f"{path}: the samples of lead {header.leads[channel]} have checksum {got}, "
            f"{header.path.name} states {stated}; one of the two files is damaged"
        )
    signal: NDArray[np.float32] = raw.dac(return_res=32)[:, 0]
    bad = int(np.count_nonzero(~np.isfinite(signal)))
    if bad:
        raise DataError(
            f"{path}: every sample must be finite, but {bad} of {len(signal)} of lead "
            f"{header.leads[channel]} are not (WFDB's mark of a missing sample)"
        )
    if len(signal) == 0 or signal.min() == signal.max():
        raise DataError(f"{path}: lead {header.leads[channel]} is constant: no ECG is in it")
    return signal * np.float32(header.millivolts_per_unit(channel))


def _resampled(
    signal_mv: NDArray[np.float32], samples: NDArray[np.int64], ratio: Fraction
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Bring a signal to 360 Hz with anti-aliasing, and its R peaks with it."""
    ratio = ratio.limit_denominator(_LARGEST_DENOMINATOR)
    if ratio == 1:
        return signal_mv, samples
    from scipy.signal import resample_poly

    up, down = ratio.numerator, ratio.denominator
    resampled = resample_poly(signal_mv, up, down, padtype="line").astype(np.float32)
    # The ratio that the signal got, not the nominal one: R peaks must not drift against it.
    moved = np.rint(samples * (up / down)).astype(np.int64)
    return resampled, np.minimum(moved, len(resampled) - 1)
