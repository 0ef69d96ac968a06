"""What no space file needs, refused before it can take the loader's time or break a message.

The bounds are far above any space of this project. Without them a short file could nest tables
beyond what Python prints, hold numbers that it refuses to print, or take hours to check.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

MOST_CHARACTERS, LONGEST_LINE = 100_000, 2_000
MOST_COMBINATIONS = 20_000
"""Combinations that decide how a network is built; each is checked when a space is loaded."""
MOST_TRIALS = 10_000
"""Trials of a comparison."""
MOST_STEPS = 1_000_000
"""Steps of a range."""
_DEEPEST = 8
_LARGEST = 2**63


def parsed(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the TOML of a text, or an empty table and why it cannot be used."""
    if len(text) > MOST_CHARACTERS:
        return {}, [f"must have at most {MOST_CHARACTERS} characters, got {len(text)}"]
    for number, line in enumerate(text.splitlines(), start=1):
        # `tomllib` takes the square of the number of parts of a dotted key.
        if len(line) > LONGEST_LINE:
            return {}, [f"line {number}: must have at most {LONGEST_LINE} characters"]
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # also of a number of more than 4300 digits
        return {}, [f"is not TOML: {error}"]
    except RecursionError:
        return {}, ["is not TOML that can be read: it is nested too deeply"]
    faults = _size_faults(data)
    return ({}, faults) if faults else (data, [])


def _size_faults(data: Mapping[str, Any]) -> list[str]:
    """Return what is nested too deeply or too large; nothing of it is printed."""
    faults: dict[str, None] = {}
    waiting: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in data.items()]
    while waiting:
        where, value, depth = waiting.pop()
        if depth > _DEEPEST:
            faults[f"{where}: is nested more than {_DEEPEST} deep"] = None
        elif isinstance(value, Mapping):
            waiting += [(where, item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(where, item, depth + 1) for item in value]
        elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            faults[f"{where}: holds a whole number beyond 64 bits"] = None
    return list(faults)
