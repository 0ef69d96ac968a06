"""The strip of a record: which stretch, to which scale, and that any record can be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from study.reporting.classified import ClassifiedRecord
from study.reporting.strip import busiest_start, draw_strip
from tests.builders import classified


def drawn(
    path: Path, record: ClassifiedRecord, start_s: float = 0.0, length_s: float = 60.0
) -> NDArray[np.float32]:
    """Draw a stretch; return the picture, [rows, columns, 4]."""
    draw_strip(path, record, start_s=start_s, length_s=length_s, title="p01\nmodel")
    return np.asarray(imread(path))


@pytest.mark.parametrize(
    ("classes", "length_s", "start_s"),
    [
        ("N" * 60, 10, 0),
        # A second before the first abnormal beat, at 30.5 s.
        ("N" * 30 + "VVV" + "N" * 27, 10, 29),
        # Three beats from 40 s on are more than two from 10 s on; of equals the earlier.
        ("N" * 10 + "SNV" + "N" * 27 + "FVS" + "N" * 17, 10, 39),
        ("N" * 10 + "SNV" + "N" * 27 + "FVN" + "N" * 17, 10, 9),
        ("N" * 57 + "VV-", 10, 50),  # the stretch stays inside the record
    ],
)
def test_the_most_abnormal_stretch_is_found(classes: str, length_s: float, start_s: float) -> None:
    assert busiest_start(classified(classes), length_s) == start_s


def test_a_second_is_25_mm_and_a_millivolt_10_mm_as_on_paper(tmp_path: Path) -> None:
    """A trace of full squares shows as black columns a second apart, 1.5 mV high."""
    signal = np.zeros(round(20 * 250), dtype=np.float32)
    for second in range(1, 19, 2):
        signal[round(second * 250) : round((second + 1) * 250)] = 1.5
    image = drawn(tmp_path / "a.png", classified("-", signal_mv=signal), 0, 10)
    mm = 130 / 25.4  # pixels: 130 dots an inch
    assert image.shape[1] == pytest.approx((16 + 250 + 6) * mm, abs=1)
    row = image[round(50 * mm) :, :, :3].max(axis=2) < 0.3
    edges = np.flatnonzero(row.sum(axis=0) > 1.2 * 10 * mm)
    steps = np.diff(edges)[np.diff(edges) > 5]
    np.testing.assert_allclose(steps, 25 * mm, atol=3)
    height = np.ptp(np.flatnonzero(row[:, edges[0]]))
    assert height == pytest.approx(15 * mm, abs=3)


@pytest.mark.parametrize(
    "record",
    [
        classified("-", duration_s=1.0),
        classified("N" * 10, duration_s=10.0, height_mv=0.0),
        classified("NVN", duration_s=12.3, height_mv=5000.0),
        classified("V" * 10, duration_s=10.0, height_mv=1e-4, annotated="N" * 10),
    ],
    ids=["a second", "flat", "uncalibrated", "tiny"],
)
def test_any_record_can_be_drawn(record: ClassifiedRecord, tmp_path: Path) -> None:
    image = drawn(tmp_path / "a.png", record)
    assert image.shape[0] < 6 * 60 * 130 / 25.4
