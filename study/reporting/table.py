"""Describes a table once and renders it as text, HTML, Markdown, LaTeX, CSV and JSON.

Its cells hold numbers. The kind of a column decides how its numbers are written, so that no two
renderings differ by a digit; CSV and JSON keep the numbers in full.
"""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from html import escape

from study.files import csv_text
from study.statistics.findings import Estimate
from study.wording import UNDEFINED, aligned, capital, grid, p_text, score_text, with_short_names

CAUTION = "*"
"""Marks an interval that has a remark below the table."""

NOT_ESTIMABLE = "not estimable"
"""Remark on a score without an interval; a table abbreviates it to n. e."""

WIDTH = 110
"""Length of a line on a console whose width is not known, in characters."""

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


class Kind(StrEnum):
    """The kind of a column's content, which decides the format and alignment of its numbers."""

    NAME = "name"
    TEXT = "text"
    SCORE = "score"
    """.519; also a mean with its spread, .519 ± .030."""
    INTERVAL = "interval"
    """.519 [.348, .708]; a score where there is no interval."""
    P = "p"
    COUNT = "count"
    """1,234; with digits, 4.5."""
    SHARE = "share"
    """41%."""
    PARAMETER = "parameter"
    """A number with three significant digits, or a word."""


_WORDS = (Kind.NAME, Kind.TEXT)


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean and the sample standard deviation of the values behind it; NaN for a single one."""

    mean: float
    sd: float = math.nan

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return mean and standard deviation of the finite values."""
        finite = [value for value in values if math.isfinite(value)]
        mean = statistics.fmean(finite) if finite else math.nan
        return cls(mean, statistics.stdev(finite) if len(finite) > 1 else math.nan)


Value = str | float | int | Estimate | Spread | None
"""A cell: text is shown unchanged in any column; None and NaN are undefined, "" is empty."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column."""

    heading: str  # its name; a column of intervals is shown with their level
    kind: Kind = Kind.SCORE  # kind of its content
    signed: bool = False  # whether its scores are differences, written with their sign
    digits: int | None = None  # digits of a score or a count; None means 3 and 0
    detail: bool = False  # whether the console leaves it out for lack of width

    @property
    def shown(self) -> str:
        """The heading in a table that people read."""
        return f"{self.heading} [95 %]" if self.kind is Kind.INTERVAL else self.heading

    def text(self, value: Value) -> str:
        """Return how a value is written in this column."""
        if value is None:
            return UNDEFINED
        if isinstance(value, str):
            return value
        if isinstance(value, Estimate):
            return self._interval(value)
        if isinstance(value, Spread):
            spread = f" ± {score_text(value.sd)}" if math.isfinite(value.sd) else ""
            return self._score(value.mean) + spread
        if not math.isfinite(value):
            return UNDEFINED
        if self.kind is Kind.COUNT:
            return f"{value:,.{self.digits or 0}f}"
        if self.kind is Kind.SHARE:
            return f"{value:.0%}"
        if self.kind is Kind.P:
            return p_text(value)
        if self.kind in (*_WORDS, Kind.PARAMETER):
            return f"{value:.3g}" if isinstance(value, float) else str(value)
        return self._score(value)

    def _score(self, value: float) -> str:
        digits = 3 if self.digits is None else self.digits
        return score_text(value, signed=self.signed, digits=digits)

    def _interval(self, estimate: Estimate) -> str:
        value = self._score(estimate.value)
        if not math.isfinite(estimate.low):
            return f"{value} (n. e.)" if estimate.remark else value
        mark = CAUTION if estimate.remark else ""
        return f"{value} [{self._score(estimate.low)}, {self._score(estimate.high)}]{mark}"


def interval_text(estimate: Estimate, *, signed: bool = False) -> str:
    """Return an estimate with its interval for a sentence: .519 [.348, .708]."""
    text = Column("", Kind.INTERVAL, signed=signed).text(estimate)
    return text.replace("n. e.", NOT_ESTIMABLE)


def central(value: Value) -> float | None:
    """Return the number that sorts a cell; None for words and undefined values."""
    if isinstance(value, Estimate | Spread):
        value = value.value if isinstance(value, Estimate) else value.mean
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a sentence on its content and one on how to read it."""

    name: str
    title: str  # its heading
    shows: str  # what it shows
    reading: str  # how to read it
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]  # cells; each row has one for each column
    notes: Sequence[str] = ()  # further remarks for the reader, a sentence each

    @property
    def cells(self) -> list[list[str]]:
        """All cells as text."""
        return [
            [column.text(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]

    @property
    def remarks(self) -> list[str]:
        """The notes, and the remarks on marked intervals."""
        marked = {
            f"{CAUTION} {value.remark}"
            for row in self.rows
            for value in row
            if isinstance(value, Estimate) and value.remark and math.isfinite(value.low)
        }
        return [*self.notes, *sorted(marked)]

    def text(self, width: int = WIDTH) -> str:
        """Return the table for the console, under its explanation, in lines of this width."""
        table = self._without_details()
        stop = "" if self.title.endswith("?") else "."
        words = f"{self.title}{stop} {self.shows} {self.reading}".strip()
        notes = "\n".join(prose(f"note: {note}", width, indent="      ") for note in self.remarks)
        return "\n\n".join(
            part for part in (prose(words, width), table.grid(width), notes) if part
        )

    def grid(self, width: int = WIDTH) -> str:
        """Return headings and cells as monospace text: words to the left, numbers to the right."""
        headings = [column.shown for column in self.columns]
        return grid(headings, self.cells, words=self._words, width=width)

    def renamed(self, names: Mapping[str, str]) -> Table:
        """Return the table with other names of arms."""
        rows = [
            [with_short_names(cell, names) if isinstance(cell, str) else cell for cell in row]
            for row in self.rows
        ]
        return replace(self, rows=rows)

    def markdown(self) -> str:
        """Return the table as GitHub Markdown, under its heading."""
        header = [column.shown for column in self.columns]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *self.cells)]
        # GitHub needs three dashes; the colon puts a column to the right.
        dashes, *lines = aligned([["---"] * len(header), *lines], self._words)
        rule = [
            "-" * len(cell) if column.kind in _WORDS else "-" * (len(cell) - 1) + ":"
            for column, cell in zip(self.columns, dashes, strict=True)
        ]
        body = "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))
        notes = "\n".join(f"- {remark}" for remark in self.remarks)
        parts = [f"## {self.title}", f"{self.shows} {self.reading}".strip(), body, notes]
        return "\n\n".join(part for part in parts if part)

    def latex(self) -> str:
        """Return the table as a LaTeX float with rules of booktabs."""
        sides = "".join("l" if column.kind in _WORDS else "r" for column in self.columns)
        header, *rows = (
            " & ".join(map(_latex, line)) + r" \\"
            for line in ([column.shown for column in self.columns], *self.cells)
        )
        notes = (f"{capital(note)}." for note in self.remarks)
        caption = " ".join(_latex(text) for text in (f"{self.title}.", self.shows, *notes))
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            f"\\caption{{{caption}}}",
            f"\\label{{tab:{self.name}}}",
            f"\\begin{{tabular}}{{{sides}}}",
            *(r"\toprule", header, r"\midrule", *rows, r"\bottomrule"),
            *(r"\end{tabular}", r"\end{table}"),
        ]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the table as HTML; a click on a heading sorts by it."""
        sides = [' class="text"' if column.kind in _WORDS else "" for column in self.columns]
        head = "".join(
            f'<th scope="col"{side} tabindex="0" role="button" '
            f'title="click to sort">{escape(column.shown)}</th>'
            for side, column in zip(sides, self.columns, strict=True)
        )
        body = "\n".join(
            f"<tr>{''.join(map(_html_cell, sides, row, texts))}</tr>"
            for row, texts in zip(self.rows, self.cells, strict=True)
        )
        says = escape(f"{self.shows} {self.reading}".strip())
        notes = "".join(
            f'<p class="note t-note">{escape(capital(note))}.</p>' for note in self.remarks
        )
        return (
            f'<h3>{escape(self.title)}</h3>\n<p class="says">{says}</p>\n'
            f'<div class="scroll" tabindex="0"><table id="table-{escape(self.name)}">'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{notes}"
        )

    def csv(self) -> str:
        """Return the table as CSV with its numbers in full; an interval takes three columns."""
        header, rows = self._exact()
        return csv_text(header, rows)

    def plain(self) -> dict[str, object]:
        """Return the table in JSON's types, with its numbers in full."""
        header, rows = self._exact()
        return {
            "title": self.title,
            "shows": self.shows,
            "reading": self.reading,
            "notes": self.remarks,
            "rows": [dict(zip(header, row, strict=True)) for row in rows],
        }

    @property
    def _words(self) -> list[int]:
        return [index for index, column in enumerate(self.columns) if column.kind in _WORDS]

    def _without_details(self) -> Table:
        essential = [index for index, column in enumerate(self.columns) if not column.detail]
        return replace(
            self,
            columns=[self.columns[index] for index in essential],
            rows=[[row[index] for index in essential] for row in self.rows],
        )

    def _exact(self) -> tuple[list[str], list[list[str | float | int | None]]]:
        """Return headings and cells, with a column for each number of a cell."""
        header: list[str] = []
        rows: list[list[str | float | int | None]] = [[] for _ in self.rows]
        for index, column in enumerate(self.columns):
            parts = [_parts(row[index]) for row in self.rows]
            names = dict.fromkeys(["", *(name for cell in parts for name in cell)])
            header += [column.heading + name for name in names]
            for row, cell in zip(rows, parts, strict=True):
                row += [cell.get(name) for name in names]
        return header, rows


def prose(text: str, width: int = WIDTH, *, indent: str = "") -> str:
    """Return text in lines for the console, all but the first indented."""
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _parts(value: Value) -> dict[str, str | float | int | None]:
    """Return the numbers of a cell, by the suffix of their heading."""
    if isinstance(value, Estimate):
        numbers = {"": value.value, " low": value.low, " high": value.high}
        return {name: central(number) for name, number in numbers.items()}
    if isinstance(value, Spread):
        return {"": central(value.mean), " sd": central(value.sd)}
    return {"": value if isinstance(value, str) else central(value)}


def _html_cell(side: str, value: Value, text: str) -> str:
    number = central(value)
    key = "" if number is None else f' data-key="{number:.6g}"'
    # A name may be broken after its underscores where a column is narrow.
    return f"<td{side}{key}>{escape(text).replace('_', '_<wbr>')}</td>"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
