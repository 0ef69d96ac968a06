"""Search spaces in Optuna's terms: distributions, suggestions and samplers.

Optuna silently lowers `high` to a whole number of steps and cannot combine log and step; a space
with either is refused when it is read. Grid, random and qmc points are drawn by the space itself
and enqueued, so that a resumed study proposes the same configurations by index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from optuna import samplers
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from study.spaces.draws import Point, holds
from study.spaces.parameter import Categorical, Parameter, Value
from study.spaces.settings import ENUMERATED, SAMPLED
from study.spaces.space import Space
from study.wording import plural

_MOST_STARTUP_TRIALS = 10


def suggest(space: Space, trial: BaseTrial) -> Point:
    """Ask a trial for the active parameters of a point, conditions first."""
    context = space.context()
    point: Point = {}
    for param in space.params:
        if holds(param, {**context, **point}):
            point[param.name] = param.snap(_suggest(param, trial))
    return point


def distributions(space: Space, params: Mapping[str, object]) -> dict[str, BaseDistribution]:
    """Return the distribution of each parameter of a point, for trials that are enqueued."""
    return {param.name: distribution(param) for param in space.params if param.name in params}


def distribution(param: Parameter) -> BaseDistribution:
    """Return Optuna's form of a parameter; both kinds of bounds are inclusive."""
    if isinstance(param, Categorical):
        return CategoricalDistribution(param.values)
    if param.integer:
        step = 1 if param.step is None else int(param.step)
        return IntDistribution(int(param.low), int(param.high), log=param.log, step=step)
    return FloatDistribution(param.low, param.high, log=param.log, step=param.step)


def make_sampler(name: str, seed: int, space: Space) -> samplers.BaseSampler:
    """Return the sampler of one start of a study; short searches begin with fewer random trials.

    Enumerated points are enqueued, and need no sampler.
    """
    startup = max(1, min(_MOST_STARTUP_TRIALS, space.trials // 3))
    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup)
    if name == "gp":
        # `notes_on` says what this sampler would warn about.
        return samplers.GPSampler(
            seed=seed, n_startup_trials=startup, warn_independent_sampling=False
        )
    if name in ENUMERATED:
        return samplers.RandomSampler(seed=seed)
    raise ValueError(f"unknown sampler '{name}'; known: {', '.join((*SAMPLED, *ENUMERATED))}")


def notes_on(sampler: str, space: Space, at_once: int) -> list[str]:
    """Return notes on a sampler's limits in a space, with so many trials at once, a line each."""
    if space.kind == "compare":
        return []
    conditional = ", ".join(param.name for param in space.params if param.when)
    notes = []
    if sampler in SAMPLED and at_once > 1:
        notes.append(f"{sampler} proposes by what has finished: repeatable at concurrency 1 only")
    if sampler == "tpe" and conditional:
        notes.append(f"tpe models conditional parameters one by one: {conditional}")
    if sampler == "gp" and conditional:
        notes.append(f"gp cannot model conditional parameters, and draws them: {conditional}")
    cells = None if sampler == "grid" else space.grid_size()
    if cells is not None and space.trials > cells:
        notes.append(
            f"the space has {plural(cells, 'configuration')}, fewer than {space.trials} trials: "
            "each is run once"
        )
    if sampler == "grid" and space.trials < (space.grid_size() or 0):
        notes.append(f"grid: the first {space.trials} of {space.grid_size()} cells")
    return notes


def _suggest(param: Parameter, trial: BaseTrial) -> Value:
    if isinstance(param, Categorical):
        return cast(Value, trial.suggest_categorical(param.name, param.values))
    if param.integer:
        low, high = int(param.low), int(param.high)
        step = 1 if param.step is None else int(param.step)
        return trial.suggest_int(param.name, low, high, step=step, log=param.log)
    return trial.suggest_float(param.name, param.low, param.high, step=param.step, log=param.log)
