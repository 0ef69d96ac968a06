"""What is said of a classified record: counts, agreement, the table of beats."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np

from study.data.windows import GAP, GAP_NOTE
from study.reporting.classified import (
    NO_CLASS,
    ClassifiedRecord,
    agreement,
    beat_counts,
    beats_csv,
    clock,
)

NONE = [np.nan] * 4
PROBS = [
    NONE,
    [0.7, 0.1, 0.1, 0.1],
    [0.2, 0.1, 0.6, 0.1],
    [0.3, 0.4, 0.2, 0.1],
    [0.5, 0.2, 0.2, 0.1],
    NONE,
]
EDGE = "first or last beat"


def classified(own: str | None = "NNVNQV") -> ClassifiedRecord:
    return ClassifiedRecord(
        name="p01",
        lead="II",
        sampling_rate_hz=250.0,
        signal_mv=np.zeros(2500, dtype=np.float32),
        samples=np.array([100, 300, 500, 700, 900, 1100]),
        probs=np.array(PROBS, dtype=np.float32),
        left_out=np.array([EDGE, "", "", "", "", EDGE]),
        annotated=None if own is None else np.array(list(own)),
    )


def test_the_most_probable_class_is_decided() -> None:
    record = classified()
    assert record.decided.tolist() == [NO_CLASS, 0, 2, 1, 0, NO_CLASS]
    assert "".join(record.symbols) == "QNVSNQ"
    assert record.duration_s == 10.0
    assert record.beats_s[1] == 1.2


def test_counts_say_why_beats_have_no_class_and_agreement_leaves_them_out() -> None:
    assert beat_counts(classified()) == (
        "6 beats: N 2, S 1, V 1, F 0; no class: first or last beat 2"
    )
    gap = np.array([EDGE, "", GAP, GAP, "", EDGE])
    counts, note = beat_counts(replace(classified(), left_out=gap)).splitlines()
    assert counts.endswith("; no class: first or last beat 2, beside a gap 2")
    assert note == f"note: {GAP_NOTE}"
    assert agreement(classified()).splitlines() == [
        "own label  as N  as S  as V  as F",
        "---------  ----  ----  ----  ----",
        "N             1     1     0     0",
        "V             0     0     1     0",
        "Q             1     0     0     0",
    ]
    assert agreement(classified(own=None)) == ""


def test_csv_has_a_row_a_beat() -> None:
    header, *rows = csv.reader(beats_csv(classified()).splitlines())
    assert ",".join(header) == (
        "sample,time_s,class,prob_N,prob_S,prob_V,prob_F,why_none,own_label"
    )
    assert ",".join(rows[0]) == f"100,0.4000,,,,,,{EDGE},N"
    assert ",".join(rows[3]) == "700,2.8000,S,0.300000,0.400000,0.200000,0.100000,,N"
    assert len(rows) == 6
    assert beats_csv(classified(own=None)).splitlines()[2].endswith(",,")


def test_times_are_shown_as_on_a_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 754, 3600 + 61)] == ["0:00", "1:00", "12:34", "1:01:01"]
