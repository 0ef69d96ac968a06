"""Calibration, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from study.statistics.calibration import brier_score, calibration, fit_temperature, log_loss
from study.statistics.predictions import Beats


def test_told_and_found_shares_and_the_brier_score() -> None:
    """Five beats are told .2 and one of them is S, five .8 and three are; one is in no fold."""
    beats = Beats(
        label=np.array([1, 0, 0, 0, 0, 1, 1, 1, 0, 2, 1]),
        record=np.array([0] * 10 + [1]),
        record_names=("a", "b"),
        patient_of_record=("a", "b"),
        folds_of_record=((0, -1),),
    )
    log_probs = np.full((2, 11, 4), np.nan, dtype=np.float32)
    log_probs[:, :10, 1] = np.log([0.2] * 5 + [0.8] * 5)
    found = calibration(beats, log_probs, 1)
    assert found is not None
    assert found.probability == pytest.approx([0.2, 0.8])
    assert found.share == pytest.approx([0.2, 0.6])
    # (1 x .8^2 + 4 x .2^2 + 3 x .2^2 + 2 x .8^2) / 10
    assert [found.mean, found.brier] == pytest.approx([0.5, 0.22])
    assert calibration(beats, log_probs, 3) is None


def test_a_temperature_makes_told_shares_true() -> None:
    """Of four beats that are told .9 three are N: (.9 / .1)^(1/2) = .75 / .25."""
    told, label = np.tile([0.9, 0.1, 0.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    assert fit_temperature(told, label) == pytest.approx(2.0, rel=1e-3)
    true = np.tile([0.75, 0.25, 0.0, 0.0], (4, 1))
    assert brier_score(true, label) == pytest.approx((3 * 2 * 0.25**2 + 2 * 0.75**2) / 4)
    assert log_loss(true, label) == pytest.approx(-(3 * np.log(0.75) + np.log(0.25)) / 4)
