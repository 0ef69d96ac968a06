"""Read one WFDB record: the signal of its accepted lead and its beats, checked on the way.

A record that cannot be used raises one `DataError`, which names the file, the rule and the value
found. `wfdb` is imported where it is used: a study with cached beats never needs it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.annotations import (
    SILENCE_S,
    Annotations,
    Doubled,
    annotation_file,
    read_annotations,
)
from study.data.catalogue import LEADS
from study.data.wfdb_header import WFDB_ERRORS, Header, read_header, readable, require_files
from study.errors import ChecksumError, DataError

_RATES_HZ = (100.0, 10_000.0)
_LARGEST_DENOMINATOR = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """Requirements on a record."""

    leads: tuple[str, ...] = LEADS  # accepted lead names, best first
    # The only accepted rate; None accepts any and resamples to 360 Hz
    sampling_rate_hz: float | None = SAMPLING_RATE_HZ
    # Beat annotations closer together are one beat (see `study.data.annotations`); with None each
    # is a beat, and two at one sample are refused
    shortest_rr_s: float | None = None


MITDB_RULES = ReadingRules()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One lead of one record at 360 Hz, with its beats."""

    name: str
    lead: str
    signal_mv: NDArray[np.float32]  # [samples] in millivolts
    # [samples] whether a sample is missing or part of a stretch of equal samples
    no_signal: NDArray[np.bool_]
    # [beats] sample index of every beat annotation, strictly rising; a few may be outside
    beat_samples: NDArray[np.int64]
    beat_symbols: NDArray[np.str_]  # [beats] their WFDB symbols, each in `BEAT_SYMBOLS`
    other_annotations: Mapping[str, int]  # count of each annotation symbol that is not a beat
    doubled: tuple[Doubled, ...] = ()  # beats that were annotated more than once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lead:
    """The accepted lead of one record, as recorded."""

    record: str
    name: str
    sampling_rate_hz: float  # samples per second of the file
    # Frames per second, which annotations may count; a frame has one sample or more
    frame_rate_hz: float
    signal_mv: NDArray[np.float32]  # [samples] in millivolts; missing ones interpolated
    no_signal: NDArray[np.bool_]  # [samples] as in `Record`


def read_record(folder: Path, name: str, *, rules: ReadingRules = MITDB_RULES) -> Record:
    """Read the accepted lead and the beats of one record."""
    require_files(folder, name, (".hea", annotation_file(folder, name).suffix))
    lead = read_lead(folder, name, rules=rules)
    return to_record(lead, annotations_of(lead, folder, name, rules=rules))


def annotations_of(
    lead: Lead, folder: Path, name: str, *, rules: ReadingRules, must_be_labelled: bool = True
) -> Annotations:
    """Read the annotations of one record beside its lead."""
    return read_annotations(
        folder,
        name,
        n_samples=len(lead.signal_mv),
        sampling_rate_hz=lead.sampling_rate_hz,
        frame_rate_hz=lead.frame_rate_hz,
        shortest_rr_s=rules.shortest_rr_s,
        must_be_labelled=must_be_labelled,
    )


def read_lead(folder: Path, name: str, *, rules: ReadingRules, by_option: bool = False) -> Lead:
    """Read the accepted lead of one record, without annotations.

    `by_option` says that the lead is named by --lead, not in a split file.

    Raises:
        ChecksumError: If the signal does not have the checksum that its header states.
        DataError: If no accepted lead is there, the sampling rate is wrong, a file is missing,
            truncated or cannot be read, or the signal is constant or not finite.
    """
    header = read_header(folder, name)
    channel, lead = accepted_lead(header, rules, by_option=by_option)
    signal_mv = _read_signal(header, channel)
    missing = ~np.isfinite(signal_mv)
    if missing.any():
        at, known = np.flatnonzero(missing), np.flatnonzero(~missing)
        signal_mv[at] = np.interp(at, known, signal_mv[known])
    rate_hz = header.rate_hz(channel)
    return Lead(
        record=name,
        name=lead,
        sampling_rate_hz=rate_hz,
        frame_rate_hz=header.frame_rate_hz,
        signal_mv=signal_mv,
        no_signal=missing | _unchanged(signal_mv, round(SILENCE_S * rate_hz)),
    )


def to_record(lead: Lead, annotations: Annotations) -> Record:
    """Return a lead and its beats at 360 Hz, resampled with anti-aliasing."""
    signal_mv, no_signal, samples = _resampled(lead, annotations.beat_samples)
    return Record(
        name=lead.record,
        lead=lead.name,
        signal_mv=signal_mv,
        no_signal=no_signal,
        beat_samples=samples,
        beat_symbols=annotations.beat_symbols,
        other_annotations=annotations.other_annotations,
        doubled=annotations.doubled,
    )


def accepted_lead(
    header: Header, rules: ReadingRules, *, by_option: bool = False
) -> tuple[int, str]:
    """Return the channel of the best lead that the rules accept, and its name as they have it.

    `by_option` is as in `read_lead`.

    Raises:
        DataError: If they accept none of the leads, or not its sampling rate.
    """
    names = [lead.casefold() for lead in header.leads]
    for lead in rules.leads:
        if lead.casefold() in names:
            channel = names.index(lead.casefold())
            _check_rate(header, channel, rules)
            return channel, lead
    leads, accepted = ", ".join(header.leads) or "none", ", ".join(rules.leads)
    hint = ""
    if by_option and header.leads:
        hint = f"; give one that it has, as in --lead {shlex.quote(header.leads[0])}"
    elif rules.sampling_rate_hz is None and header.leads:
        own = json.dumps(header.leads[0])
        hint = f"; a split file names one lead for all of its records, as in lead = {own}"
    raise DataError(
        f"must have a lead that is accepted, best first: {accepted}; got {leads}{hint}",
        header.path,
    )


def _check_rate(header: Header, channel: int, rules: ReadingRules) -> None:
    rate, (lowest, highest) = header.rate_hz(channel), _RATES_HZ
    if rules.sampling_rate_hz is not None and rate != rules.sampling_rate_hz:
        raise DataError(
            f"sampling rate must be {rules.sampling_rate_hz:g} Hz, got {rate:g} Hz (one's own "
            "records, of any rate, are given by --records and --split)",
            header.path,
        )
    if not lowest <= rate <= highest:
        allowed = f"[{lowest:g}, {highest:g}] Hz"
        raise DataError(f"sampling rate must lie in {allowed}, got {rate:g} Hz", header.path)


def _read_signal(header: Header, channel: int) -> NDArray[np.float32]:
    """Return one channel in millivolts, [samples]; NaN where a sample is missing."""
    signal = _joined(header, channel) if header.segments else _stored(header, channel)
    path = header.path if header.segments else header.signal_path(channel)
    known = signal[np.isfinite(signal)]
    if len(known) == 0:
        raise DataError(f"lead {header.leads[channel]} has only missing samples", path)
    if known.min() == known.max():
        raise DataError(f"lead {header.leads[channel]} is constant: it contains no ECG", path)
    return signal


def _joined(header: Header, channel: int) -> NDArray[np.float32]:
    """Return one lead of all segments as `_read_signal` does; NaN in those without it."""
    lead, per_frame = header.leads[channel], header.samples_per_frame[channel]
    signal = np.full((header.n_frames or 0) * per_frame, np.nan, np.float32)
    for segment in header.segments:
        leads = [name.casefold() for name in segment.header.leads] if segment.header else []
        if segment.header is None or lead.casefold() not in leads:
            continue
        at = leads.index(lead.casefold())
        if (got := segment.header.samples_per_frame[at]) != per_frame:
            raise DataError(
                f"lead {lead} must have as many samples a frame as in the first segment with it, "
                f"{per_frame}, got {got}",
                segment.header.path,
            )
        begin = segment.first_frame * per_frame
        # A skewed signal is shorter than its segment; one without a stated length may be longer.
        part = _stored(segment.header, at)[: segment.n_frames * per_frame]
        signal[begin : begin + len(part)] = part
    return signal


def _stored(header: Header, channel: int) -> NDArray[np.float32]:
    """Return one channel of a record without segments as `_read_signal` does."""
    import wfdb

    path = header.signal_path(channel)
    try:
        with readable(header.path) as record:
            # As stored, without units, with samples that skew cuts off: the checksum is theirs.
            raw: Any = wfdb.rdrecord(
                record,
                channels=[channel],
                physical=False,
                smooth_frames=False,
                ignore_skew=True,
            )
        got = raw.calc_checksum(expanded=True)[0]
        signal: NDArray[np.float32] = raw.dac(expanded=True, return_res=32)[0]
    except WFDB_ERRORS as error:
        raise DataError("cannot be read as a signal of the format in its header", path) from error
    signal = signal[header.skew[channel] * header.samples_per_frame[channel] :]
    stated = header.checksums[channel]
    if stated is not None and got != stated:
        raise ChecksumError(
            f"the samples of lead {header.leads[channel]} have checksum {got}, "
            f"{header.path.name} states {stated}; one of the two files is damaged",
            path,
        )
    return signal * np.float32(header.millivolts_per_unit(channel))


def _unchanged(signal: NDArray[np.float32], shortest: int) -> NDArray[np.bool_]:
    """Tell which samples are in a run of `shortest` or more equal ones, [samples]."""
    begins = np.append(0, np.flatnonzero(np.diff(signal)) + 1)
    lengths = np.diff(np.append(begins, len(signal)))
    return np.repeat(lengths >= shortest, lengths)


def _resampled(
    lead: Lead, samples: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]:
    """Return a lead's signal at 360 Hz, which samples are `no_signal`, and its R peaks there."""
    ratio = Fraction(SAMPLING_RATE_HZ) / Fraction(lead.sampling_rate_hz)
    ratio = ratio.limit_denominator(_LARGEST_DENOMINATOR)
    if ratio == 1:
        return lead.signal_mv, lead.no_signal, samples
    from scipy.signal import resample_poly

    up, down = ratio.numerator, ratio.denominator
    signal_mv = resample_poly(lead.signal_mv, up, down, padtype="line").astype(np.float32)
    source = np.arange(len(signal_mv)) * (down / up)
    last = len(lead.no_signal) - 1
    no_signal = lead.no_signal[np.minimum(source.astype(np.int64), last)]
    no_signal |= lead.no_signal[np.minimum(np.ceil(source).astype(np.int64), last)]
    # Use the signal's true ratio, not the nominal one: R peaks must not drift against the signal.
    moved = np.rint(samples * (up / down)).astype(np.int64)
    rounded_out = (samples <= last) & (moved >= len(signal_mv))
    return signal_mv, no_signal, np.where(rounded_out, len(signal_mv) - 1, moved)
