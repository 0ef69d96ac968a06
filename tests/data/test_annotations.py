"""Annotation files: read without a signal, at the rate they state, each beat once; and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb

from study.data.annotations import merge_doubled, read_annotations, write_annotations
from study.errors import DataError


def test_annotations_of_another_rate_than_the_signal_are_refused(tmp_path: Path) -> None:
    samples, symbols = np.array([100, 300]), ["N", "N"]
    wfdb.wrann("a", "atr", samples, symbol=symbols, fs=250, write_dir=str(tmp_path))
    assert len(read_annotations(tmp_path, "a", sampling_rate_hz=250).beat_samples) == 2
    with pytest.raises(DataError) as caught:
        read_annotations(tmp_path, "a", sampling_rate_hz=360)
    assert caught.value.where == tmp_path / "a.atr"
    assert caught.value.fault == "counts its samples at 250 Hz, but the signal has 360 Hz"


@pytest.mark.parametrize("rate_hz", [128, 257, 360, 499.5])
def test_what_is_written_is_read_back_by_wfdb(tmp_path: Path, rate_hz: float) -> None:
    samples, symbols = np.array([0, 7, 2000, 1_500_000]), np.array(["N", "S", "V", "F"])
    path = write_annotations(
        tmp_path, "p-01", "ecgrr", samples=samples, symbols=symbols, sampling_rate_hz=rate_hz
    )
    assert path == tmp_path / "p-01.ecgrr"
    back = wfdb.rdann(str(tmp_path / "p-01"), "ecgrr")
    np.testing.assert_array_equal(back.sample, samples)
    assert (back.symbol, back.fs) == (symbols.tolist(), rate_hz)


def test_annotations_close_together_are_one_beat_at_the_first() -> None:
    for marks, within, beats, doubled in (
        ("0N 50V 100N", 50, "0N 50V 100N", []),
        ("5N 5V", 0, "5N 5V", []),
        # L (left bundle branch block) and N are of AAMI class N; N and S are not of one class.
        ("0N 100L 100N 300V", 50, "0N 100L 300V", [((100, 100), True)]),
        ("0N 100L 149N 300V", 50, "0N 100L 300V", [((100, 149), True)]),
        ("0N 99S 101N 300V 300V", 50, "0N 99Q 300V", [((99, 101), False), ((300, 300), True)]),
        # Measured from a beat's first annotation, not from its last.
        ("0N 40N 80V 120V", 50, "0N 80V", [((0, 40), True), ((80, 120), True)]),
    ):
        samples = np.array([int(mark[:-1]) for mark in marks.split()])
        symbols = np.array([mark[-1] for mark in marks.split()])
        merged = merge_doubled(samples, symbols, within)
        pairs = zip(merged.beat_samples.tolist(), merged.beat_symbols.tolist(), strict=True)
        assert " ".join(f"{sample}{symbol}" for sample, symbol in pairs) == beats
        assert [(beat.samples, beat.agree) for beat in merged.doubled] == doubled
