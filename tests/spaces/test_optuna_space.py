"""Spaces through Optuna: both ends are drawn, limits are told."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from study.spaces.draws import Point
from study.spaces.optuna_space import distribution, make_sampler, notes_on, suggest
from study.spaces.parameter import Categorical, Parameter, Range
from tests.builders import MIXED, space_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = space_of(MIXED)

DISTRIBUTIONS: list[tuple[Parameter, BaseDistribution]] = [
    (Categorical(name="heads", values=(1, 2)), CategoricalDistribution((1, 2))),
    (Range(name="heads", low=1, high=4, integer=True), IntDistribution(1, 4)),
    (
        Range(name="batch_size", low=32, high=128, integer=True, log=True),
        IntDistribution(32, 128, log=True),
    ),
    (Range(name="dropout", low=0.1, high=0.7, step=0.1), FloatDistribution(0.1, 0.7, step=0.1)),
    (
        Range(name="learning_rate", low=1e-4, high=1e-2, log=True),
        FloatDistribution(1e-4, 1e-2, log=True),
    ),
]


@pytest.mark.parametrize(("param", "expected"), DISTRIBUTIONS)
def test_optuna_draws_the_same_values_with_both_ends(
    param: Parameter, expected: BaseDistribution
) -> None:
    assert distribution(param) == expected
    space = replace(SPACE, params=(param,))
    study = optuna.create_study(sampler=make_sampler("random", 0, space))
    drawn = [suggest(space, study.ask())[param.name] for _ in range(100)]
    assert all(param.contains(value) for value in drawn)
    if param.size is not None and param.size <= 7:
        assert set(drawn) == set(param.points())


@pytest.mark.parametrize("name", ["tpe", "gp", "random"])
def test_a_sampler_proposes_legal_points_by_its_seed(name: str) -> None:
    def proposed(seed: int) -> list[Point]:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed, SPACE))
        points = []
        for number in range(6):
            trial = study.ask()
            points.append(suggest(SPACE, trial))
            assert SPACE.configuration(points[-1])
            state = TrialState.FAIL if number == 2 else TrialState.COMPLETE
            study.tell(trial, None if number == 2 else float(number % 3), state=state)
        return points

    assert proposed(1) == proposed(1)
    assert proposed(1) != proposed(2)


def test_limits_of_a_sampler_are_named() -> None:
    assert notes_on("random", SPACE) == []
    assert notes_on("gp", SPACE) == [
        "gp proposes by what has finished: repeatable at concurrency 1 only",
        "gp cannot model conditional parameters, and draws them: heads, focal_gamma",
    ]
