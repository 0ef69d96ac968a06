"""The band-pass filter, and the list of beats that every segmentation shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import filtfilt, firwin

from study.config import SAMPLING_RATE_HZ
from study.data.beats import BAND_HZ, TAPS, band_pass, keep_beats
from study.data.wfdb_record import Record
from study.data.windows import SEGMENTATIONS
from study.keys import CLASSES

N_SAMPLES = 20 * SAMPLING_RATE_HZ


def make_record(
    beats: Sequence[tuple[int, str]], signal_mv: NDArray[np.float32] | None = None
) -> Record:
    if signal_mv is None:
        signal_mv = np.random.default_rng(0).standard_normal(N_SAMPLES).astype(np.float32)
    return Record(
        name="x",
        lead="MLII",
        sampling_rate_hz=SAMPLING_RATE_HZ,
        recorded_rate_hz=SAMPLING_RATE_HZ,
        signal_mv=signal_mv,
        beat_samples=np.array([sample for sample, _ in beats], dtype=np.int64),
        beat_symbols=np.array([symbol for _, symbol in beats], dtype=np.str_),
        other_annotations={},
    )


def test_band_pass_is_a_forward_and_a_backward_pass_up_to_the_ends() -> None:
    signal = np.random.default_rng(1).standard_normal(5000).cumsum().astype(np.float32)
    taps = firwin(TAPS, BAND_HZ, pass_zero=False, fs=SAMPLING_RATE_HZ)
    expected = filtfilt(taps, [1.0], signal.astype(np.float64))
    np.testing.assert_allclose(band_pass(signal), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("frequency_hz", "lowest", "highest"), [(10, 0.99, 1.01), (50, 0.99, 1.01), (120, 0, 0.01)]
)
def test_band_pass_keeps_the_band(frequency_hz: float, lowest: float, highest: float) -> None:
    time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
    wave = np.sin(2 * np.pi * frequency_hz * time_s).astype(np.float32)
    assert lowest <= np.abs(band_pass(wave)[1000:-1000]).max() <= highest


@pytest.mark.parametrize("length", [2, 100, 257, 300])
def test_band_pass_of_a_signal_shorter_than_the_filter_is_finite(length: int) -> None:
    filtered = band_pass(np.sin(np.arange(length)).astype(np.float32))
    assert filtered.shape == (length,)
    assert np.isfinite(filtered).all()


def test_labels_and_previous_beats() -> None:
    beats = keep_beats(
        make_record([(400, "N"), (700, "/"), (1000, "V"), (1300, "e"), (1600, "A"), (1900, "N")])
    )
    assert [CLASSES[label] for label in beats.label] == ["V", "N", "S"]
    assert beats.index.tolist() == [2, 3, 4]
    assert beats.r_peak.tolist() == [1000, 1300, 1600]
    # The paced beat is left out, but the interval before the V beat begins at it.
    assert beats.previous_r_peak.tolist() == [700, 1000, 1300]
    assert beats.dropped == {"class Q": 1, "first or last beat": 2}


FLAT_FROM_3000 = np.random.default_rng(0).standard_normal(N_SAMPLES).astype(np.float32)
FLAT_FROM_3000[2970:3110] = 0.4


@pytest.mark.parametrize(
    ("beats", "signal_mv", "dropped"),
    [
        ([(400, "N"), (700, "N"), (1000, "N")], None, {"first or last beat": 2}),
        ([(400, "Q"), (700, "N"), (1000, "f")], None, {"class Q": 2}),
        (
            [(100, "N"), (359, "N"), (700, "N"), (N_SAMPLES - 359, "N"), (N_SAMPLES - 1, "N")],
            None,
            {"first or last beat": 2, "window leaves record": 2},
        ),
        (
            [(100, "N"), (360, "N"), (700, "N"), (N_SAMPLES - 360, "N"), (N_SAMPLES - 1, "N")],
            None,
            {"first or last beat": 2},
        ),
        (
            [(400, "N"), (700, "N"), (771, "V"), (843, "V"), (1200, "N")],
            None,
            {"first or last beat": 2, "RR under 0.2 s": 1},
        ),
        (
            [(400, "N"), (2700, "N"), (3000, "N"), (3300, "N"), (3600, "N")],
            FLAT_FROM_3000,
            {"first or last beat": 2, "flat signal": 1},
        ),
        ([(50, "N")], None, {"first or last beat": 1}),
        # Of several reasons the first counts: this one is Q, and its window leaves the record.
        (
            [(10, "N"), (200, "Q"), (900, "N"), (1300, "N")],
            None,
            {"class Q": 1, "first or last beat": 2},
        ),
    ],
)
def test_each_dropped_beat_is_counted_under_one_reason(
    beats: list[tuple[int, str]], signal_mv: NDArray[np.float32] | None, dropped: dict[str, int]
) -> None:
    kept = keep_beats(make_record(beats, signal_mv))
    assert kept.dropped == dropped
    assert len(kept.index) == len(beats) - sum(dropped.values())


def test_every_window_of_a_kept_beat_lies_inside_the_record() -> None:
    places = np.random.default_rng(3).choice(N_SAMPLES, size=60, replace=False)
    kept = keep_beats(make_record([(int(place), "N") for place in np.sort(places)]))
    assert len(kept.index) > 10
    for segmentation in SEGMENTATIONS.values():
        start, stop = segmentation.bounds(kept.r_peak, kept.previous_r_peak)
        assert (start >= 0).all()
        assert (stop <= N_SAMPLES).all()
        assert (start < kept.r_peak).all()
        assert (stop > kept.r_peak).all()
