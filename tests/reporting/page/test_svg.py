"""Panels: places, ticks, and what is left out."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from study.reporting.page.svg import Panel, Whisker, ticks, whiskers


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


def test_what_is_undefined_breaks_a_line_and_draws_no_band() -> None:
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0), title="a < b")
    before = panel.svg()
    assert "a &lt; b" in before and 'aria-label="a &lt; b"' in before
    panel.band([0, 1], np.full(2, np.nan), [1, 1], series=0)
    assert panel.svg() == before
    panel.line([0, 0.5, 1.0], [0.1, math.nan, 0.2])
    assert panel.svg().count("M") - panel.svg().count('d="M') == 1


def test_no_line_runs_over_the_name_of_a_row() -> None:
    marks = [Whisker(value=0.1, low=0.0, high=0.2, tip="t")]
    svg = whiskers("AUPRC S", [("first", marks), ("second", marks)], kind="RR reliance")
    names = [float(y) for y in re.findall(r'<text class="over" x="2" y="([\d.]+)"', svg)]
    (zero,) = re.findall(r'<path class="mark" d="([^"]+)"', svg)
    pieces = [tuple(map(float, piece)) for piece in re.findall(r" ([\d.]+)V([\d.]+)", zero)]
    assert len(names) == len(pieces) == 2
    assert not any(top < name < bottom for name in names for top, bottom in pieces)
