"""What is said of a classified record: counts, agreement, the table of beats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from study.data.windows import GAP, GAP_NOTE
from study.reporting.classified import agreement, beat_counts
from tests.builders import classified

EDGE = "first or last beat"


def test_counts_say_why_beats_have_no_class_and_agreement_leaves_them_out() -> None:
    record = classified("-NVSN-", annotated="NNVNQV", duration_s=10.0)
    assert record.duration_s == 10.0
    assert beat_counts(record) == "6 beats: N 2, S 1, V 1, F 0; no class: first or last beat 2"
    gap = np.array([EDGE, "", GAP, GAP, "", EDGE])
    counts, note = beat_counts(replace(record, left_out=gap)).splitlines()
    assert counts.endswith("; no class: first or last beat 2, beside a gap 2")
    assert note == f"note: {GAP_NOTE}"
    labels = agreement(record)
    assert labels is not None and labels.grid().splitlines() == [
        "own label  as N  as S  as V  as F",
        "---------  ----  ----  ----  ----",
        "N             1     1     0     0",
        "V             0     0     1     0",
        "Q             1     0     0     0",
    ]
    assert agreement(replace(record, annotated=None)) is None
