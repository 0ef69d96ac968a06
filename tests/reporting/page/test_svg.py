"""Panels: places, ticks, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from study.reporting.page.svg import Panel, shown, span, ticks


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((-0.11, 0.12), [-0.1, -0.05, 0.0, 0.05, 0.1]),
        ((1.0, 6.0), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ((0.5, 0.5), [0.5]),
    ],
)
def test_ticks_are_round(ends: tuple[float, float], expected: list[float]) -> None:
    assert ticks(ends) == pytest.approx(expected)


def test_tick_labels() -> None:
    assert [shown(value) for value in (0.2, 1.0, -0.05, 0.0)] == [".2", "1", "-.05", "0"]


def test_a_span_ignores_what_is_undefined() -> None:
    low, high = span([math.nan, 0.2, 0.4], around=0.0)
    assert low < 0.0 < 0.4 < high
    assert span([math.nan]) == pytest.approx((-0.06, 1.06))


def test_a_line_is_broken_where_it_is_undefined() -> None:
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0))
    panel.line([0, 0.5, 1.0], [0.1, math.nan, 0.2])
    assert panel.svg().count("M") - panel.svg().count('d="M') == 1


def test_a_band_of_nothing_draws_nothing() -> None:
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0))
    before = panel.svg()
    panel.band([0, 1], np.full(2, np.nan), [1, 1], series=0)
    assert panel.svg() == before


def test_words_are_escaped() -> None:
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0), title="a < b", describe='say "it"')
    assert "a &lt; b" in panel.svg()
    assert 'aria-label="say &quot;it&quot;"' in panel.svg()
