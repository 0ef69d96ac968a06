"""Small panels as SVG, with colours from the page's style, light or dark.

A panel is 340 units wide and about as many pixels, even on a phone, so that its text stays
legible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike

from study.reporting.table import interval_text
from study.statistics.findings import Estimate

WIDTH = 340

_LABELS = 38.0
"""Units to the left of a panel, for the labels of its vertical axis."""

_LINE = 13
"""Distance between two whiskers of a row, in units."""

_NAME = 15
"""Height of a row's name, in units."""

_LONGEST = 27
"""Longest name beside a row, in characters."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """A point with a line between two ends; the ends may be missing."""

    value: float
    low: float
    high: float
    tip: str

    @classmethod
    def of(cls, estimate: Estimate, name: str, *, signed: bool = False) -> Whisker:
        """Return an estimate with its interval; the tip has its name and figures."""
        tip = f"{name}: {interval_text(estimate, signed=signed)}"
        return cls(value=estimate.value, low=estimate.low, high=estimate.high, tip=tip)

    def svg(self, at: Callable[[float], float], y: float, series: int) -> str:
        """Return it at a height; `at` gives the horizontal position of a value."""
        line = point = ""
        if math.isfinite(self.low):
            ends = f"M{at(self.low):.1f} {y}H{at(self.high):.1f}"
            line = f'<path class="whisker s{series}" d="{ends}"/>'
        if math.isfinite(self.value):
            point = (
                f'<circle class="f{series}" cx="{at(self.value):.1f}" cy="{y}" r="4">'
                f"{hover(self.tip)}</circle>"
            )
        return line + point


@dataclass(slots=True, kw_only=True)
class Panel:
    """One set of axes.

    `height` is in units; ticks given as None are computed.
    """

    x: Range
    y: Range
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    height: int = 230
    x_ticks: Sequence[float] | None = None
    y_ticks: Sequence[float] | None = None
    _parts: list[str] = field(default_factory=list)

    @property
    def _box(self) -> tuple[float, float, float, float]:
        top = 32 if self.title else 16
        return _LABELS, top, WIDTH - 8.0, self.height - 34.0

    def at_x(self, value: float) -> float:
        """Return a value's horizontal position."""
        left, _, right, _ = self._box
        return scale(self.x, (left, right))(value)

    def at_y(self, value: float) -> float:
        """Return a value's vertical position."""
        _, top, _, bottom = self._box
        return bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (bottom - top)

    def line(self, x: ArrayLike, y: ArrayLike, *, style: str = "line s0") -> None:
        """Draw a line through points, broken where a point is not finite."""
        pieces, pen = [], "M"
        for a, b in zip(np.asarray(x, float), np.asarray(y, float), strict=True):
            if math.isfinite(a) and math.isfinite(b):
                pieces.append(f"{pen}{self.at_x(a):.1f} {self.at_y(b):.1f}")
                pen = "L"
            else:
                pen = "M"
        if pieces:
            self._parts.append(f'<path class="{style}" d="{"".join(pieces)}"/>')

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, series: int) -> None:
        """Fill between two lines; points that are not finite are left out."""
        edges = np.stack([np.asarray(values, float) for values in (x, low, high)])
        xs, lows, highs = edges[:, np.isfinite(edges).all(axis=0)]
        if len(xs) < 2:
            return
        there = [f"{self.at_x(a):.1f} {self.at_y(b):.1f}" for a, b in zip(xs, highs, strict=True)]
        back = [
            f"{self.at_x(a):.1f} {self.at_y(b):.1f}"
            for a, b in zip(xs[::-1], lows[::-1], strict=True)
        ]
        self._parts.append(f'<path class="band f{series}" d="M{"L".join(there + back)}Z"/>')

    def dot(
        self, x: float, y: float, *, style: str = "f0", radius: float = 3, tip: str = ""
    ) -> None:
        """Draw a point."""
        if math.isfinite(x) and math.isfinite(y):
            self._parts.append(
                f'<circle class="{style}" cx="{self.at_x(x):.1f}" cy="{self.at_y(y):.1f}" '
                f'r="{radius}">{hover(tip)}</circle>'
            )

    def level(self, y: float, words: str = "") -> None:
        """Draw a horizontal line across the panel."""
        left, _, right, _ = self._box
        if not self.y[0] <= y <= self.y[1]:
            return
        self._parts.append(f'<path class="mark" d="M{left} {self.at_y(y):.1f}H{right}"/>')
        if words:
            self.words(left + 3, self.at_y(y) - 3, words, soft=True)

    def words(
        self, x: float, y: float, text: str, *, anchor: str = "start", soft: bool = False
    ) -> None:
        """Write text at a position in units."""
        kind = "over soft" if soft else "over"
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """Return the element."""
        left, top, right, bottom = self._box
        frame = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>']
        for value in ticks(self.x) if self.x_ticks is None else self.x_ticks:
            x = self.at_x(value)
            frame.append(tick_svg(value, x, f"M{x:.1f} {top}V{bottom}", bottom))
        for value in ticks(self.y) if self.y_ticks is None else self.y_ticks:
            at = f"{self.at_y(value):.1f}"
            frame.append(f'<path class="grid" d="M{left} {at}H{right}"/>')
            frame.append(
                f'<text class="soft" x="{left - 4}" y="{self.at_y(value) + 4:.1f}" '
                f'text-anchor="end">{shown(value)}</text>'
            )
        words = [f'<text class="head" x="0" y="11">{escape(self.title)}</text>' * bool(self.title)]
        if self.y_label:
            words.append(f'<text class="soft" x="0" y="{top - 6}">{escape(self.y_label)}</text>')
        if self.x_label:
            words.append(
                f'<text class="soft" x="{right}" y="{bottom + 28}" text-anchor="end">'
                f"{escape(self.x_label)}</text>"
            )
        inner = "".join([*frame, *self._parts, *words])
        return element(inner, self.height, describe=self.title)


def element(inner: str, height: float, *, describe: str, width: float = WIDTH) -> str:
    """Return an SVG element; `describe` is its description for screen readers."""
    size = f'width="{width:g}" height="{height:g}" ' if width > WIDTH else ""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" {size}role="img" '
        f'aria-label="{escape(describe)}">{inner}</svg>'
    )


def whiskers(title: str, rows: Sequence[tuple[str, Sequence[Whisker]]], *, kind: str) -> str:
    """Return a panel of named rows with whiskers around 0; a row's whiskers differ in colour."""
    ends = [v for _, marks in rows for w in marks for v in (w.value, w.low, w.high)]
    x = span(ends, around=0.0)
    left, right, top = 6.0, WIDTH - 6.0, 24.0
    heights = [21 + _LINE * max(1, len(marks)) for _, marks in rows]
    bottom = top + sum(heights) + 4

    at = scale(x, (left, right))

    def upright(value: float) -> str:
        """Return a vertical line at a value, interrupted at the rows' names."""
        borders = pairwise(accumulate(heights, initial=top))
        return "".join(f"M{at(value):.1f} {above + _NAME}V{below}" for above, below in borders)

    parts = [f'<text class="head" x="0" y="11">{escape(title)}</text>']
    for tick in ticks(x, most=5):
        parts.append(tick_svg(tick, at(tick), upright(tick), bottom))
    parts.append(f'<path class="mark" d="{upright(0.0)}"/>')
    y = top
    for (name, marks), height in zip(rows, heights, strict=True):
        parts.append(f'<text class="over" x="2" y="{y + 12}">{escape(name)}</text>')
        for series, mark in enumerate(marks):
            parts.append(mark.svg(at, y + 22 + series * _LINE, series))
        y += height
    return element("".join(parts), bottom + 18, describe=f"{kind} of {title}")


def row_label(name: str, longest: int = _LONGEST) -> str:
    """Return a name that fits beside a row, in at most so many characters."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def scale(ends: Range, sides: Range) -> Callable[[float], float]:
    """Return a function from values in a range to positions between two sides."""
    (low, high), (left, right) = ends, sides
    return lambda value: left + (value - low) / (high - low) * (right - left)


def tick_svg(value: float, x: float, line: str, bottom: float) -> str:
    """Return a tick of a horizontal axis: its line through the panel, and its label below."""
    return (
        f'<path class="grid" d="{line}"/><text class="soft" x="{x:.1f}" y="{bottom + 13}" '
        f'text-anchor="middle">{shown(value)}</text>'
    )


def ticks(ends: Range, *, most: int = 6) -> list[float]:
    """Return round tick values within a range, from its lower end."""
    low, high = ends
    if not high > low:
        return [low]
    step: float = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def span(values: Sequence[float], *, around: float | None = None, pad: float = 0.06) -> Range:
    """Return a range that covers all finite values and `around`, widened at both ends by `pad`."""
    finite = [value for value in values if math.isfinite(value)]
    finite += [] if around is None else [around]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high - low) * pad or 0.05
    return low - room, high + room


def shown(value: float) -> str:
    """Return the label of a tick: .2, 1, -.05."""
    text = f"{value:.6g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def hover(text: str) -> str:
    """Return the text that shows while the pointer is on an element."""
    return f"<title>{escape(text)}</title>" if text else ""
