"""A strip of one record's ECG with its beats marked by class, drawn to the scale of ECG paper.

It has rows of 10 s at 25 mm/s, under a line that shows their position in the record. Each class
has its own colour and shape. NumPy in, one PNG file out.

Shapes: K beats of the record.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from study.keys import CLASSES, COLOURS
from study.reporting.classified import NO_CLASS, ClassifiedRecord
from study.wording import clock

ROW_S = 10.0
"""Duration of a row."""

MARKERS = (".", "^", "s", "D")
"""One for each class: colour is never the only difference."""

_SPEED_MM_PER_S = 25.0
_GAINS_MM_PER_MV = (10.0, 5.0, 2.5, 1.0)
_LOWEST_ROW_MM, _HIGHEST_ROW_MM = 20.0, 40.0
_MARKER_BAND_MM, _LABEL_BAND_MM = 7.0, 4.0
_LEFT_MM, _RIGHT_MM, _HEAD_MM, _OVERVIEW_MM, _GAP_MM, _FOOT_MM = 16.0, 6.0, 24.0, 12.0, 9.0, 9.0
_BOX_MM = 5.0
_MM_PER_INCH = 25.4
_DPI = 130
_SIZES = (5, 5, 4.5, 4.5)
_GREY = "0.35"


def busiest_start(record: ClassifiedRecord, length_s: float) -> float:
    """Return the start of the stretch with the most S, V and F beats, a whole second.

    It is the earliest of equals, or the record's start without such beats.
    """
    abnormal = record.beats_s[record.decided > CLASSES.index("N")]
    if len(abnormal) == 0:
        return 0.0
    # One second earlier, so that the first of them is not at the edge.
    starts = np.floor(np.clip(abnormal - 1.0, 0.0, max(0.0, record.duration_s - length_s)))
    inside = np.searchsorted(abnormal, starts + length_s) - np.searchsorted(abnormal, starts)
    return float(starts[inside.argmax()])


def draw_strip(
    path: Path, record: ClassifiedRecord, *, start_s: float, length_s: float, title: str
) -> None:
    """Draw a stretch of a record, up to the record's end at most, into a PNG file.

    `title` has two lines at most: record and lead, model.

    Raises:
        ValueError: If it begins outside the record, or has no length.
    """
    if not 0 <= start_s < record.duration_s or not length_s > 0:
        raise ValueError(
            f"a stretch must begin in [0, {record.duration_s:g}) s and have a length, got "
            f"{start_s:g} s and {length_s:g} s"
        )
    stop_s = min(start_s + length_s, record.duration_s)
    starts = np.arange(start_s, stop_s, ROW_S)
    low_mv, high_mv = _range_mv(record, starts, stop_s)
    largest = _HIGHEST_ROW_MM / (high_mv - low_mv)
    gain = next((gain for gain in _GAINS_MM_PER_MV if gain <= largest), largest)
    row_mm = max(_LOWEST_ROW_MM, (high_mv - low_mv) * gain) + _MARKER_BAND_MM
    if record.annotated is not None:
        row_mm, low_mv = row_mm + _LABEL_BAND_MM, low_mv - _LABEL_BAND_MM / gain
    top_mv = low_mv + row_mm / gain
    page = _Page(
        width_mm=_LEFT_MM + ROW_S * _SPEED_MM_PER_S + _RIGHT_MM,
        height_mm=_HEAD_MM + _OVERVIEW_MM + _GAP_MM + len(starts) * row_mm + _FOOT_MM,
    )
    _head(page, record, title)
    _overview(page.axes(_HEAD_MM, _OVERVIEW_MM), record, start_s, stop_s)
    for row, row_s in enumerate(starts):
        axes = page.axes(_HEAD_MM + _OVERVIEW_MM + _GAP_MM + row * row_mm, row_mm)
        axes.set(xlim=(0, ROW_S), ylim=(low_mv, top_mv))
        _paper(axes, clock(row_s), gain)
        _trace(axes, record, row_s, min(row_s + ROW_S, stop_s))
        _beats(axes, record, row_s, min(row_s + ROW_S, stop_s), gain)
    _foot(page, record, gain)
    FigureCanvasAgg(page.figure)
    page.figure.savefig(path, dpi=_DPI, metadata={"Software": None})


class _Page:
    """A figure laid out in millimetres from its upper left corner."""

    def __init__(self, *, width_mm: float, height_mm: float) -> None:
        self.width_mm, self.height_mm = width_mm, height_mm
        self.figure = Figure(figsize=(width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH))

    def axes(self, top_mm: float, height_mm: float) -> Axes:
        """Add axes over the whole width."""
        return self.figure.add_axes(
            (
                _LEFT_MM / self.width_mm,
                1 - (top_mm + height_mm) / self.height_mm,
                ROW_S * _SPEED_MM_PER_S / self.width_mm,
                height_mm / self.height_mm,
            )
        )

    def text(self, x_mm: float, y_mm: float, text: str, **style: object) -> None:
        """Write text; y counts from the top."""
        self.figure.text(
            x_mm / self.width_mm,
            1 - y_mm / self.height_mm,
            text,
            **style,  # type: ignore[arg-type]
        )


def _range_mv(
    record: ClassifiedRecord, starts: NDArray[np.float64], stop_s: float
) -> tuple[float, float]:
    """Return the range of all rows, each around its own median, rounded to half millivolts."""
    rows = [_row(record, s, min(s + ROW_S, stop_s))[1] for s in starts]
    low, high = np.percentile(np.concatenate(rows), [0.05, 99.95])
    return float(np.floor(2 * low - 0.2) / 2), float(np.ceil(2 * high + 0.2) / 2)


def _row(
    record: ClassifiedRecord, start_s: float, stop_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times from the row's start and millivolts around its median."""
    first = round(start_s * record.sampling_rate_hz)
    stop = max(first + 1, round(stop_s * record.sampling_rate_hz))
    signal = record.signal_mv[first:stop].astype(np.float64)
    time_s = np.arange(first, first + len(signal)) / record.sampling_rate_hz - start_s
    return time_s, signal - np.median(signal)


def _head(page: _Page, record: ClassifiedRecord, title: str) -> None:
    page.text(_LEFT_MM, 5, title, fontsize=10, va="top", linespacing=1.4)
    counts = np.bincount(record.decided - NO_CLASS, minlength=len(CLASSES) + 1)
    handles = [_handle(c, f"{name} {counts[c + 1]:,}") for c, name in enumerate(CLASSES)]
    if counts[0]:
        handles.append(_handle(NO_CLASS, f"no class {counts[0]:,}"))
    page.text(_LEFT_MM, 19, "whole record:", fontsize=9, va="center")
    page.figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=((_LEFT_MM + 22) / page.width_mm, 1 - 19 / page.height_mm),
        ncols=len(handles),
        fontsize=9,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
        borderpad=0,
        borderaxespad=0,
    )


def _handle(c: int, label: str) -> Line2D:
    return Line2D([], [], ls="none", label=label, **_style(c))  # type: ignore[arg-type]


def _style(c: int) -> dict[str, object]:
    if c == NO_CLASS:
        return {"marker": "x", "color": _GREY, "ms": 4}
    return {"marker": MARKERS[c], "color": COLOURS[c], "ms": _SIZES[c]}


def _overview(axes: Axes, record: ClassifiedRecord, start_s: float, stop_s: float) -> None:
    """Draw the positions of abnormal beats in the record, and mark the stretch shown."""
    axes.axvspan(start_s / 60, stop_s / 60, color="0.85", lw=0)
    names, minutes, decided = CLASSES[1:], record.beats_s / 60, record.decided
    for row, name in enumerate(names):
        c = CLASSES.index(name)
        here = minutes[decided == c]
        axes.vlines(here, row - 0.4, row + 0.4, color=COLOURS[c], lw=0.6)
    axes.set(xlim=(0, record.duration_s / 60), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(length=2, labelsize=8, pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.text(-0.012, -0.22, "min", transform=axes.transAxes, ha="right", va="center", fontsize=8)


def _paper(axes: Axes, label: str, gain: float) -> None:
    axes.xaxis.set_major_locator(MultipleLocator(1.0))
    axes.xaxis.set_minor_locator(MultipleLocator(0.2))
    axes.yaxis.set_major_locator(MultipleLocator(_BOX_MM / gain))
    axes.grid(which="minor", axis="x", color="#f3e3e3", lw=0.5)
    axes.grid(which="major", axis="y", color="#f3e3e3", lw=0.5)
    axes.grid(which="major", axis="x", color="#e2c4c4", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_color("#e2c4c4")
    axes.text(-0.006, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=9)


def _trace(axes: Axes, record: ClassifiedRecord, start_s: float, stop_s: float) -> None:
    time_s, signal_mv = _row(record, start_s, stop_s)
    axes.plot(time_s, signal_mv, color="0.1", lw=0.7, solid_joinstyle="round")


def _beats(
    axes: Axes, record: ClassifiedRecord, start_s: float, stop_s: float, gain: float
) -> None:
    beats_s, decided = record.beats_s, record.decided
    first, stop = np.searchsorted(beats_s, [start_s, stop_s])
    low, top = axes.get_ylim()
    marker_mv, text_mv = top - 2.0 / gain, top - 3.6 / gain
    for k in range(int(first), int(stop)):
        x, c = float(beats_s[k] - start_s), int(decided[k])
        axes.plot(x, marker_mv, ls="none", **_style(c))  # type: ignore[arg-type]
        if c > CLASSES.index("N"):
            text = f"{CLASSES[c]} {_percent(float(record.probs[k, c]))}"
            axes.text(x, text_mv, text, color=COLOURS[c], fontsize=7, ha="center", va="top")
        own = "" if record.annotated is None else str(record.annotated[k])
        if own and (c == NO_CLASS or own != CLASSES[c]):
            axes.text(
                x, low + 0.8 / gain, own, color="0.2", fontsize=8, ha="center", weight="bold"
            )


def _percent(probability: float) -> str:
    return f".{min(99, int(100 * probability)):02}"


def _foot(page: _Page, record: ClassifiedRecord, gain: float) -> None:
    note = (
        f"{_SPEED_MM_PER_S:g} mm/s, {gain:g} mm/mV; lines at 0.2 s, 1 s and {_BOX_MM / gain:g} "
        "mV; each row around its median. Beside a mark: class and probability."
    )
    if record.annotated is not None:
        note += " Letter below: the record's own label where it differs."
    page.text(_LEFT_MM, page.height_mm - 4, note, fontsize=8, color=_GREY, va="center")
