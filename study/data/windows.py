"""Segmentations: where a beat's window begins and ends, and how it becomes 128 samples.

A window is a run of whole samples [start, stop) at 360 Hz. Its first and last samples are the
first and last of the 128, the others lie evenly between them, as in the published code. `linear`
interpolates between neighbouring samples. `antialiased` weighs the samples around each position
by a Hann-windowed sinc that passes half at the new Nyquist frequency; weights end where the window
ends, so that nothing from outside enters, and sum to one.

Shapes: N beats, T samples (128), W samples of a window before resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.config import N_SAMPLES, SAMPLING_RATE_HZ

SINC_LOBES = 6
"""Half-width of the anti-aliasing kernel, in output samples."""

_CHUNK_WINDOWS = 4096


def in_samples(seconds: float) -> int:
    """Return the whole number of samples nearest to a duration."""
    return round(seconds * SAMPLING_RATE_HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Where a window starts and stops, in seconds from R peaks.

    Args:
        start_s: Start, from this beat's R peak or from the one before.
        stop_s: Stop, from this beat's R peak.
        from_previous: Whether `start_s` counts from the previous R peak, which makes the window's
            length, and so the width of every wave after resampling, depend on the RR interval.
    """

    start_s: float
    stop_s: float
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


def cut_windows(
    signal: NDArray[np.float64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    resampling: str,
) -> NDArray[np.float32]:
    """Cut windows from a signal, bring each to 128 samples, zero mean and unit variance.

    Args:
        signal: [samples] at 360 Hz.
        start: [N] first sample of each window, at least 0.
        stop: [N] sample after its last, at most the signal's length.
        resampling: `linear` or `antialiased`.

    Returns:
        [N, T] windows. None may be flat: `study.data.beats` leaves such beats out.
    """
    windows = np.empty((len(start), N_SAMPLES), dtype=np.float32)
    resample = RESAMPLING[resampling]
    # Chunks keep the temporaries small; in order of width, because weights are made per width.
    order = np.argsort(stop - start, kind="stable")
    for first in range(0, len(order), _CHUNK_WINDOWS):
        part = order[first : first + _CHUNK_WINDOWS]
        windows[part] = _standardised(resample(signal, start[part], stop[part]))
    return windows


def _standardised(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    windows = windows - windows.mean(axis=1, keepdims=True)
    return np.asarray(windows / windows.std(axis=1, keepdims=True))


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
    """Return the anti-aliasing weights that bring a window of W samples to T, [W, T]."""
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
