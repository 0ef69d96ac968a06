"""Spaces through Optuna: both ends are drawn, legal points are proposed."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from study.spaces.draws import Point
from study.spaces.optuna_space import distribution, make_sampler, suggest
from study.spaces.parameter import Parameter, Range
from tests.builders import MIXED, space_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = space_of(MIXED)

BATCHES = Range(name="batch_size", low=32, high=128, integer=True, log=True)


@pytest.mark.parametrize("param", [*SPACE.params, BATCHES], ids=lambda param: param.name)
def test_optuna_draws_the_same_values_with_both_ends(param: Parameter) -> None:
    space = replace(SPACE, params=(replace(param, when={}),))
    study = optuna.create_study(sampler=make_sampler("random", 0, space))
    drawn = [suggest(space, study.ask())[param.name] for _ in range(100)]
    assert all(param.contains(value) for value in drawn)
    if param.size is not None and param.size <= 7:
        assert set(drawn) == set(param.points())
    form = distribution(param)
    if isinstance(param, Range):
        assert isinstance(form, FloatDistribution | IntDistribution)
        assert (form.low, form.high, form.log) == (param.low, param.high, param.log)
        assert form.step == (param.step or (1 if param.integer else None))
    else:
        assert form == CategoricalDistribution(param.points())


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
