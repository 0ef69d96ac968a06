"""What a page consists of: sections of tables, figures and notes, free of any file format.

A section is written once. `study.reporting.page.html` makes the page of it, and
`study.reporting.page.formats` the tables in Markdown, LaTeX, CSV and JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from study.reporting.layout import UNDEFINED, short


class Tone(StrEnum):
    """How a note is meant."""

    PLAIN = "plain"
    MISSING = "missing"
    """Something is not there; the text says why."""
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Args:
        text: As shown.
        value: What it is sorted by, and what CSV and JSON keep; None takes the text.
    """

    text: str
    value: float | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a sentence on what it shows and one on how to read it.

    Args:
        name: Name of its files, such as `ranking`.
        title: Its heading.
        shows: What it shows.
        reading: How to read it.
        header: Column names; the first column is text.
        rows: Cells; a row has as many as the header.
        text_columns: Further columns that are text, by index.
    """

    name: str
    title: str
    shows: str
    reading: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    text_columns: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels with a sentence on what they show and one on how to read them.

    Args:
        name: Anchor, such as `forest`.
        title: Its heading.
        shows: What it shows.
        reading: How to read it.
        panels: SVG elements, laid side by side where there is room.
        legend: Names of the series, in the order of their colours; an empty one is left out.
        wide: One panel that keeps its size, and is scrolled where there is no room.
    """

    name: str
    title: str
    shows: str
    reading: str
    panels: Sequence[str]
    legend: Sequence[str] = ()
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph.

    Args:
        text: Plain text.
        tone: How it is meant.
    """

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Facts:
    """Short answers: a label, a large value, and what is to be known with it, each.

    Args:
        items: Triples of plain text.
    """

    items: Sequence[tuple[str, str, str]]


Block = Table | Figure | Note | Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page.

    Args:
        anchor: What links to it.
        title: Its heading.
        blocks: What is in it.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


def text(value: object) -> Cell:
    """Return a cell of text; nothing is shown as undefined."""
    return Cell(UNDEFINED if value is None or value == "" else str(value))


def score(value: float, *, signed: bool = False, digits: int = 3) -> Cell:
    """Return a cell of a score, without the zero before its point."""
    shown = short(value, signed=signed, digits=digits)
    return Cell(shown, value if math.isfinite(value) else None)


def count(value: float | None, *, digits: int = 0) -> Cell:
    """Return a cell of a number with thousands separated."""
    if value is None or not math.isfinite(value):
        return Cell(UNDEFINED)
    return Cell(f"{value:,.{digits}f}", value)


def missing(what: str, why: str) -> Note:
    """Say that something is not there, and why."""
    return Note(f"{what}: {why}", Tone.MISSING)
