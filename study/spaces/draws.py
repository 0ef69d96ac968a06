"""Points of a search space: enumerated, or drawn by index without any state.

A point holds the active parameters only: one whose `when` does not hold is absent. A conditioning
parameter comes before the parameters that depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from study.spaces.parameter import Parameter, Value

_SOBOL_BLOCK = 256
"""Points drawn in one call, which costs as much as drawing hundreds of points."""

Point = dict[str, Value]
Exclusion = Mapping[str, tuple[Value, ...]]


def holds(param: Parameter, values: Mapping[str, object]) -> bool:
    """Whether a parameter exists, given the values of those before it."""
    return all(values.get(name) in allowed for name, allowed in param.when.items())


def excluded(point: Mapping[str, object], exclude: Sequence[Exclusion]) -> bool:
    """Whether a point matches one of the combinations that are left out."""
    return any(
        all(name in point and point[name] in values for name, values in entry.items())
        for entry in exclude
    )


def walk(
    params: Sequence[Parameter],
    choices: Mapping[str, Sequence[Value]],
    exclude: Sequence[Exclusion] = (),
    context: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Point]:
    """Yield the points over some choices, the last parameter varying fastest.

    A parameter without choices is left out. Conditions may also refer to values of the `context`,
    such as those of an arm.
    """

    def extend(index: int, point: Point) -> Iterator[Point]:
        if index == len(params):
            if not excluded(point, exclude):
                yield point
            return
        param = params[index]
        if param.name not in choices or not holds(param, {**context, **point}):
            yield from extend(index + 1, point)
            return
        for value in choices[param.name]:
            yield from extend(index + 1, {**point, param.name: value})

    return extend(0, {})


def count(
    params: Sequence[Parameter], exclude: Sequence[Exclusion], context: Mapping[str, object]
) -> int | None:
    """Return the number of points without enumerating them; None if a range is continuous."""
    if any(param.size is None for param in params):
        return None
    deciding = {name for param in params for name in param.when}
    deciding.update(name for entry in exclude for name in entry)
    choices = {param.name: param.points() for param in params if param.name in deciding}
    others = [param for param in params if param.name not in deciding]
    return sum(
        math.prod(param.size or 0 for param in others if holds(param, {**context, **point}))
        for point in walk(params, choices, exclude, context)
    )


def at(
    params: Sequence[Parameter],
    u: Sequence[float],
    context: Mapping[str, object],
) -> Point:
    """Return the point at coordinates in [0, 1), one for each parameter, inactive ones included.

    Raises:
        ValueError: If there are too few or too many coordinates, or one is outside.
    """
    point: Point = {}
    for param, coordinate in zip(params, u, strict=True):
        if holds(param, {**context, **point}):
            point[param.name] = param.at(coordinate)
    return point


def sobol(dimensions: int, seed: int) -> Iterator[list[float]]:
    """Yield a scrambled Sobol sequence: the same for a seed, whatever was drawn before.

    Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14.
    """
    while not dimensions:
        yield []
    # Imported here: most studies draw no Sobol points, and start half a second earlier.
    from scipy.stats import qmc

    engine = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    while True:
        for row in engine.random(_SOBOL_BLOCK):
            yield [float(coordinate) for coordinate in row]


def uniform(dimensions: int, seed: int, index: int) -> Iterator[list[float]]:
    """Yield uniform coordinates from the stream of one index of one seed."""
    generator = np.random.default_rng([seed, index])
    while True:
        yield [float(coordinate) for coordinate in generator.random(dimensions)]
