"""What a class rests on, and when there is an interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from study.statistics.estimates import class_facts, estimate, spread, with_means
from study.statistics.predictions import Beats


def test_facts_of_a_class(beats: Beats) -> None:
    n, s, v, f = class_facts(beats, "auprc")
    assert (v.beats, v.records, v.largest_record) == (142, 8, "106")
    assert v.largest_share == pytest.approx(44 / 142)
    # Both folds weigh the same; patient 101 has two records.
    weights = [14 / 56, 28 / 56, 14 / 56, 44 / 86, 14 / 86, 14 / 86, 14 / 86]
    assert v.effective_patients == pytest.approx(2**2 / sum(w**2 for w in weights))
    assert v.folds == 2 and v.estimable
    assert v.chance == pytest.approx((56 / 248 + 86 / 278) / 2)
    assert s.records == 7
    assert n.estimable and f.estimable
    assert [fact.chance for fact in class_facts(beats, "auroc")] == [0.5] * 4


def test_the_means_over_classes_come_behind_them() -> None:
    by_class = np.array([[0.9, 0.2, 0.6, 0.1], [0.9, 0.2, 0.6, np.nan]])
    assert with_means(by_class)[:, 4:] == pytest.approx(
        np.array([[0.45, 0.4], [np.nan, 0.4]]), nan_ok=True
    )


def test_an_interval_is_of_percentiles_unless_there_is_none_and_a_spread_of_two() -> None:
    found = estimate(0.5, np.linspace(0, 1, 1001), "")
    assert [found.value, found.low, found.high] == pytest.approx([0.5, 0.025, 0.975])
    assert found.se == pytest.approx(1001 / 1000 / math.sqrt(12), abs=1e-3)
    assert found.remark == "" and found.bias == pytest.approx(0.0)
    assert estimate(0.4, np.linspace(0, 1, 1001), "").bias == pytest.approx(0.1)
    values, why = np.linspace(0, 1, 100), "not estimable: F rests on 1.2 effective patients"
    found = estimate(0.5, values, why)
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.se)
    assert found.remark == why
    values[:5] = np.nan
    assert math.isfinite(estimate(0.5, values, "").low)
    values[:6] = np.nan
    found = estimate(0.5, values, "")
    assert math.isnan(found.high)
    assert found.remark == "not estimable: undefined in 6% of the resamples"
    assert spread(np.array([1.0, np.nan, 3.0])) == pytest.approx(math.sqrt(2))
    assert math.isnan(spread(np.array([1.0]))), "it needs two values"
