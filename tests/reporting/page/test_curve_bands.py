"""Curves against the score: the area below a mean curve is the mean of the areas."""

from __future__ import annotations

import numpy as np
import pytest

from study.keys import CLASSES
from study.reporting.page.curve_bands import GRID, curves
from study.statistics.findings import Comparison
from tests.reporting.page.conftest import MakeResults


@pytest.mark.parametrize("name", ["S", "V"])
def test_the_area_below_the_curve_is_the_score(make_results: MakeResults, name: str) -> None:
    results = make_results()
    comparison = results.comparison
    assert isinstance(comparison, Comparison) and results.beats is not None
    arm = results.runs[0]
    precision, roc = curves(results.beats, arm, CLASSES.index(name))
    scored = next(found for found in comparison.arms if found.name == arm.name)
    # Read at the right end of each hundredth of recall: precision there, not within it.
    assert precision.value.mean() == pytest.approx(scored.estimates[name].value, abs=0.01)
    assert np.all(np.diff(roc.value) >= 0)
    assert roc.value[-1] == pytest.approx(1.0)


def test_bands_hold_the_curve(make_results: MakeResults) -> None:
    results = make_results()
    assert results.beats is not None
    precision, _ = curves(results.beats, results.runs[0], CLASSES.index("S"))
    inside = (precision.low <= precision.value) & (precision.value <= precision.high)
    assert len(precision.value) == len(GRID)
    assert inside.mean() > 0.95
