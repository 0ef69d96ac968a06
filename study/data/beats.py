"""From a record to its beats: band-pass filter, AAMI labels, and the one list of beats kept.

The same beats are kept for every input and every segmentation, so that comparisons are paired.

Shapes: K beat annotations of one record, N beats kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.records import AAMI
from study.data.wfdb_record import Record
from study.data.windows import SEGMENTATIONS, in_samples
from study.keys import CLASSES

BAND_HZ = (0.1, 100.0)
TAPS = 257
"""Length of the band-pass filter. At 360 Hz its transition bands are about 5 Hz wide: the lower
edge of 0.1 Hz is nominal, and a constant offset is halved twice rather than removed."""

SHORTEST_RR_S = 0.2
"""A shorter RR interval is no rhythm but a doubled annotation. It also keeps the R peak inside a
daeac window, which starts 0.14 s after the previous R peak; no MIT-BIH beat is left out by it."""

CLASS_Q = "class Q"
EDGE_BEAT = "first or last beat"
SHORT_RR = f"RR under {SHORTEST_RR_S:g} s"
LEAVES_RECORD = "window leaves record"
FLAT = "flat signal"
DROP_REASONS = (CLASS_Q, EDGE_BEAT, SHORT_RR, LEAVES_RECORD, FLAT)
"""Why beats are left out, in the order of testing: a beat counts under the first that holds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeatList:
    """The beats of one record that are kept.

    Args:
        index: [N] position among the record's K beat annotations.
        r_peak: [N] sample of the R peak.
        previous_r_peak: [N] sample of the R peak before, of whatever class.
        label: [N] index into `CLASSES`.
        dropped: Beats left out by reason; reasons that never held are absent.
    """

    index: NDArray[np.int64]
    r_peak: NDArray[np.int64]
    previous_r_peak: NDArray[np.int64]
    label: NDArray[np.int64]
    dropped: Mapping[str, int]


def band_pass(signal_mv: NDArray[np.float32]) -> NDArray[np.float64]:
    """Filter a whole record forward and backward, [samples].

    A forward and a backward pass of a symmetric filter are one convolution with its
    autocorrelation. The ends are continued by odd reflection, as `scipy.signal.filtfilt` does.
    """
    from scipy.signal import firwin, oaconvolve

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


def keep_beats(record: Record) -> BeatList:
    """Choose the beats of a record that every segmentation can show, and count the others."""
    r_peak = record.beat_samples
    why = why_left_out(record)
    index = np.flatnonzero(why == "")
    symbols = record.beat_symbols[index].tolist()
    return BeatList(
        index=index,
        r_peak=r_peak[index],
        previous_r_peak=_previous(r_peak)[index],
        label=np.array([CLASSES.index(AAMI[symbol]) for symbol in symbols], dtype=np.int64),
        dropped={
            reason: count
            for reason in DROP_REASONS
            if (count := int(np.count_nonzero(why == reason)))
        },
    )


def why_left_out(record: Record) -> NDArray[np.str_]:
    """Return the first of `DROP_REASONS` that holds for each beat, [K]; empty for those kept."""
    reasons = _reasons(record)
    return np.select([reasons[name] for name in DROP_REASONS], DROP_REASONS, default="")


def _previous(r_peak: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([r_peak[:1], r_peak[:-1]])


def _reasons(record: Record) -> dict[str, NDArray[np.bool_]]:
    r_peak, n_samples = record.beat_samples, len(record.signal_mv)
    previous = _previous(r_peak)
    classes = np.array([AAMI[symbol] for symbol in record.beat_symbols.tolist()])
    place = np.arange(len(r_peak))
    edge = (place == 0) | (place == len(place) - 1)
    bounds = [cut.bounds(r_peak, previous) for cut in SEGMENTATIONS.values()]
    start = np.min([start for start, _ in bounds], axis=0)
    stop = np.max([stop for _, stop in bounds], axis=0)
    leaves = (start < 0) | (stop > n_samples)
    return {
        CLASS_Q: classes == "Q",
        EDGE_BEAT: edge,
        SHORT_RR: r_peak - previous < in_samples(SHORTEST_RR_S),
        LEAVES_RECORD: leaves,
        FLAT: _flat(record.signal_mv, r_peak, ~leaves),
    }


def _flat(
    signal_mv: NDArray[np.float32], r_peak: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell where the signal does not change over the part that is in every window, [K]."""
    daeac = SEGMENTATIONS["daeac"]
    from_r = np.arange(in_samples(daeac.start_s - SHORTEST_RR_S), in_samples(daeac.stop_s))
    flat = np.zeros(len(r_peak), dtype=np.bool_)
    core = signal_mv[r_peak[inside, None] + from_r]
    flat[inside] = core.min(axis=1) == core.max(axis=1)
    return flat
