"""A comparison as CSV: every pair of arms, and every record."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

from study.keys import CLASSES
from study.statistics.findings import Comparison, parts_of


def pairs_csv(comparison: Comparison) -> str:
    """Return every pair of arms as CSV: differences with their intervals, by quantity."""
    rows = []
    for pair in comparison.contrasts:
        for quantity, found in pair.estimates.items():
            tested = quantity == parts_of(comparison.objective)[1]
            rows.append(
                [pair.first, pair.second, pair.primary, quantity]
                + [_exact(value) for value in (found.value, found.se, found.low, found.high)]
                + [_exact(value) if tested else "" for value in (pair.p, pair.p_adjusted)]
                + [found.remark]
            )
    header = ["first", "second", "primary", "quantity", "difference", "se", "low", "high"]
    return _csv([*header, "p", "p_adjusted", "remark"], rows)


def records_csv(comparison: Comparison) -> str:
    """Return every record's own scores as CSV, arm by arm."""
    measure, _ = parts_of(comparison.objective)
    header = ["arm", "record", "patient", "fold", *(f"beats_{name}" for name in CLASSES)]
    rows = [
        [row.arm, row.record, row.patient, row.fold]
        + [row.beats[name] for name in CLASSES]
        + [_exact(row.scores[name]) for name in CLASSES]
        for row in comparison.records
    ]
    return _csv([*header, *(f"{measure}_{name}" for name in CLASSES)], rows)


def _exact(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
