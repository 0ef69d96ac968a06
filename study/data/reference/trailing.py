"""Medians of the last values of a series, not approximated.

Shapes: K values in time order, `...` the axes of one value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LAST = 64
"""Most values that a statistic is of: this one and those before it."""

_BLOCK = 256


def trailing_median(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the median of every value [K, ...] and up to 63 before it, [K, ...]."""
    return _over_last(rows, _median)


def trailing_spread(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the median absolute deviation from `trailing_median` of the same values, [K, ...]."""
    return _over_last(rows, _spread)


def _over_last(rows: NDArray[Any], statistic: Any) -> NDArray[Any]:
    """Apply a statistic of [k, ..., 64] to the last values; it also gets their numbers."""
    if not len(rows):
        return rows
    before = np.full((LAST - 1, *rows.shape[1:]), np.inf, dtype=rows.dtype)
    windows = sliding_window_view(np.concatenate([before, rows]), LAST, axis=0)
    present = np.minimum(np.arange(1, len(rows) + 1), LAST)
    out = np.empty_like(rows)
    for first in range(0, len(rows), _BLOCK):
        block = slice(first, first + _BLOCK)
        out[block] = statistic(windows[block], present[block])
    return out


def _median(windows: NDArray[Any], present: NDArray[np.int64]) -> NDArray[Any]:
    # Missing values are infinite, so that they sort last.
    ordered = np.sort(windows, axis=-1)
    at = present.reshape(-1, *(1,) * (windows.ndim - 1))
    low, high = (np.take_along_axis(ordered, k, axis=-1) for k in ((at - 1) // 2, at // 2))
    return np.asarray(((low + high) / 2)[..., 0])


def _spread(windows: NDArray[Any], present: NDArray[np.int64]) -> NDArray[Any]:
    return _median(np.abs(windows - _median(windows, present)[..., None]), present)
