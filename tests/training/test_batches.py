"""Every member gets the same number of equal batches: all S, V, F and fresh N beats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from study.training.batches import (
    STANDS_FOR,
    Changes,
    EpochShape,
    MemberBeats,
    draw_changes,
    epoch_shape,
    stand_ins,
)
from study.training.seeding import Streams

_STREAMS = Streams(study_seed=0, seed_index=0, fold=0)


def _labels(n: int, s: int, v: int = 0) -> NDArray[np.int64]:
    return np.repeat([0, 1, 2], [n, s, v])


def test_epoch_shape() -> None:
    for folds, normal_beats, batch_size, expected in (
        # Longest in S, V, F: 30 + 50 normal beats.
        ([_labels(100, 30), _labels(100, 10)], 50, 80, EpochShape(1, 80)),
        ([_labels(100, 30), _labels(100, 10)], 50, 79, EpochShape(2, 40)),
        # More normal beats than there are: they come again.
        ([_labels(10, 5)], 50, 100, EpochShape(1, 55)),
        # 0 takes all: the longest fold has 130 beats.
        ([_labels(100, 30), _labels(90, 10)], 0, 100, EpochShape(2, 65)),
    ):
        assert epoch_shape(folds, normal_beats=normal_beats, batch_size=batch_size) == expected


def _member(label: NDArray[np.int64], streams: Streams = _STREAMS) -> MemberBeats:
    return MemberBeats(np.arange(len(label)) + 1000, label, streams)


def test_an_epoch_has_every_rare_beat_once_and_normal_beats_besides() -> None:
    member = _member(_labels(100, 20, 10))
    beats = member.epoch(0, EpochShape(10, 7))
    assert beats.shape == (10, 7)
    assert member.times_shown(EpochShape(10, 7)) == pytest.approx([0.4, 1, 1, 1])
    drawn, times = np.unique(beats, return_counts=True)
    assert (times == 1).all()
    assert set(np.arange(100, 130) + 1000) <= set(drawn)
    without = _member(_labels(0, 6))
    shown = np.unique(without.epoch(0, EpochShape(2, 5)), return_counts=True)[1]
    assert sorted(shown) == [1, 1, 2, 2, 2, 2]
    assert without.times_shown(EpochShape(2, 5))[1] == pytest.approx(shown.mean())
    first, second = (_member(_labels(0, 40)).epoch(epoch, EpochShape(1, 40)) for epoch in (0, 1))
    assert not np.array_equal(first, second), "each epoch has an order of its own"


def test_normal_beats_are_fresh_until_all_have_come_whatever_epochs_came_before() -> None:
    member, shape = _member(_labels(100, 20)), EpochShape(5, 9)
    epochs = [member.epoch(e, shape) for e in range(5)]
    normals = [[beat for beat in epoch.ravel() if beat < 1100] for epoch in epochs]
    assert len(sum(normals[:4], [])) == len(set(sum(normals[:4], []))) == 100
    assert len(set(normals[4])) == 25
    assert np.array_equal(epochs[3], _member(_labels(100, 20)).epoch(3, shape))


def test_the_middle_of_five_normal_beats_stands_for_them_within_its_record() -> None:
    label = np.array([0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 3])
    record = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    assert STANDS_FOR == 5
    # Normal beats of record 0: 0 1 3 4 5, of which 3 is in the middle, then 6 alone.
    assert stand_ins(label, record).tolist() == [3, 3, 2, 3, 3, 3, 6, 9, 8, 9, 10]


def test_windows_are_scaled_shifted_and_added_to_two_of_a_beat_alike() -> None:
    added = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    change = Changes(torch.tensor([2.0, 1.0]), torch.tensor([1, -2]), added)
    beats = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expected = torch.tensor([[4.0, 6.0, 6.5], [4.0, 4.0, 4.0]])
    assert torch.equal(change.of(beats), expected)
    both = change.of(torch.stack((beats, -beats), dim=1))
    assert torch.equal(both[:, 0], expected)
    assert torch.equal(both[:, 1], torch.tensor([[-4.0, -6.0, -5.5], [-4.0, -4.0, -4.0]]))


def test_changes_have_the_strength_that_is_documented_and_the_draws_of_any_other() -> None:
    """Sds at strength 1: .2 of log factors; of noise and half a sine's square, .1 and .2."""
    full, half = (
        draw_changes(EpochShape(40, 100), strength, np.random.default_rng(0))
        for strength in (1.0, 0.5)
    )
    assert np.log(full[0]).std() == pytest.approx(0.2, rel=0.05)
    assert set(np.unique(full[1])) == set(range(-4, 5))
    assert full[2].std() == pytest.approx((0.1**2 + 0.2**2 / 2) ** 0.5, rel=0.05)
    np.testing.assert_allclose(half[2], full[2] / 2)
    np.testing.assert_allclose(half[0] ** 2, full[0], rtol=1e-6)
