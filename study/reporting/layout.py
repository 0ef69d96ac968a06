"""How tables and their numbers are laid out: plain monospace text or GitHub markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

UNDEFINED = "-"
"""What stands for a value that does not exist or is NaN."""


def number(value: float) -> str:
    """Return a score with three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else UNDEFINED


def short(value: float, *, signed: bool = False, digits: int = 3) -> str:
    """Return a score without the zero before its point: .519, 1.000, +.023."""
    if not math.isfinite(value):
        return UNDEFINED
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def plus_minus(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation; of one value, the value alone."""
    if not values:
        return UNDEFINED
    mean = number(statistics.fmean(values))
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Return a table: the first column to the left, all others to the right.

    Args:
        header: Column names.
        rows: Cells; a row has as many as the header.
        markdown: A GitHub table instead of plain monospace text.
    """
    lines = [list(header), *(list(row) for row in rows)]
    if markdown:
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    if markdown:
        # GitHub needs three dashes, the colon puts a column to the right.
        widths = [max(width, 3) for width in widths]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in [lines[0], rule, *lines[1:]]
    ]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in aligned)
    return "\n".join("  ".join(line).rstrip() for line in aligned)
