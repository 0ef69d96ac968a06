"""Formats scores, counts with nouns and lists, the same in every table and sentence."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

UNDEFINED = "-"
"""Stands for a value that does not exist or is NaN."""


SYNTHETIC = "these records are SYNTHETIC: the figures say nothing about patients"
"""Shown with all figures of synthetic records."""

SYNTHETIC_MODEL = "trained on SYNTHETIC records: its classes say nothing about patients"
"""Shown with every model trained only on synthetic records."""


_TRAINED_ON = {"mitdb": "MIT-BIH's DS1", "synthetic": "a SYNTHETIC DS1", "records": "its study"}


def trained_on(n_records: int, kind: str, development: str = "mitdb") -> str:
    """Name the training records, of a kind; `development` says what synthetic ones stand for."""
    words = _TRAINED_ON.get(kind, kind)
    if kind == "synthetic" and development != "mitdb":
        words = f"a SYNTHETIC {development}"
    return f"all {n_records} records of {words}"


def score_text(value: float, *, signed: bool = False, digits: int = 3) -> str:
    """Return a score without the zero before its point: .519, 1.000, +.023.

    What rounds to -.000 is .000; +.000 says that a difference is above 0.
    """
    if not math.isfinite(value):
        return UNDEFINED
    if value <= 0 and round(value, digits) == 0:
        value, signed = 0.0, False
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def p_text(value: float) -> str:
    """Return a p value: .012, or <.001."""
    return "<.001" if value < 0.001 else score_text(value)


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: 1 trial, 2 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def first_few(words: Iterable[str], most: int = 3) -> str:
    """Return the first words and how many more there are: a, b, c and 75 more."""
    every = list(words)
    if len(every) <= most + 1:
        return listing(every)
    return f"{', '.join(every[:most])} and {len(every) - most:,} more"


def without_shared_parts(names: Iterable[str], separator: str = " / ") -> dict[str, str]:
    """Return names without the parts that all of them have: opt1 / daeac / film is opt1 / film.

    That RR is real is left out too: a name says where it is not. Names stay as they are where one
    would lose every part, or no longer differ from another.
    """
    parts = {name: name.split(separator) for name in names}
    shared = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    shared.add("real")
    short = {
        name: separator.join(part for part in own if part not in shared)
        for name, own in parts.items()
    }
    return short if len({*short.values(), ""}) > len(short) else {name: name for name in parts}


def aligned(rows: Sequence[Sequence[str]], words: Container[int]) -> list[list[str]]:
    """Return the cells of a table, each as wide as its column.

    Words are put to the left, in the columns of these indices; numbers to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [
            cell.ljust(width) if index in words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
