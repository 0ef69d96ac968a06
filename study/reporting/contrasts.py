"""The paired differences that a compare space declares.

Two arms share draws, folds and seeds. Their difference is taken within each fold, after the mean
over seeds and draws, so that what makes one fold harder than another drops out. The spread over
folds is shown as such: folds share training patients, so that it is no standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from study.reporting.layout import UNDEFINED, table

Folds = Sequence[Mapping[str, float | None]]
"""A trial's scores by fold, as `scores.json` has them under `per_fold`."""

_CLASSES = ("S", "V")


def contrast_table(
    contrasts: Sequence[tuple[str, str]],
    scores: Mapping[tuple[str, int], Folds],
    *,
    markdown: bool = False,
) -> str:
    """Return a row for each declared contrast, first arm minus second.

    Args:
        contrasts: Pairs of arms.
        scores: Scores by fold of every complete trial, by arm and draw.
        markdown: A GitHub table instead of plain text.
    """
    rows = []
    for first, second in contrasts:
        by_class = [_differences(first, second, scores, f"auprc_{name}") for name in _CLASSES]
        both = [(s + v) / 2 for s, v in zip(*by_class, strict=True) if math.isfinite(s + v)]
        above = f"{sum(d > 0 for d in both)} of {len(both)}" if both else UNDEFINED
        rows.append([f"{first} - {second}", *map(_spread, [both, *by_class]), above])
    heading = "Declared contrasts: paired differences within folds, seeds and draws averaged; "
    note = "mean ± sd over folds, which is a spread and no interval."
    header = ["contrast", "AUPRC S+V", *(f"AUPRC {name}" for name in _CLASSES), "folds above 0"]
    return f"{heading}{note}\n\n{table(header, rows, markdown=markdown)}"


def _differences(
    first: str, second: str, scores: Mapping[tuple[str, int], Folds], name: str
) -> list[float]:
    """Return the difference in each fold, NaN where a fold or an arm has no score."""
    draws = [draw for arm, draw in scores if arm == first and (second, draw) in scores]
    pairs = [(scores[first, draw], scores[second, draw]) for draw in sorted(draws)]
    if not pairs:
        return []
    each = []
    for fold in range(len(pairs[0][0])):
        found = [_minus(a[fold].get(name), b[fold].get(name)) for a, b in pairs]
        each.append(fmean(found))
    return each


def _minus(first: float | None, second: float | None) -> float:
    return math.nan if first is None or second is None else first - second


def _spread(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return UNDEFINED
    return f"{fmean(finite):+.3f}" + (f" ± {stdev(finite):.3f}" if len(finite) > 1 else "")
