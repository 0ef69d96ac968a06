"""From a record to windows: the filter, the usable beats, and where and how windows are cut."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import filtfilt, firwin

from study.config import N_SAMPLES, SAMPLING_RATE_HZ
from study.data.wfdb_record import Record
from study.data.windows import (
    BAND_HZ,
    RESAMPLING,
    SEGMENTATIONS,
    TAPS,
    band_pass,
    cut_windows,
    sinc_weights,
    usable_beats,
)
from study.keys import CLASSES

RNG = np.random.default_rng(5)
SIGNAL = RNG.standard_normal(5000).cumsum()


def test_bounds_by_hand() -> None:
    for name, start, stop in (
        # 0.14 s = 50.4, 0.28 s = 100.8, 0.66 s = 237.6 samples, to the nearest whole one.
        ("daeac", 700 + 50, 1000 + 101),
        ("centred", 1000 - 360, 1000 + 360),
        ("fixed", 1000 - 238, 1000 + 101),
        ("beat", 1000 - 90, 1000 + 101),
    ):
        got = SEGMENTATIONS[name].bounds(np.array([1000]), np.array([700]))
        assert [int(ends[0]) for ends in got] == [start, stop]


def test_linear_is_numpys_interpolation() -> None:
    start, stop = np.array([0, 17, 3000, 4877]), np.array([720, 140, 3391, 5000])
    expected = []
    for first, end in zip(start, stop, strict=True):
        at = np.linspace(first, end - 1, N_SAMPLES)
        window = np.interp(at, np.arange(len(SIGNAL)), SIGNAL)
        expected.append((window - window.mean()) / window.std())
    np.testing.assert_allclose(cut_windows(SIGNAL, start, stop, "linear"), expected, atol=1e-5)


@pytest.mark.parametrize("method", RESAMPLING)
def test_a_window_depends_on_nothing_but_its_own_samples(method: str) -> None:
    """Not on what is outside, nor on the windows cut with it; each is standardised."""
    start = RNG.integers(0, 4000, size=5000)
    stop = start + RNG.choice([123, 200, 391, 900], size=5000)
    windows = cut_windows(SIGNAL, start, stop, method)
    assert windows.shape == (5000, N_SAMPLES)
    assert windows.dtype == np.float32
    np.testing.assert_allclose(windows.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(windows.std(axis=1), 1, atol=1e-5)
    for i in (0, 2500, 4999):
        alone = np.full_like(SIGNAL, 100.0)
        alone[start[i] : stop[i]] = SIGNAL[start[i] : stop[i]]
        window = cut_windows(alone, start[i : i + 1], stop[i : i + 1], method)[0]
        np.testing.assert_allclose(windows[i], window, atol=1e-5)


def test_antialiasing_takes_away_what_cannot_be_shown() -> None:
    def amplitude(frequency_hz: float, weights: NDArray[np.float64]) -> float:
        waves = np.exp(2j * np.pi * frequency_hz * np.arange(len(weights)) / SAMPLING_RATE_HZ)
        return float(np.abs(waves @ weights)[20:-20].max())

    # 720 samples to 128: 63.7 Hz, of which frequencies up to 31.9 Hz can be shown.
    two_seconds = sinc_weights(720)
    assert [amplitude(hz, two_seconds) for hz in (5, 20)] == pytest.approx([1, 1], abs=0.02)
    assert max(amplitude(hz, two_seconds) for hz in (50, 70, 100)) <= 0.02
    # 123 samples become 128: nothing needs to go, and 100 Hz is the edge of the band.
    assert amplitude(100, sinc_weights(123)) == pytest.approx(1, abs=0.05)


NOISE = np.random.default_rng(0).standard_normal(20 * SAMPLING_RATE_HZ).astype(np.float32)


def record_of(beats: str, signal_mv: NDArray[np.float32] = NOISE) -> Record:
    """Return a record of 7200 samples; beats are given as in `400N 771V`."""
    return Record(
        name="x",
        lead="MLII",
        signal_mv=signal_mv,
        no_signal=np.zeros(len(signal_mv), dtype=bool),
        beat_samples=np.array([int(beat[:-1]) for beat in beats.split()], dtype=np.int64),
        beat_symbols=np.array([beat[-1] for beat in beats.split()], dtype=np.str_),
        other_annotations={},
    )


def test_band_pass_is_a_forward_and_a_backward_pass_up_to_the_ends() -> None:
    signal = np.random.default_rng(1).standard_normal(5000).cumsum().astype(np.float32)
    taps = firwin(TAPS, BAND_HZ, pass_zero=False, fs=SAMPLING_RATE_HZ)
    expected = filtfilt(taps, [1.0], signal.astype(np.float64))
    np.testing.assert_allclose(band_pass(signal), expected, atol=1e-9)


@pytest.mark.parametrize("length", [2, 100, 257, 300])
def test_band_pass_of_a_signal_shorter_than_the_filter_is_finite(length: int) -> None:
    filtered = band_pass(np.sin(np.arange(length)).astype(np.float32))
    assert filtered.shape == (length,)
    assert np.isfinite(filtered).all()


def test_labels_and_positions() -> None:
    beats = usable_beats(record_of("400N 700/ 1000V 1300e 1600A 1900N"))
    assert [CLASSES[label] for label in beats.label] == ["V", "N", "S"]
    assert beats.index.tolist() == [2, 3, 4]
    # The interval before the V beat begins at the paced beat, which fits too.
    assert beats.fitting.tolist() == [1, 2, 3, 4]
    assert beats.dropped == {"class Q": 1, "first or last beat": 2}


@pytest.mark.parametrize(
    ("beats", "dropped"),
    [
        ("400N 700N 1000N", {"first or last beat": 2}),
        ("400Q 700N 1000f", {"class Q": 2}),
        (
            "100N 359N 700N 2700N 4700N 6841N 7199N",
            {"first or last beat": 2, "window leaves record": 2},
        ),
        ("100N 360N 700N 2700N 4700N 6840N 7199N", {"first or last beat": 2}),
        ("400N 700N 771V 843V 1200N", {"first or last beat": 2, "RR under 0.2 s": 1}),
        ("400N 2000N 4000N 5040N 5300N 5600N", {"first or last beat": 2, "flat signal": 1}),
        ("50N", {"first or last beat": 1}),
        ("400N 700N 1000N 3161N 3500N 3800N", {"first or last beat": 2, "beside a gap": 2}),
        # Of several reasons the first counts: this one is Q, and its window leaves the record.
        ("10N 200Q 900N 1300N", {"class Q": 1, "first or last beat": 2}),
    ],
)
def test_each_dropped_beat_has_one_reason(beats: str, dropped: dict[str, int]) -> None:
    flat = NOISE.copy()
    flat[5010:5150] = 0.4
    usable = usable_beats(record_of(beats, flat))
    assert usable.dropped == dropped
    assert len(usable.index) == len(beats.split()) - sum(dropped.values())


def test_beats_without_signal_are_left_out_and_two_seconds_without_are_a_gap() -> None:
    record = record_of("400N 700N 1000N 1300N 1600N 3000N 3300N 3600N 3900N 4200N")
    record.no_signal[[999, 4100]] = True
    assert usable_beats(record).dropped == {"first or last beat": 2, "no signal": 4}
    record.no_signal[2000:2719] = True
    assert usable_beats(record).dropped == {"first or last beat": 2, "no signal": 5}
    record.no_signal[2719] = True
    dropped = {"first or last beat": 2, "beside a gap": 2, "no signal": 4}
    assert usable_beats(record).dropped == dropped
    assert usable_beats(record).gap.nonzero()[0].tolist() == [4]
