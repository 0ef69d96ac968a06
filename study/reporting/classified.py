"""A model's classes for the beats of one record, as CSV and as text.

Shapes: K beats of the record, C classes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.data.windows import GAP, GAP_NOTE
from study.files import csv_text
from study.keys import CLASSES
from study.reporting.table import Column, Kind, Table, Value

NO_CLASS = -1
"""Index in place of a class for a beat without one."""

UNCLASSIFIABLE = "Q"
"""Symbol of such a beat; also AAMI's class for beats of unknown class."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassifiedRecord:
    """A record, and a model's output for its beats."""

    name: str  # the record
    lead: str  # the lead that was read
    sampling_rate_hz: float  # samples per second, as recorded
    signal_mv: NDArray[np.float32]  # [samples] of the lead
    samples: NDArray[np.int64]  # [K] sample of each R peak, rising
    probs: NDArray[np.float32]  # [K, C] probabilities; NaN for beats that have none
    left_out: NDArray[np.str_]  # [K] why a beat has no probabilities; empty where it has
    # [K] the record's own class of each beat, one letter; None where it has no annotations, or
    # they were not used
    annotated: NDArray[np.str_] | None

    @property
    def duration_s(self) -> float:
        """Length of the record."""
        return len(self.signal_mv) / self.sampling_rate_hz

    @property
    def beats_s(self) -> NDArray[np.float64]:
        """Times of the R peaks, [K]."""
        return self.samples / self.sampling_rate_hz

    @property
    def decided(self) -> NDArray[np.int64]:
        """Index of the most probable class, [K]; `NO_CLASS` without probabilities."""
        known = np.isfinite(self.probs).all(axis=1)
        return np.where(known, np.nan_to_num(self.probs).argmax(axis=1), NO_CLASS)

    @property
    def symbols(self) -> NDArray[np.str_]:
        """The decided classes as WFDB symbols, [K]: N, S, V, F, or Q for none."""
        return np.array([*CLASSES, UNCLASSIFIABLE])[self.decided]


def beat_counts(record: ClassifiedRecord) -> str:
    """Return a line of beats by decided class, and why other beats have no class."""
    counts = Counter(record.decided.tolist())
    classes = ", ".join(f"{name} {counts[c]}" for c, name in enumerate(CLASSES))
    reasons = Counter(reason for reason in record.left_out.tolist() if reason)
    none = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
    note = f"\nnote: {GAP_NOTE}" if GAP in reasons else ""
    none = f"; no class: {none}" if none else ""
    return f"{len(record.samples)} beats: {classes}{none}{note}"


def agreement(record: ClassifiedRecord) -> Table | None:
    """Return the record's own labels against decided classes; None without labels.

    Beats without a class are left out; class Q has a row only if it has beats.
    """
    if record.annotated is None:
        return None
    decided = record.decided
    rows: list[list[Value]] = []
    for name in (*CLASSES, UNCLASSIFIABLE):
        here = (decided != NO_CLASS) & (record.annotated == name)
        if here.any():
            rows.append([name, *np.bincount(decided[here], minlength=len(CLASSES)).tolist()])
    return Table(
        name="agreement",
        title="Own labels against decided classes",
        shows="Beats by the record's own label, and by the class that the model decided for.",
        reading="One record is no test.",
        columns=[
            Column("own label", Kind.NAME),
            *(Column(f"as {name}", Kind.COUNT) for name in CLASSES),
        ],
        rows=rows,
    )


def beats_csv(record: ClassifiedRecord) -> str:
    """Return one row for each beat: sample, time, class, probabilities or reason, own label."""
    own = [""] * len(record.samples) if record.annotated is None else record.annotated.tolist()
    columns = (record.samples, record.beats_s, record.decided, record.probs, record.left_out)
    rows = []
    for sample, time_s, decided, probs, reason, label in zip(
        *(column.tolist() for column in columns), own, strict=True
    ):
        known = decided != NO_CLASS
        shown = [f"{p:.6f}" if known else "" for p in probs]
        class_ = CLASSES[decided] if known else ""
        rows.append([sample, f"{time_s:.4f}", class_, *shown, reason, label])
    header = ["sample", "time_s", "class", *(f"prob_{name}" for name in CLASSES)]
    return csv_text([*header, "why_none", "own_label"], rows)
