"""Formats scores, counts with nouns and lists, the same in every table and sentence."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

_NARROWEST = 24
"""Characters that a wrapped column of words in a table needs at least."""

Rows = Sequence[Sequence[str]]

UNDEFINED = "-"
"""Stands for a value that does not exist or is NaN."""


SYNTHETIC = "these records are SYNTHETIC: the figures say nothing about patients"
"""Shown with all figures of synthetic records."""

REHEARSED = "this was a REHEARSAL (--quick): its scores mean nothing"
"""Shown with all figures of a rehearsal."""

MADE_UP = "this record is MADE UP: a program drew it, and its classes say nothing about patients"
"""Shown with the classes of a synthetic record."""

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


def clock(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss: 0:42, 12:05, 3:24:00; ? where it is unknown."""
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: 1 trial, 2 trials."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def listing(words: Iterable[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return names of arms without the parts that all of them have, by their full names.

    `real` is left out too: only a placebo's name says what its RR is. All names stay as they are
    if one would lose every part, or no longer differ from another.
    """
    parts = {name: name.split(" / ") for name in names}
    shared = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    shared.add("real")
    short = {
        name: " / ".join(part for part in own if part not in shared) for name, own in parts.items()
    }
    return short if len({*short.values(), ""}) > len(short) else {name: name for name in parts}


def with_short_names(text: str, names: Mapping[str, str]) -> str:
    """Return a text with short names in the place of full ones."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def first_few(words: Iterable[str], most: int = 3) -> str:
    """Return the first words and how many more there are: a, b, c and 75 more."""
    every = list(words)
    if len(every) <= most + 1:
        return listing(every)
    return f"{', '.join(every[:most])} and {len(every) - most:,} more"


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


def grid(headings: Sequence[str], cells: Rows, *, words: Container[int], width: int) -> str:
    """Return a table in lines of at most `width` characters, if possible.

    Headings are wrapped at spaces only. Columns that do not fit go below, beside the first column
    again; where a single column of words is too wide, its cells are wrapped.

    `words` are the indices of the columns of words, which stand to the left.
    """
    columns = [list(column) for column in zip(headings, *cells, strict=True)]
    blocks = _blocks(columns, width)
    texts = []
    for block in blocks:
        chosen = [columns[index] for index in block]
        own = [place for place, index in enumerate(block) if index in words]
        texts.append("\n".join(_lines(chosen, own, width)))
    return "\n\n".join(texts)


def _blocks(columns: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Return the columns of each block by their index."""
    if _width_of(columns, wrapped=False) <= width:
        return [list(range(len(columns)))]
    blocks = [[0]]
    for index in range(1, len(columns)):
        block = [*blocks[-1], index]
        if len(blocks[-1]) > 1 and _width_of([columns[i] for i in block], wrapped=True) > width:
            block = [0, index]
            blocks.append(block)
        blocks[-1] = block
    return blocks


def _width_of(columns: Sequence[Sequence[str]], *, wrapped: bool) -> int:
    return sum(_column_width(column, wrapped=wrapped) for column in columns) + 2 * len(columns) - 2


def _column_width(column: Sequence[str], *, wrapped: bool) -> int:
    heading, *cells = column
    own = max(map(len, heading.split() or [""])) if wrapped else len(heading)
    return max([own, *map(len, cells)])


def _lines(columns: Sequence[Sequence[str]], words: Container[int], width: int) -> Iterator[str]:
    """Yield the lines of one block."""
    wrapped = _width_of(columns, wrapped=False) > width
    widths = [_column_width(column, wrapped=wrapped) for column in columns]
    if (over := sum(widths) + 2 * len(widths) - 2 - width) > 0:
        longest = max((i for i in range(len(widths)) if i in words), key=lambda i: widths[i])
        widths[longest] = max(_NARROWEST, widths[longest] - over)
    rows = []
    for number, row in enumerate(zip(*columns, strict=True)):
        cells = [
            textwrap.wrap(cell, size, break_long_words=False) or [""]
            for cell, size in zip(row, widths, strict=True)
        ]
        depth = max(map(len, cells))
        rows += [
            [cell[line] if line < len(cell) else "" for cell in cells] for line in range(depth)
        ]
        if number == 0:
            n_headings = depth
    lines = aligned(rows, words)
    lines.insert(n_headings, ["-" * len(cell) for cell in lines[0]])
    for line in lines:
        yield "  ".join(line).rstrip()
