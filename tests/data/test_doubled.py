"""Beats annotated more than once: what is taken as one beat, and of which class."""

from __future__ import annotations

import numpy as np
import pytest

from study.data.doubled import Doubled, Merged, merged


def merge(*beats: tuple[int, str], within: float = 50) -> Merged:
    samples = np.array([sample for sample, _ in beats], dtype=np.int64)
    return merged(samples, np.array([symbol for _, symbol in beats], dtype=np.str_), within)


def kept(result: Merged) -> list[tuple[int, str]]:
    return list(zip(result.samples.tolist(), result.symbols.tolist(), strict=True))


def test_beats_that_lie_apart_stay_as_they_are() -> None:
    result = merge((0, "N"), (50, "V"), (100, "N"))
    assert kept(result) == [(0, "N"), (50, "V"), (100, "N")]
    assert result.doubled == ()


@pytest.mark.parametrize("second", [100, 101, 149])
def test_two_annotations_of_one_class_are_one_beat_at_the_first(second: int) -> None:
    # L (left bundle branch block) and N are of AAMI class N.
    result = merge((0, "N"), (100, "L"), (second, "N"), (300, "V"))
    assert kept(result) == [(0, "N"), (100, "L"), (300, "V")]
    assert result.doubled == (Doubled(samples=(100, second), symbols=("L", "N")),)
    assert result.doubled[0].agree


def test_annotations_of_unlike_classes_make_a_beat_of_no_known_class() -> None:
    result = merge((0, "N"), (100, "S"), (101, "N"), (300, "V"), (300, "V"))
    assert kept(result) == [(0, "N"), (100, "Q"), (300, "V")]
    assert [beat.agree for beat in result.doubled] == [False, True]


def test_a_beat_is_measured_from_the_first_annotation_not_from_the_last() -> None:
    result = merge((0, "N"), (40, "N"), (80, "V"), (120, "V"))
    assert kept(result) == [(0, "N"), (80, "V")]
    assert [beat.samples for beat in result.doubled] == [(0, 40), (80, 120)]


def test_nothing_is_merged_within_no_samples() -> None:
    assert kept(merge((5, "N"), (5, "V"), within=0)) == [(5, "N"), (5, "V")]
