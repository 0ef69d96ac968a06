"""The `[params.NAME]` tables of a search space: from parsed TOML to parameters."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from study.config import PARAMETERS, value_faults
from study.errors import unknown
from study.spaces.parameter import Categorical, Parameter, Range, Value, highest

ValueCheck = Callable[[str, object], list[str]]
"""Returns what is wrong with a parameter of a name and value."""

MOST_STEPS = 1_000_000
"""Steps of a range: with more, decimal arithmetic cannot tell whether they lead to its end."""

_LIST_KEYS = ("values", "default", "when")
_RANGE_KEYS = ("low", "high", "step", "log", "default", "when")


def values_faults(name: str, value: object) -> list[str]:
    """Return what is wrong with a parameter of this name and value.

    Any name of a fusion is taken: `study.spaces.checks` knows the table of fusions.
    """
    if name not in PARAMETERS:
        return [unknown("parameter", name, PARAMETERS)]
    return value_faults(name, value, PARAMETERS[name])


def cast(name: str, value: Any) -> Value:
    """Return a checked value in its parameter's type: 1 becomes 1.0 for a float parameter."""
    typed: Value = PARAMETERS[name](value)
    return typed


def parameter(name: str, spec: object, check: ValueCheck) -> tuple[Parameter | None, list[str]]:
    """Return one parameter, conditions left out, and its faults; None if there are any."""
    if name not in PARAMETERS:
        return None, [f"{name}: {unknown('parameter', name, PARAMETERS)}"]
    if not isinstance(spec, Mapping):
        return None, [f"{name}: must be a table with values, or with low and high"]
    known = dict.fromkeys(_LIST_KEYS + _RANGE_KEYS)
    faults = [f"{name}: {unknown('key', key, known)}" for key in spec if key not in known]
    if ("values" in spec) == bool({"low", "high"} & spec.keys()):
        return None, [*faults, f"{name}: needs either values = [...] or low and high"]
    keys = _LIST_KEYS if "values" in spec else _RANGE_KEYS
    faults += [
        f"{name}: {key} does not go with values"
        for key in spec
        if key in known and key not in keys
    ]
    built: Parameter | None
    if "values" in spec:
        built, more = _categorical(name, spec, check)
    else:
        built, more = _range(name, spec)
    return (None, faults + more) if faults or more else (built, [])


def _categorical(
    name: str, spec: Mapping[str, Any], check: ValueCheck
) -> tuple[Categorical | None, list[str]]:
    values = spec["values"]
    if not isinstance(values, list) or not values:
        return None, [f"{name}: values must be a list of at least one value, got {values!r}"]
    faults = [fault for value in values for fault in check(name, value)]
    if faults:
        return None, faults
    options = tuple(cast(name, value) for value in values)
    doubles = sorted(repr(value) for value, times in Counter(options).items() if times > 1)
    if doubles:
        return None, [f"{name}: values must differ, got {', '.join(doubles)} more than once"]
    default = spec.get("default")
    if default is not None and (isinstance(default, bool) or default not in options):
        return None, [f"{name}: default must be one of the values, got {default!r}"]
    default = None if default is None else cast(name, default)
    return Categorical(name=name, values=options, default=default), []


def _range(name: str, spec: Mapping[str, Any]) -> tuple[Range | None, list[str]]:
    if PARAMETERS[name] is str:
        return None, [f"{name}: is a word, not a number: give values = [...]"]
    missing = [key for key in ("low", "high") if key not in spec]
    if missing:
        return None, [f"{name}: {missing[0]} is missing: a range needs low and high"]
    faults = [
        f"{name}: {key}: {fault.removeprefix(f'{name}: ')}"
        for key in ("low", "high")
        for fault in value_faults(name, spec[key], PARAMETERS[name])
    ]
    log = spec.get("log", False)
    if not isinstance(log, bool):
        faults.append(f"{name}: log must be true or false, got {log!r}")
    if faults:
        return None, faults
    low, high = PARAMETERS[name](spec["low"]), PARAMETERS[name](spec["high"])
    integer = PARAMETERS[name] is int
    faults = _bound_faults(name, low, high, log) or _step_faults(name, low, high, spec)
    if faults:
        return None, faults
    step = None if "step" not in spec else PARAMETERS[name](spec["step"])
    built = Range(name=name, low=low, high=high, integer=integer, step=step, log=log)
    return _with_default(built, spec.get("default"))


def _with_default(range_: Range, default: Any) -> tuple[Range | None, list[str]]:
    if default is None:
        return range_, []
    if not range_.contains(default) or (range_.integer and not isinstance(default, int)):
        return None, [f"{range_.name}: default must lie in the range, got {default!r}"]
    return replace(range_, default=range_.snap(default)), []


def _bound_faults(name: str, low: float, high: float, log: bool) -> list[str]:
    if low > high:
        return [f"{name}: `low <= high` must hold, but got low={low} and high={high}"]
    if log and low <= 0:
        return [f"{name}: `low > 0` must hold with log = true, but got low={low}"]
    return []


def _step_faults(name: str, low: float, high: float, spec: Mapping[str, Any]) -> list[str]:
    if "step" not in spec:
        return []
    step, integer = spec["step"], PARAMETERS[name] is int
    if spec.get("log"):
        return [f"{name}: step and log = true exclude each other; leave one of them out"]
    if isinstance(step, bool) or not isinstance(step, int if integer else (int, float)):
        kind = "a whole number" if integer else "a number"
        return [f"{name}: step must be {kind}, got {step!r}"]
    if not 0 < step <= sys.float_info.max:
        return [f"{name}: step must be a finite number above 0, got {step}"]
    if (high - low) / step > MOST_STEPS:
        return [f"{name}: a range must have at most {MOST_STEPS} steps, got step={step}"]
    top = highest(low, high, step)
    if top != high:
        return [
            f"{name}: whole steps must lead from low to high, but got low={low}, high={high} and "
            f"step={step}; the last value below is {top:g}"
        ]
    return []


def with_condition(
    param: Parameter,
    spec: Any,
    params: Mapping[str, Parameter],
    check: ValueCheck,
    *,
    free: bool,
) -> tuple[Parameter, list[str]]:
    """Return a parameter with the `when` that its file says, and what is wrong with that.

    `params` are all searched parameters by name. With `free`, a condition may also refer to a
    parameter that is not searched, as where arms fix it; `check` judges its values.
    """
    where = f"{param.name}: when"
    if not isinstance(spec, Mapping) or not spec:
        return param, [f'{where}: must be a table such as {{ fusion = ["mhca"] }}, got {spec!r}']
    when, faults = {}, []
    for name, values in spec.items():
        own = _condition_faults(name, values, params, check, free=free)
        faults += [f"{where}: {fault}" for fault in own]
        if not own:
            when[name] = tuple(cast(name, value) for value in values)
    return replace(param, when=when), faults


def _condition_faults(
    name: str, values: Any, params: Mapping[str, Parameter], check: ValueCheck, *, free: bool
) -> list[str]:
    if name not in params and not (free and name in PARAMETERS):
        return [unknown("parameter", name, PARAMETERS if free else params)]
    if not isinstance(values, list) or not values:
        return [f"{name}: must be a list of values, got {values!r}"]
    if name not in params:
        return [fault for value in values for fault in check(name, value)]
    other = params[name]
    if isinstance(other, Range):
        return [f"{name}: is a range; only a parameter with values = [...] can be a condition"]
    return [
        f"{name}: {unknown('value', str(value), map(str, other.values))}"
        for value in values
        if not other.contains(value)
    ]


def in_order(params: Iterable[Parameter]) -> tuple[list[Parameter], list[str]]:
    """Return the parameters, conditioning ones before dependent ones, else in given order."""
    waiting, ordered = list(params), list[Parameter]()
    while waiting:
        names = {param.name for param in waiting}
        ready = next((param for param in waiting if not names & param.when.keys()), None)
        if ready is None:
            circle = ", ".join(param.name for param in waiting)
            return [], [f"{waiting[0].name}: when: conditions form a circle among: {circle}"]
        ordered.append(ready)
        waiting.remove(ready)
    return ordered, []
