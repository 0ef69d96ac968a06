"""Parameters: bounds are inclusive, steps are exact, coordinates reach both ends."""

from __future__ import annotations

import math

import pytest

from study.spaces.parameter import Categorical, Parameter, Range, highest

_LAST = math.nextafter(1.0, 0.0)

RANGES = [
    (Range(name="dropout", low=0.0, high=0.5), None),
    (Range(name="learning_rate", low=1e-4, high=1e-1, log=True), None),
    (Range(name="dropout", low=0.1, high=0.7, step=0.1), 7),
    (Range(name="embed_dim", low=16, high=128, step=16, integer=True), 8),
    (Range(name="batch_size", low=32, high=40, integer=True, log=True), 9),
    (Range(name="dropout", low=0.2, high=0.2), 1),
]


@pytest.mark.parametrize(("param", "size"), RANGES)
def test_range_reaches_both_ends_and_stays_inside(param: Range, size: int | None) -> None:
    drawn = [param.at(u) for u in (0.0, 1e-12, 0.25, 0.5, 0.75, 1 - 1e-12, _LAST)]
    assert (drawn[0], drawn[-1]) == (param.low, param.high)
    assert all(param.contains(value) for value in drawn)
    assert all(param.snap(value) == value for value in drawn)
    assert {type(value) for value in drawn} == {int if param.integer else float}
    assert param.size == size


@pytest.mark.parametrize(
    "param",
    [
        Categorical(name="heads", values=(4, 1, 2)),
        Range(name="heads", low=1, high=3, integer=True),
    ],
)
def test_each_value_has_the_same_share(param: Parameter) -> None:
    drawn = [param.at((index + 0.5) / 300) for index in range(300)]
    assert [drawn.count(value) for value in param.points()] == [100] * 3


def test_steps_are_decimal() -> None:
    param = Range(name="dropout", low=0.1, high=0.7, step=0.1)
    assert param.points() == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert param.snap(0.1 + 0.1 + 0.1) == 0.3
    assert highest(0.0, 1.0, 0.3) == 0.9


def test_start_is_the_default() -> None:
    assert Categorical(name="heads", values=(4, 1, 2), default=2).start == 2
    assert Range(name="gate_init", low=-4.0, high=0.0, default=-1.0).start == -1.0
