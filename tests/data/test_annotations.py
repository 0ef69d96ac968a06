"""Annotation files: read without a signal, at the rate they state, each beat once; and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import wfdb

from study.data.annotations import (
    Annotations,
    Doubled,
    merge_doubled,
    read_annotations,
    write_annotations,
)
from study.errors import DataError

if TYPE_CHECKING:
    from tests.data.conftest import WriteRecord


def test_annotations_can_be_read_without_a_signal(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    samples = write_record(tmp_path, "a", symbols="NV")
    (tmp_path / "a.dat").unlink()
    annotations = read_annotations(tmp_path, "a")
    np.testing.assert_array_equal(annotations.beat_samples, samples)


def test_beats_annotated_twice_are_taken_once_where_that_is_asked_for(tmp_path: Path) -> None:
    samples, symbols = np.array([100, 300, 310, 600]), ["N", "S", "N", "V"]
    wfdb.wrann("a", "atr", samples, symbol=symbols, fs=128, write_dir=str(tmp_path))
    plain = read_annotations(tmp_path, "a")
    assert plain.beat_symbols.tolist() == symbols
    once = read_annotations(tmp_path, "a", shortest_rr_s=0.2)
    assert once.beat_samples.tolist() == [100, 300, 600]
    assert once.beat_symbols.tolist() == ["N", "Q", "V"]
    assert [beat.samples for beat in once.doubled] == [(300, 310)]
    # 10 samples are 78 ms at 128 Hz: the rate counts, not the samples.
    assert len(read_annotations(tmp_path, "a", shortest_rr_s=0.05).beat_samples) == 4


def test_annotations_of_another_rate_than_the_signal_are_refused(tmp_path: Path) -> None:
    wfdb.wrann(
        "a", "atr", np.array([100, 300]), symbol=["N", "N"], fs=250, write_dir=str(tmp_path)
    )
    assert len(read_annotations(tmp_path, "a", sampling_rate_hz=250).beat_samples) == 2
    with pytest.raises(DataError) as caught:
        read_annotations(tmp_path, "a", sampling_rate_hz=360)
    assert str(caught.value) == (
        f"{tmp_path}/a.atr: counts its samples at 250 Hz, but the signal has 360 Hz"
    )


@pytest.mark.parametrize("rate_hz", [128, 257, 360, 499.5])
def test_what_is_written_is_read_back_by_wfdb(tmp_path: Path, rate_hz: float) -> None:
    samples = np.array([0, 7, 2000, 1_500_000])
    symbols = np.array(["N", "S", "V", "F"])
    path = write_annotations(
        tmp_path, "p-01", "ecgrr", samples=samples, symbols=symbols, sampling_rate_hz=rate_hz
    )
    assert path == tmp_path / "p-01.ecgrr"
    back = wfdb.rdann(str(tmp_path / "p-01"), "ecgrr")
    np.testing.assert_array_equal(back.sample, samples)
    assert back.symbol == symbols.tolist()
    assert back.fs == rate_hz


def merge(*beats: tuple[int, str], within: float = 50) -> Annotations:
    samples = np.array([sample for sample, _ in beats], dtype=np.int64)
    return merge_doubled(samples, np.array([symbol for _, symbol in beats], dtype=np.str_), within)


def beats_of(result: Annotations) -> list[tuple[int, str]]:
    return list(zip(result.beat_samples.tolist(), result.beat_symbols.tolist(), strict=True))


def test_beats_that_lie_apart_stay_as_they_are() -> None:
    result = merge((0, "N"), (50, "V"), (100, "N"))
    assert beats_of(result) == [(0, "N"), (50, "V"), (100, "N")]
    assert result.doubled == ()


@pytest.mark.parametrize("second", [100, 101, 149])
def test_two_annotations_of_one_class_are_one_beat_at_the_first(second: int) -> None:
    # L (left bundle branch block) and N are of AAMI class N.
    result = merge((0, "N"), (100, "L"), (second, "N"), (300, "V"))
    assert beats_of(result) == [(0, "N"), (100, "L"), (300, "V")]
    assert result.doubled == (Doubled(samples=(100, second), symbols=("L", "N")),)
    assert result.doubled[0].agree


def test_annotations_of_unlike_classes_make_a_beat_of_no_known_class() -> None:
    result = merge((0, "N"), (100, "S"), (101, "N"), (300, "V"), (300, "V"))
    assert beats_of(result) == [(0, "N"), (100, "Q"), (300, "V")]
    assert [beat.agree for beat in result.doubled] == [False, True]


def test_a_beat_is_measured_from_the_first_annotation_not_from_the_last() -> None:
    result = merge((0, "N"), (40, "N"), (80, "V"), (120, "V"))
    assert beats_of(result) == [(0, "N"), (80, "V")]
    assert [beat.samples for beat in result.doubled] == [(0, 40), (80, 120)]


def test_nothing_is_merged_within_no_samples() -> None:
    assert beats_of(merge((5, "N"), (5, "V"), within=0)) == [(5, "N"), (5, "V")]
