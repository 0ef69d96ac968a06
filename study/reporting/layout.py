"""Plain tables of text for the sealed test, until they are tables of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from study.reporting.table import prose


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: the first column to the left, all others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def part(title: str, body: str, below: str = "") -> str:
    """Return a table under the words that say how to read it, and more words below."""
    return "\n\n".join(text for text in (prose(title), body, prose(below)) if text)
