"""Faults that need a whole space: illegal combinations, parameters that change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from study.config import TrialConfig
from study.errors import ConfigError, unknown
from study.models import rules
from study.models.backbone import BACKBONES
from study.models.fusion import FUSIONS
from study.spaces.draws import Point
from study.spaces.entries import values_faults
from study.spaces.settings import SAMPLED, SCREENING, SCREENING_EPOCHS, SETTINGS
from study.spaces.space import Space

MOST_COMBINATIONS = 20_000
"""Combinations that decide how a network is built: each is checked when a space is loaded."""

_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _LegalPoint:
    """A legal point, the values that conditions can use there, and the active parameters."""

    values: Mapping[str, Any]
    point: Point
    active: frozenset[str]


_TABLES: Mapping[str, Mapping[str, object]] = {"fusion": FUSIONS, "backbone": BACKBONES}


def with_class_faults(name: str, value: object) -> list[str]:
    """Return the faults of a parameter of this name and value; names of classes must exist."""
    faults = values_faults(name, value)
    if name in _TABLES and not faults and value not in _TABLES[name]:
        fault = unknown("value", str(value), _TABLES[name])
        return [f"{name}: {fault} That of a plug-in needs --plugin FILE."]
    return faults


def space_faults(space: Space, *, sampler: bool = True) -> list[str]:
    """Return the faults of a whole space; with `sampler`, those of its settings too."""
    if faults := _size_faults(space):
        return faults
    of_settings = sampler_faults(space) + partition_faults(space) if sampler else []
    return combination_faults(space) + of_settings


def _arms(space: Space) -> list[str | None]:
    return [arm.name for arm in space.arms] or [None]


def _size_faults(space: Space) -> list[str]:
    """Return the fault that a space has more combinations than can be checked one by one."""
    n_combinations = 0
    for arm in _arms(space):
        rest = islice(space.structures(arm, excluded=True), MOST_COMBINATIONS + 1 - n_combinations)
        n_combinations += sum(1 for _ in rest)
    if n_combinations <= MOST_COMBINATIONS:
        return []
    return [
        "params: words, whole numbers of the model, conditions and exclusions must have at most "
        f"{MOST_COMBINATIONS} combinations; give fewer values, or larger steps"
    ]


def sampler_faults(space: Space) -> list[str]:
    """Return why the sampler cannot propose from this space, or not as many trials."""
    if space.kind == "compare":
        return []
    if space.exclude and space.sampler in SAMPLED:
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


def partition_faults(space: Space) -> list[str]:
    """Return why seeds cannot be shared out evenly over partitions into folds."""
    if isinstance(space.folds, str) and space.partitions > 1:
        return [f"partitions: must be 1 with folds '{space.folds}', got {space.partitions}"]
    if space.seeds % space.partitions:
        return [
            f"seeds: must be a multiple of partitions, which is {space.partitions}, as each seed "
            f"has the folds of one; got {space.seeds}"
        ]
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
            f"epoch in full, which must be longer; got epochs={epochs}; give more, take "
            "--scheduler none, or --quick for a rehearsal"
        )
    return faults


def combination_faults(space: Space) -> list[str]:
    """Return illegal combinations, arms that are equal, and parameters without effect."""
    faults: list[str] = []
    legal: list[_LegalPoint] = []
    digests: dict[str, str] = {}
    for arm in _arms(space):
        illegal: dict[str, str] = {}
        for number, point in enumerate(space.structures(arm)):
            try:
                config = space.configuration(point, arm=arm)
            except ConfigError as error:
                for fault in _parts(error):
                    illegal.setdefault(fault, _where(point, fault, arm))
                continue
            legal.append(_legal_point(space, point, config))
            trained_on = space.test.development_of(arm) if space.test and arm else ""
            twin = digests.setdefault(f"{rules.digest(config)} {trained_on}", arm or "")
            if arm and not number and twin != arm:
                faults.append(f"arms.{arm}: is the same configuration as arm {twin}")
        faults += _illegal_faults(illegal, arm)
    if not legal and not faults:
        return ["[[exclude]] leaves out every combination"]
    return faults + _effect_faults(space, legal)


def _parts(error: ConfigError) -> list[str]:
    head, *parts = str(error).split("\n  - ")
    return parts or [head.removeprefix("configuration: ")]


def _where(point: Point, fault: str, arm: str | None) -> str:
    if arm:
        return f"arms.{arm}"
    named = {name: value for name, value in point.items() if re.search(rf"\b{name}\b", fault)}
    return ", ".join(f"{name} = {value}" for name, value in (named or point).items())


def _illegal_faults(illegal: Mapping[str, str], arm: str | None) -> list[str]:
    remedy = "" if arm else "; leave it out by when, [[exclude]] or fewer values"
    faults = [f"{where}: {fault}{remedy}" for fault, where in illegal.items()]
    more = len(faults) - _MOST_SHOWN
    if more <= 0:
        return faults
    return [*faults[:_MOST_SHOWN], f"... and {more} more illegal combinations"]


def _legal_point(space: Space, point: Point, config: TrialConfig) -> _LegalPoint:
    values = config.flat() if space.kind == "compare" else point
    return _LegalPoint(
        values={name: value for name, value in values.items() if name not in space.fixed},
        point=point,
        active=frozenset(rules.active_parameters(config)),
    )


def _effect_faults(space: Space, legal: list[_LegalPoint]) -> list[str]:
    faults = []
    for param in space.params if legal else ():
        cases = [case for case in legal if param.name in case.point]
        effective, idle = _split(space, param.name, cases)
        if not cases:
            faults.append(f"params.{param.name}: when: never holds")
        elif not effective:
            faults.append(f"params.{param.name}: changes nothing in this space; leave it out")
        elif idle:
            faults.append(f"params.{param.name}: {_remedy(param.name, effective, idle)}")
    return faults


def _split(
    space: Space, name: str, cases: list[_LegalPoint]
) -> tuple[list[_LegalPoint], list[_LegalPoint]]:
    """Return the points where a parameter has an effect, and those where it changes nothing.

    A value that stands for 'off', such as template none, is no active parameter. It has an effect
    where another value is active beside the same values of all that does not depend on it.
    """
    own = {name}
    for param in space.params:  # conditions first
        if own & param.when.keys():
            own.add(param.name)
    beside = [
        frozenset(pair for pair in case.values.items() if pair[0] not in own) for case in cases
    ]
    with_effect = {
        values for values, case in zip(beside, cases, strict=True) if name in case.active
    }
    effective = [case for values, case in zip(beside, cases, strict=True) if values in with_effect]
    idle = [case for values, case in zip(beside, cases, strict=True) if values not in with_effect]
    return effective, idle


def _remedy(name: str, effective: list[_LegalPoint], idle: list[_LegalPoint]) -> str:
    common = set.intersection(*(set(case.values) for case in effective + idle))
    for other in sorted(common - {name}):
        with_ = [case.values[other] for case in effective]
        without = [case.values[other] for case in idle]
        if not set(with_) & set(without):
            words = ", ".join(json.dumps(value) for value in dict.fromkeys(with_))
            gone = ", ".join(dict.fromkeys(map(str, without)))
            return f"changes nothing where {other} is {gone}; add when = {{ {other} = [{words}] }}"
    where = ", ".join(f"{key} = {value}" for key, value in idle[0].point.items())
    return f"changes nothing where {where}; add a when that leaves this out"
