"""How the class of a fusion or a backbone declares its options.

An option that several classes share is a parameter of `study.config.ModelConfig`, and a class
names it. An option of its own is declared as an `Option`, in the class, and nowhere else: spaces,
checks and tables read it from the parameters of `study.config`, to which `declare` adds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

from study.config import CHOICES, LIMITS, OWN_OPTIONS, PARAMETERS, ModelConfig
from study.errors import ConfigError, listed, unknown

SHARED = {item.name for item in fields(ModelConfig)} - {"fusion", "backbone", "rr_scale", "own"}
"""Names of the options that several classes share."""

_TAKEN = {"n_rr", "features", "channels", "name", "placebo"}
"""What constructors are given beside options, and keys of an arm in a space file."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option that only one class has: a number between inclusive bounds, or one of some words.

    The type of the default is that of every value: 8 is for whole numbers, 8.0 for any.
    """

    name: str
    default: str | int | float
    low: float = 0.0
    high: float = 0.0
    words: tuple[str, ...] = ()


class Declares:
    """Base of classes with options: fusions and backbones.

    Attributes:
        options: Its options: an `Option` of its own, or the name of one that several classes
            share, a parameter of `study.config.ModelConfig`. Its constructor takes them all.
    """

    options: ClassVar[Collection[str | Option]] = ()


def names_of(class_: type[Declares]) -> frozenset[str]:
    """Return the names of a class's options, shared ones included."""
    return frozenset(o.name if isinstance(o, Option) else o for o in class_.options)


def own_options(classes: Iterable[type[Declares]]) -> list[Option]:
    """Return the options that are not shared, each once: a class may inherit one."""
    own = (o for class_ in classes for o in class_.options if isinstance(o, Option))
    return list(dict.fromkeys(own))


def declare(classes: Iterable[type[Declares]]) -> None:
    """Add the options of classes to the parameters, all of them or none.

    Raises:
        ConfigError: If an option is taken, or its bounds, words or default cannot be; all faults
            together.
    """
    classes = list(classes)
    own = own_options(classes)
    faults = [
        f"{class_.__name__}: {unknown('shared option', name, SHARED)}"
        for class_ in classes
        for name in sorted({o for o in class_.options if isinstance(o, str)} - SHARED)
    ]
    names = [option.name for option in own]
    for option in own:
        if option.name in PARAMETERS or names.count(option.name) > 1:
            faults.append(
                f"{option.name}: is the name of another parameter; choose one of its own"
            )
        else:
            faults += _faults(option)
    if faults:
        raise ConfigError(listed("options", faults))
    for option in own:
        PARAMETERS[option.name] = type(option.default)
        OWN_OPTIONS[option.name] = option.default
        if option.words:
            CHOICES[option.name] = option.words
        else:
            LIMITS[option.name] = (option.low, option.high)


def _faults(option: Option) -> list[str]:
    """Return what is wrong with an option that a class declares."""
    name, default = option.name, option.default
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name) or name in _TAKEN:
        taken = ", ".join(sorted(_TAKEN))
        return [f"{name!r}: an option's name is a-z, 0-9 and _, and none of {taken}"]
    if isinstance(default, str):
        if default in option.words:
            return []
        return [f"{name}: default must be one of words, got {default!r} and {option.words!r}"]
    if isinstance(default, bool) or not isinstance(default, (int, float)) or option.words:
        return [f"{name}: default must be a number, or one of words; got {default!r}"]
    bounds = (option.low, option.high)
    if not (all(map(math.isfinite, bounds)) and option.low <= default <= option.high):
        return [f"{name}: `low <= default <= high` must hold, got {option}"]
    return []
