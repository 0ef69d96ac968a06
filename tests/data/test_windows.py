"""Windows: where they lie, how they are resampled, and what may not enter them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from study.config import CHOICES, N_SAMPLES, SAMPLING_RATE_HZ
from study.data.windows import RESAMPLING, SEGMENTATIONS, cut_windows, sinc_weights

RNG = np.random.default_rng(5)
SIGNAL = RNG.standard_normal(5000).cumsum()


def test_tables_are_those_of_the_configuration() -> None:
    assert tuple(SEGMENTATIONS) == CHOICES["segmentation"]
    assert {"auto", *RESAMPLING} == set(CHOICES["resampling"])


@pytest.mark.parametrize(
    ("name", "start", "stop"),
    [
        # 0.14 s = 50.4, 0.28 s = 100.8, 0.66 s = 237.6 samples, to the nearest whole one.
        ("daeac", 700 + 50, 1000 + 101),
        ("centred", 1000 - 360, 1000 + 360),
        ("fixed", 1000 - 238, 1000 + 101),
        ("beat", 1000 - 90, 1000 + 101),
    ],
)
def test_bounds_by_hand(name: str, start: int, stop: int) -> None:
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
def test_every_window_has_zero_mean_and_unit_variance(method: str) -> None:
    start = RNG.integers(0, 4000, size=300)
    windows = cut_windows(SIGNAL, start, start + RNG.integers(123, 1000, size=300), method)
    assert windows.shape == (300, N_SAMPLES)
    assert windows.dtype == np.float32
    np.testing.assert_allclose(windows.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(windows.std(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("method", RESAMPLING)
def test_window_depends_on_nothing_outside_itself(method: str) -> None:
    other = SIGNAL + 100.0
    other[1000:1300] = SIGNAL[1000:1300]
    start, stop = np.array([1000]), np.array([1300])
    np.testing.assert_array_equal(
        cut_windows(SIGNAL, start, stop, method), cut_windows(other, start, stop, method)
    )


@pytest.mark.parametrize("method", RESAMPLING)
def test_windows_do_not_depend_on_those_cut_with_them(method: str) -> None:
    start = RNG.integers(0, 4000, size=9000)
    stop = start + RNG.integers(123, 400, size=9000)
    together = cut_windows(SIGNAL, start, stop, method)
    for i in (0, 4500, 8999):
        alone = cut_windows(SIGNAL, start[i : i + 1], stop[i : i + 1], method)
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)


def _amplitude(frequency_hz: float, weights: NDArray[np.float64]) -> float:
    time_s = np.arange(len(weights)) / SAMPLING_RATE_HZ
    waves = np.exp(2j * np.pi * frequency_hz * time_s)
    return float(np.abs(waves @ weights)[20:-20].max())


@pytest.mark.parametrize(
    ("frequency_hz", "lowest", "highest"),
    [(5, 0.98, 1.02), (20, 0.98, 1.02), (50, 0, 0.02), (70, 0, 0.02), (100, 0, 0.02)],
)
def test_antialiasing_of_a_two_second_window(
    frequency_hz: float, lowest: float, highest: float
) -> None:
    # 720 samples to 128: 63.7 Hz, of which frequencies up to 31.9 Hz can be shown.
    assert lowest <= _amplitude(frequency_hz, sinc_weights(720)) <= highest


def test_antialiasing_keeps_the_whole_band_of_a_short_window() -> None:
    # 123 samples become 128: nothing needs to go, and 100 Hz is the edge of the band.
    assert _amplitude(100, sinc_weights(123)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("width", [123, 128, 391, 36_000])
def test_antialiasing_weights_sum_to_one_and_stay_in_place(width: int) -> None:
    weights = sinc_weights(width)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    # A ramp is resampled to itself, except near the ends, where the kernel is cut off.
    inner = slice(N_SAMPLES // 4, -N_SAMPLES // 4)
    expected = np.linspace(0, width - 1, N_SAMPLES)[inner]
    np.testing.assert_allclose((np.arange(width) @ weights)[inner], expected, rtol=1e-3)
