"""Permutations of RR stay within records and depend on the study's seed only."""

from __future__ import annotations

import numpy as np
import pytest

from study.data.placebo import (
    NORMAL_SAMPLE,
    PERMUTATIONS,
    permute_within,
    placebo_order,
    reliance_sample,
)
from study.keys import CLASSES

RECORD = np.repeat(np.arange(4), [2500, 40, 1, 900])
LABEL = np.where(np.arange(len(RECORD)) % 7 == 0, np.arange(len(RECORD)) % 4, 0)


@pytest.mark.parametrize("record", [RECORD, RECORD[::-1], np.tile([1, 0], 50), RECORD[:0]])
def test_permutation_moves_beats_within_their_records_only(record: np.ndarray) -> None:
    order = permute_within(record, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(record)))
    np.testing.assert_array_equal(record[order], record)


def test_permutation_is_uniform() -> None:
    record = np.array([0, 0, 0, 1])
    rng = np.random.default_rng(1)
    seen = [tuple(permute_within(record, rng)) for _ in range(1200)]
    counts = [seen.count(order) for order in sorted(set(seen))]
    assert len(counts) == 6
    assert min(counts) > 140


def test_placebo_repeats_for_a_seed_and_differs_between_seeds() -> None:
    first = placebo_order(RECORD, 3, 0)
    np.testing.assert_array_equal(first, placebo_order(RECORD, 3, 0))
    for other in (placebo_order(RECORD, 3, 1), placebo_order(RECORD, 4, 0)):
        assert (first != other).mean() > 0.9


def test_reliance_sample_holds_all_rare_beats_and_normal_ones_of_every_record() -> None:
    beats, _ = reliance_sample(RECORD, LABEL, 0)
    assert (np.diff(beats) > 0).all()
    assert set(np.flatnonzero(LABEL != 0)) <= set(beats)
    normal = beats[LABEL[beats] == CLASSES.index("N")]
    assert len(normal) == NORMAL_SAMPLE
    available = np.bincount(RECORD[LABEL == 0])
    taken = np.bincount(RECORD[normal])
    # The small records give all they have, the two large ones share the rest.
    assert taken[1:3].tolist() == available[1:3].tolist()
    assert abs(taken[0] - taken[3]) <= 1


def test_reliance_sample_takes_every_beat_of_a_small_set() -> None:
    record, label = np.zeros(30, np.int64), np.zeros(30, np.int64)
    beats, donors = reliance_sample(record, label, 0)
    assert beats.tolist() == list(range(30))
    assert donors.shape == (PERMUTATIONS, 30)
    for row in donors:
        assert sorted(row) == list(range(30))


def test_donors_are_of_the_same_record_and_differ_between_permutations() -> None:
    beats, donors = reliance_sample(RECORD, LABEL, 0)
    assert donors.shape == (PERMUTATIONS, len(beats))
    for row in donors:
        np.testing.assert_array_equal(RECORD[row], RECORD[beats])
    assert len({row.tobytes() for row in donors}) == PERMUTATIONS


def test_reliance_sample_depends_on_the_study_seed() -> None:
    beats, donors = reliance_sample(RECORD, LABEL, 0)
    again, donors_again = reliance_sample(RECORD, LABEL, 0)
    np.testing.assert_array_equal(beats, again)
    np.testing.assert_array_equal(donors, donors_again)
    assert not np.array_equal(beats, reliance_sample(RECORD, LABEL, 1)[0])
