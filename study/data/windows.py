"""Turns a record into windows of its beats: filter, choice of beats, segmentations, resampling.

The same beats are used for every input and every segmentation, so that comparisons are paired. A
window is a run of whole samples [start, stop) at 360 Hz. Its first and last samples become the
first and last of the 128; the others lie evenly between, as in the published code. `linear`
interpolates between neighbouring samples. `antialiased` weighs the samples around each position by
a Hann-windowed sinc that passes half at the new Nyquist frequency; weights sum to one and end with
the window, so that no outside sample enters.

Shapes: K beat annotations of one record, N beats used, T samples (128), W samples of a window
before resampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from study.config import N_SAMPLES, SAMPLING_RATE_HZ
from study.data.annotations import AAMI, LONGEST_RR_S, SILENCE_S, Doubled, over_gaps
from study.data.wfdb_record import Record
from study.keys import CLASSES

BAND_HZ = (0.1, 100.0)
TAPS = 257
"""Length of the band-pass filter. At 360 Hz its transition bands are about 5 Hz wide: the lower
edge of 0.1 Hz is nominal, and a constant offset is halved twice rather than removed."""

SHORTEST_RR_S = 0.2
"""A shorter RR interval is a doubled annotation, not rhythm.

This limit also keeps the R peak inside a daeac window, which starts 0.14 s after the previous R
peak; it leaves out no MIT-BIH beat.
"""

CLASS_Q = "class Q"
EDGE_BEAT = "first or last beat"
SHORT_RR = f"RR under {SHORTEST_RR_S:g} s"
GAP = "beside a gap"
LEAVES_RECORD = "window leaves record"
FLAT = "flat signal"
NO_SIGNAL = "no signal"
DROP_REASONS = (CLASS_Q, EDGE_BEAT, SHORT_RR, GAP, LEAVES_RECORD, FLAT, NO_SIGNAL)
"""Reasons for leaving out beats, in the order of testing: the first that applies counts."""

GAP_NOTE = (
    f"an RR interval over {LONGEST_RR_S:g} s, or with {SILENCE_S:g} s and more without signal, is "
    "a gap in the beats: it enters no mean of RR, and the beats before and after it are left out"
)
"""Note for a reader where beats are left out for a `GAP`."""

SINC_LOBES = 6
"""Half-width of the anti-aliasing kernel, in output samples."""

_CHUNK_WINDOWS = 4096


class Causality(StrEnum):
    """The beats of the record that a feature needs, apart from the filter.

    The band-pass runs forward and backward over the whole record: every window, the causal ones
    too, depends on 256 samples (0.71 s) after its end.
    """

    CAUSAL = "causal"
    NEXT_BEAT = "looks one beat ahead"
    NEXT_TWO_BEATS = "looks two beats ahead"
    LEARNING = "needs the first five minutes"
    RECORD = "needs the whole record"


def reasons_text(left_out: Mapping[str, int]) -> str:
    """Return numbers of beats by reason as text, in the order of `DROP_REASONS`."""
    counts = ((reason, left_out.get(reason, 0)) for reason in DROP_REASONS)
    return ", ".join(f"{reason} {count}" for reason, count in counts if count)


def doubled_lines(doubled: Mapping[str, tuple[Doubled, ...]]) -> list[str]:
    """Say which records have beats with more than one annotation, and what became of these."""
    if not doubled:
        return []
    each = ", ".join(f"{name} ({len(beats)})" for name, beats in doubled.items())
    lines = [
        f"annotated more than once within {SHORTEST_RR_S:g} s, taken as one beat at the first "
        f"mark: {each}"
    ]
    unlike = {name: [b for b in beats if not b.agree] for name, beats in doubled.items()}
    examples = [
        f"{name} ({len(beats)}; {' and '.join(beats[0].symbols)} at sample {beats[0].samples[0]})"
        for name, beats in unlike.items()
        if beats
    ]
    if examples:
        lines.append(
            f"of these marked as different classes, left out as class Q: {', '.join(examples)}"
        )
    return lines


def in_samples(seconds: float) -> int:
    """Return the whole number of samples nearest to a duration."""
    return round(seconds * SAMPLING_RATE_HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Start and stop of a window, in seconds from R peaks."""

    start_s: float  # start, from this beat's R peak or from the one before
    stop_s: float  # stop, from this beat's R peak
    # Whether `start_s` counts from the previous R peak: then the window's length, and so each
    # wave's width after resampling, depends on the RR interval
    from_previous: bool = False

    def bounds(
        self, r_peak: NDArray[np.int64], previous_r_peak: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return start and stop sample of every window, [N] each."""
        anchor = previous_r_peak if self.from_previous else r_peak
        return anchor + in_samples(self.start_s), r_peak + in_samples(self.stop_s)


SEGMENTATIONS: dict[str, Segmentation] = {
    "daeac": Segmentation(start_s=0.14, stop_s=0.28, from_previous=True),
    "centred": Segmentation(start_s=-1.0, stop_s=1.0),
    "fixed": Segmentation(start_s=-0.66, stop_s=0.28),
    "beat": Segmentation(start_s=-0.25, stop_s=0.28),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsableBeats:
    """The beats of one record that fit every segmentation."""

    index: NDArray[np.int64]  # [N] position among the record's K beat annotations
    # [F] position of the beats that fit, whatever their class: those that make templates
    fitting: NDArray[np.int64]
    label: NDArray[np.int64]  # [N] index into `CLASSES`
    dropped: Mapping[str, int]  # beats left out by reason; unused reasons are absent
    gap: NDArray[np.bool_]  # [K - 1] whether the interval after each beat but the last is a gap


def band_pass(signal_mv: NDArray[np.float32]) -> NDArray[np.float64]:
    """Filter a whole record forward and backward, [samples].

    A forward and a backward pass of a symmetric filter are one convolution with its
    autocorrelation. The ends are continued by odd reflection, as `scipy.signal.filtfilt` does.
    """
    from scipy.signal import firwin, oaconvolve

    # A symmetric filter, run in both directions, shifts no wave against the R peak.
    taps = firwin(TAPS, BAND_HZ, pass_zero=False, fs=SAMPLING_RATE_HZ)
    signal = signal_mv.astype(np.float64)
    reach = min(TAPS - 1, len(signal) - 1)
    extended = np.concatenate(
        [
            2 * signal[0] - signal[reach:0:-1],
            signal,
            2 * signal[-1] - signal[-2 : -reach - 2 : -1],
        ]
    )
    both_passes = np.convolve(taps, taps[::-1])
    filtered = oaconvolve(extended, both_passes, mode="same")
    return np.asarray(filtered[reach : reach + len(signal)])


def usable_beats(record: Record) -> UsableBeats:
    """Choose the beats of a record that fit every segmentation, and count the others."""
    gap = gaps_of(record)
    unfit = why_unfit(record, gap)
    classes = _classes(record)
    reason = np.where(classes == "Q", CLASS_Q, unfit)
    index = np.flatnonzero(reason == "")
    return UsableBeats(
        index=index,
        fitting=np.flatnonzero(unfit == ""),
        label=np.array([CLASSES.index(name) for name in classes[index]], dtype=np.int64),
        dropped={
            name: count
            for name in DROP_REASONS
            if (count := int(np.count_nonzero(reason == name)))
        },
        gap=gap,
    )


def _classes(record: Record) -> NDArray[np.str_]:
    return np.array([AAMI[symbol] for symbol in record.beat_symbols.tolist()])


def gaps_of(record: Record) -> NDArray[np.bool_]:
    """Tell which of the intervals between a record's beats are gaps, [K - 1]."""
    return over_gaps(record.beat_samples, SAMPLING_RATE_HZ, record.no_signal)


def why_unfit(record: Record, gap: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Return why each beat cannot be classified whatever its class, [K]; empty where it can.

    It is the first of `DROP_REASONS` that applies, class Q aside. Gaps are [K - 1].
    """
    r_peak, n_samples = record.beat_samples, len(record.signal_mv)
    previous = _previous(r_peak)
    edge = np.isin(np.arange(len(r_peak)), (0, len(r_peak) - 1))
    beside = np.concatenate([[False], gap, [False]])
    # A beat must fit into the windows of all segmentations, or arms would see different beats.
    bounds = [cut.bounds(r_peak, previous) for cut in SEGMENTATIONS.values()]
    start = np.min([start for start, _ in bounds], axis=0)
    stop = np.max([stop for _, stop in bounds], axis=0)
    leaves = (start < 0) | (stop > n_samples)
    lost = np.append(0, np.cumsum(record.no_signal))
    applies = {
        EDGE_BEAT: edge,
        SHORT_RR: r_peak - previous < in_samples(SHORTEST_RR_S),
        GAP: (beside[:-1] | beside[1:])[: len(r_peak)],
        LEAVES_RECORD: leaves,
        FLAT: _flat(record.signal_mv, r_peak, ~leaves),
        NO_SIGNAL: lost[np.where(leaves, 0, stop)] > lost[np.where(leaves, 0, start)],
    }
    return np.select(list(applies.values()), list(applies), default="")


def _previous(r_peak: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([r_peak[:1], r_peak[:-1]])


def _flat(
    signal_mv: NDArray[np.float32], r_peak: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find beats whose signal is constant over the part common to all windows, [K]."""
    # The shortest possible daeac window: all windows of all segmentations contain it.
    daeac = SEGMENTATIONS["daeac"]
    from_r = np.arange(in_samples(daeac.start_s - SHORTEST_RR_S), in_samples(daeac.stop_s))
    flat = np.zeros(len(r_peak), dtype=np.bool_)
    core = signal_mv[r_peak[inside, None] + from_r]
    flat[inside] = core.min(axis=1) == core.max(axis=1)
    return flat


def cut_windows(
    signal: NDArray[np.float64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    resampling: str,
    *,
    scaled: bool = True,
) -> NDArray[np.float32]:
    """Cut windows [N, T] from a signal [samples] at 360 Hz, each of zero mean.

    Start and stop are [N]: the first sample of each window, and the sample after its last.
    `scaled` brings each window to unit variance; then none may be flat: `usable_beats` leaves such
    beats out.
    """
    windows = np.empty((len(start), N_SAMPLES), dtype=np.float32)
    resample = RESAMPLING[resampling]
    # Chunks keep temporary arrays small; they go by width, because weights depend on the width.
    order = np.argsort(stop - start, kind="stable")
    for first in range(0, len(order), _CHUNK_WINDOWS):
        part = order[first : first + _CHUNK_WINDOWS]
        cut = resample(signal, start[part], stop[part])
        cut = cut - cut.mean(axis=1, keepdims=True)
        windows[part] = cut / cut.std(axis=1, keepdims=True) if scaled else cut
    return windows


def _linear(
    signal: NDArray[np.float64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    step = (stop - 1 - start) / (N_SAMPLES - 1)
    position = start[:, None] + step[:, None] * np.arange(N_SAMPLES)
    # The last position may round to just past the window's last sample.
    left = np.minimum(position.astype(np.int64), stop[:, None] - 2)
    fraction = position - left
    return np.asarray(signal[left] * (1.0 - fraction) + signal[left + 1] * fraction)


def _antialiased(
    signal: NDArray[np.float64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    windows = np.empty((len(start), N_SAMPLES))
    width = stop - start
    for w in np.unique(width):
        same = np.flatnonzero(width == w)
        windows[same] = signal[start[same, None] + np.arange(w)] @ sinc_weights(int(w))
    return windows


def sinc_weights(width: int) -> NDArray[np.float64]:
    """Return the anti-aliasing weights that resample a window of W samples to T, [W, T]."""
    step = (width - 1) / (N_SAMPLES - 1)
    position = step * np.arange(N_SAMPLES)
    distance = (np.arange(width)[:, None] - position) / max(1.0, step)
    near = np.abs(distance) < SINC_LOBES
    lobes = distance[near]
    weights = np.zeros_like(distance)
    weights[near] = np.sinc(lobes) * np.cos(np.pi * lobes / (2 * SINC_LOBES)) ** 2
    return np.asarray(weights / weights.sum(axis=0))


RESAMPLING: dict[
    str,
    Callable[[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
] = {"linear": _linear, "antialiased": _antialiased}
