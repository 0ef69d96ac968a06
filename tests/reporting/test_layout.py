"""Numbers and tables as text."""

from __future__ import annotations

import math

import pytest

from study.reporting.layout import number, plus_minus, short, table


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "-"),
        ([0.5], "0.500"),
        ([0.4, 0.6], "0.500 ± 0.141"),  # sample sd of two: their distance / sqrt(2)
    ],
)
def test_plus_minus(values: list[float], text: str) -> None:
    assert plus_minus(values) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_number(value: float) -> None:
    assert number(value) == "-"


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.5194, False, ".519"),
        (1.0, False, "1.000"),
        (0.99996, False, "1.000"),
        (10.5, False, "10.500"),
        (0.0226, True, "+.023"),
        (-0.0226, True, "-.023"),
        (-1.25, True, "-1.250"),
        (math.nan, True, "-"),
    ],
)
def test_a_short_score_has_no_zero_before_its_point(value: float, signed: bool, text: str) -> None:
    assert short(value, signed=signed) == text


def test_plain_table() -> None:
    assert table(["arm", "n"], [["a | b", "10"], ["c", ""]]).splitlines() == [
        "arm     n",
        "-----  --",
        "a | b  10",
        "c",
    ]


def test_markdown_table() -> None:
    assert table(["arm", "n"], [["a | b", "10"]], markdown=True).splitlines() == [
        "| arm    |   n |",
        "| ------ | --: |",
        "| a \\| b |  10 |",
    ]
