"""Faults that need a whole space: illegal combinations, parameters that change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, get_type_hints

from study.config import PARAMETERS, ModelConfig, TrialConfig
from study.errors import ConfigError, unknown
from study.models import rules
from study.spaces import draws
from study.spaces.draws import Point
from study.spaces.limits import MOST_COMBINATIONS
from study.spaces.parameter import Parameter, Value
from study.spaces.settings import SCREENING, SCREENING_EPOCHS, SETTINGS

if TYPE_CHECKING:
    from study.spaces.space import Space

ARM_PARTS = ("input", "segmentation", "fusion", "late_rr", "rr")
"""Parameters whose values make an arm; all others are nuisance."""

_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A legal point: what conditions can refer to, and what changes something there."""

    values: Mapping[str, Any]
    point: Point
    effective: frozenset[str]


def structures(space: Space, arm: str | None = None) -> Iterator[Point]:
    """Yield a point for each combination of what decides how a configuration is built.

    That is words, whole numbers of the model, conditions and exclusions; other parameters stay
    at their default. Of the points of an arm, the one nearest to the defaults comes first.
    """
    choices = _deciding_choices(space)
    return draws.walk(space.params, choices, space.exclude, space.context(arm))


def _deciding_choices(space: Space) -> dict[str, tuple[Value, ...]]:
    deciding = {name for param in space.params for name in param.when}
    deciding.update(name for entry in space.exclude for name in entry)
    return {param.name: _choices(param, decides=param.name in deciding) for param in space.params}


def size_faults(space: Space) -> list[str]:
    """Return that a space has more combinations than can be checked one by one."""
    found, choices = 0, _deciding_choices(space)
    arms: list[str | None] = [arm.name for arm in space.arms] or [None]
    for arm in arms:
        walked = draws.walk(space.params, choices, (), space.context(arm))
        found += sum(1 for _ in islice(walked, MOST_COMBINATIONS + 1 - found))
    if found <= MOST_COMBINATIONS:
        return []
    return [
        "params: words, whole numbers of the model, conditions and exclusions must have at most "
        f"{MOST_COMBINATIONS} combinations; give fewer values, or larger steps"
    ]


def _choices(param: Parameter, *, decides: bool) -> tuple[Value, ...]:
    type_ = PARAMETERS[param.name]
    of_model = param.name in get_type_hints(ModelConfig) and type_ is int
    if not (decides or of_model or type_ is str):
        return (param.start,)
    if param.name in ARM_PARTS:
        return param.points()
    return (param.start, *(value for value in param.points() if value != param.start))


def point_faults(space: Space, params: Mapping[str, object], arm: str | None) -> list[str]:
    """Return what keeps values from being a point of a space."""
    known = {param.name: param for param in space.params}
    active = space.active(params, arm=arm)
    faults = [f"{name}: is missing" for name in active if name not in params]
    for name, value in params.items():
        if name not in known:
            faults.append(unknown("parameter", name, known))
        elif name not in active:
            faults.append(f"{name}: does not exist here: its condition does not hold")
        elif not known[name].contains(value):
            faults.append(f"{name}: {value!r} is outside of the space")
    if not faults and draws.excluded(params, space.exclude):
        faults.append("the combination is left out by [[exclude]]")
    return faults


def sampler_faults(space: Space) -> list[str]:
    """Return why the sampler cannot propose from this space, or not that often."""
    if space.kind == "compare":
        return []
    if space.exclude and space.sampler in ("tpe", "gp"):
        return [
            f"search.sampler: '{space.sampler}' cannot leave out the combinations of "
            "[[exclude]]; use grid, random or qmc, or one space for each part"
        ]
    if space.scheduler == SCREENING and (faults := _screening_faults(space)):
        return faults
    if space.sampler != "grid":
        return []
    continuous = [param.name for param in space.params if param.size is None]
    if continuous:
        return [
            "search.sampler: grid needs a step, or values, for every parameter; continuous: "
            + ", ".join(continuous)
        ]
    cells, most = space.grid_size() or 0, SETTINGS["trials"].high
    if cells > most:
        return [f"search.sampler: a grid must have at most {most} cells, got {cells}"]
    if space.trials > cells:
        return [f"search.trials: the grid has {cells} cells, got trials={space.trials}"]
    return []


def _screening_faults(space: Space) -> list[str]:
    faults = []
    if space.sampler == "gp":
        faults.append(
            "search.sampler: 'gp' learns from trials of full length, and a screening has none "
            "before its end; use tpe, random, qmc or grid, or another scheduler"
        )
    if (epochs := space.context().get("epochs")) is not None and epochs <= SCREENING_EPOCHS:
        faults.append(
            f"search.scheduler: '{SCREENING}' trains what it has screened for {SCREENING_EPOCHS} "
            f"epoch in full, which must be longer; got epochs={epochs}; give more, or "
            "scheduler none"
        )
    return faults


def combination_faults(space: Space) -> list[str]:
    """Return illegal combinations, arms that are equal, and parameters without effect."""
    faults: list[str] = []
    seen: list[_Seen] = []
    digests: dict[str, str] = {}
    arms: list[str | None] = [arm.name for arm in space.arms] or [None]
    for arm in arms:
        illegal: dict[str, str] = {}
        for number, point in enumerate(structures(space, arm)):
            try:
                config = space.configuration(point, arm=arm)
            except ConfigError as error:
                for fault in _parts(error):
                    illegal.setdefault(fault, _where(point, fault, arm))
                continue
            seen.append(_saw(space, point, config))
            twin = digests.setdefault(rules.digest(config), arm or "")
            if arm and not number and twin != arm:
                faults.append(f"arms.{arm}: is the same configuration as arm {twin}")
        faults += _told(illegal, arm)
    if not seen and not faults:
        return ["[[exclude]] leaves out every combination"]
    return faults + _effect_faults(space, seen)


def _parts(error: ConfigError) -> list[str]:
    head, *parts = str(error).split("\n  - ")
    return parts or [head.removeprefix("configuration: ")]


def _where(point: Point, fault: str, arm: str | None) -> str:
    if arm:
        return f"arms.{arm}"
    named = {name: value for name, value in point.items() if re.search(rf"\b{name}\b", fault)}
    return ", ".join(f"{name} = {value}" for name, value in (named or point).items())


def _told(illegal: Mapping[str, str], arm: str | None) -> list[str]:
    remedy = "" if arm else "; leave it out by when, [[exclude]] or fewer values"
    told = [f"{where}: {fault}{remedy}" for fault, where in illegal.items()]
    more = len(told) - _MOST_SHOWN
    return (
        told if more <= 0 else [*told[:_MOST_SHOWN], f"... and {more} more illegal combinations"]
    )


def _saw(space: Space, point: Point, config: TrialConfig) -> _Seen:
    values = config.flat() if space.kind == "compare" else point
    return _Seen(
        values={name: value for name, value in values.items() if name not in space.fixed},
        point=point,
        effective=frozenset(rules.active_parameters(config)),
    )


def _effect_faults(space: Space, seen: list[_Seen]) -> list[str]:
    faults = []
    for param in space.params if seen else ():
        cases = [case for case in seen if param.name in case.point]
        idle = [case for case in cases if param.name not in case.effective]
        if not cases:
            faults.append(f"params.{param.name}: when: never holds")
        elif len(idle) == len(cases):
            faults.append(f"params.{param.name}: changes nothing in this space; leave it out")
        elif idle:
            faults.append(f"params.{param.name}: {_remedy(param.name, cases)}")
    return faults


def _remedy(name: str, cases: list[_Seen]) -> str:
    common = set.intersection(*(set(case.values) for case in cases))
    for other in sorted(common - {name}):
        effective = [case.values[other] for case in cases if name in case.effective]
        idle = [case.values[other] for case in cases if name not in case.effective]
        if not set(effective) & set(idle):
            words = ", ".join(json.dumps(value) for value in dict.fromkeys(effective))
            gone = ", ".join(dict.fromkeys(map(str, idle)))
            return f"changes nothing where {other} is {gone}; add when = {{ {other} = [{words}] }}"
    case = next(case for case in cases if name not in case.effective)
    where = ", ".join(f"{key} = {value}" for key, value in case.point.items())
    return f"changes nothing where {where}; add a when that leaves this out"
