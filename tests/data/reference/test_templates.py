"""Templates and distances against small cases worked out by hand, and what moves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.config import N_SAMPLES, SAMPLING_RATE_HZ
from study.data.prepare import prepare_record
from study.data.reference.templates import TEMPLATES, deviations, distances, make_templates
from study.data.reference.trailing import LAST, trailing_median, trailing_spread
from study.data.windows import Causality
from tests.data.test_windows import record_of

# Two records; a beat each minute, and one at minute 5, which is after the learning period.
# A third record has a single beat.
RECORD = np.array([0, 0, 0, 0, 1, 1, 2])
R_PEAK = np.array([1, 2, 3, 6, 1, 6, 1]) * 60 * SAMPLING_RATE_HZ
WINDOWS = np.array([[1, 9], [2, 0], [6, 3], [8, 1], [5, 5], [7, 4], [3, 8]], dtype=np.float32)


def test_templates_by_hand() -> None:
    for name, expected in (
        # Medians of 1 2 6 8 and 9 0 3 1; of 5 7 and 5 4.
        ("record", 4 * [[4, 2]] + 2 * [[6, 4.5]] + [[3, 8]]),
        # The first beat itself; then medians of 1, of 1 2, of 1 2 6 and of 9, of 9 0, of 9 0 3.
        ("trailing", [[1, 9], [1, 9], [1.5, 4.5], [2, 3], [5, 5], [5, 5], [3, 8]]),
        # Of the first three beats, the fourth is 5 minutes after the first; of the first.
        ("learning", 4 * [[2, 3]] + 2 * [[5, 5]] + [[3, 8]]),
    ):
        np.testing.assert_array_equal(make_templates(name, WINDOWS, R_PEAK, RECORD), expected)


def test_trailing_median_is_exact_to_its_definition() -> None:
    rows = np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
    medians, spreads = trailing_median(rows), trailing_spread(rows)
    for k in (0, 1, 2, LAST - 1, LAST, 299, 599):
        last = rows[max(0, k + 1 - LAST) : k + 1]
        median = np.median(last, axis=0)
        np.testing.assert_array_equal(medians[k], median)
        np.testing.assert_array_equal(spreads[k], np.median(np.abs(last - median), axis=0))


def test_deviation_and_distances_by_hand() -> None:
    """The template has an sd of 2; rms deviations are 0.5 and, at one sample in three, 8."""
    template = np.tile([-2.0, 2.0], (3, N_SAMPLES // 2)).astype(np.float32)
    windows = template + np.array([[1], [0], [0]], dtype=np.float32)
    at = np.arange(N_SAMPLES)
    # From R - 90 to R + 100 samples of 360 Hz; .08 s are 28.8 of them.
    windows[2, np.abs(at * 190 / (N_SAMPLES - 1) - 90) <= 28.8] += 100
    deviation = deviations(windows, template)
    assert [deviation[0, 5], deviation[1, 5], deviation[2, 60]] == [0.5, 0, 8]
    # Places 41 (R - 28.66 samples) to 79 (R + 28.19).
    share = np.count_nonzero(deviation[2]) / N_SAMPLES
    assert share == 39 / N_SAMPLES
    expected = [[0.5, 0.5], [1 / 64, 1 / 64], [8 * np.sqrt(share), 8]]
    np.testing.assert_allclose(distances(deviation), np.log(expected), rtol=1e-6)
    flat = deviations(windows, np.zeros_like(windows))
    np.testing.assert_array_equal(flat, np.clip(windows, -8, 8))


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_label_moves_a_template_and_no_later_beat_a_causal_one(name: str) -> None:
    """The beat at 2700 is paced in one record, and beats from 3700 on are others there."""
    beats = "300N 700N 1200N 1700N 2200N 2700{} 3200N 3700N 4200N 4700N 5200N 5700N"
    cut = ("daeac", "linear", name)
    whole = record_of(beats.format("N"))
    paced = prepare_record(record_of(beats.format("/")), cut)
    known = np.delete(prepare_record(whole, cut).r_peak_sample, 4)  # 700, ..., 2200, 3200, ...
    assert paced.r_peak_sample.tolist() == known.tolist()
    later = whole.signal_mv.copy()
    later[3500:] *= -3
    changed = prepare_record(replace(whole, signal_mv=later), cut).reference
    reference, of_paced = prepare_record(whole, cut).reference, paced.reference
    assert reference is not None and of_paced is not None and changed is not None
    for field in ("deviation", "distances"):
        ours = getattr(reference, field)
        np.testing.assert_array_equal(getattr(of_paced, field), np.delete(ours, 4, axis=0))
        # Windows up to 2700 + 101 samples end before the filter reaches the change.
        kept = np.allclose(getattr(changed, field)[:5], ours[:5], atol=1e-5)
        assert kept == (TEMPLATES[name].causality is Causality.CAUSAL)
