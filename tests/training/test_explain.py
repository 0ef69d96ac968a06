"""What is looked up inside networks: masks, shares of variance, and a whole look."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import make_folds
from study.keys import CLASSES
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.ensemble import build_members
from study.training.explain import MASKED_SHARE, MASKS, Insides, look_inside, masked


def look(beats: BeatSet, fusion: str, input_: str) -> Insides:
    """Look inside networks as they start, in two folds."""
    config = TrialConfig.from_flat(
        {
            "input": input_,
            "fusion": fusion,
            "embed_dim": 8,
            "normal_beats_per_epoch": 10,
            "segmentation": "daeac",
        }
    )
    folds = make_folds(
        beats.record_names, beats.counts(), 2, 0, {name: name for name in beats.record_names}
    )
    on_device = DeviceBeats(beats, torch.device("cpu"))
    members = build_members(
        config, on_device, folds.masks(beats), seeds=(0,), study_seed=0, engine=Engine()
    )
    return look_inside(members, on_device, folds.of_beats(beats))


def test_the_steps_of_highest_rank_are_masked() -> None:
    ecg = torch.arange(1.0, 21.0).repeat(2, 1)
    rank = torch.zeros(2, 10)
    rank[0, 3], rank[0, 4], rank[1, 9], rank[1, 0] = 1.0, 2.0, 1.0, 1.0
    result = masked(ecg, rank)
    # A fifth of 10 steps are 2, of 2 samples each.
    assert MASKED_SHARE == 0.2
    assert (result[0] == 0).nonzero().flatten().tolist() == [6, 7, 8, 9]
    assert (result[1] == 0).nonzero().flatten().tolist() == [0, 1, 18, 19]
    assert torch.equal(result[result != 0], ecg[result != 0])


def test_attention_deletion_and_branch_of_mhca_time(beat_set: BeatSet) -> None:
    found = look(beat_set, "mhca_time", "opt1")
    assert found.attention is not None
    assert found.attention.shape == (len(CLASSES), 1, 64)
    np.testing.assert_allclose(found.attention.sum(axis=2), 1.0, rtol=1e-4)
    assert tuple(found.deletion) == MASKS
    assert all(0 <= value <= 1 for value in found.deletion.values())
    assert found.branch_share is not None and found.branch_share.shape == (len(CLASSES),)
    assert found.mean_beat.shape == (len(CLASSES), 128)
    assert found.beats.sum() == len(beat_set.reliance.beats)


def test_no_attention_over_one_token(beat_set: BeatSet) -> None:
    found = look(beat_set, "mhca", "opt1")
    assert found.attention is None
    assert found.deletion == {}
    assert found.branch_share is not None


def test_nothing_to_split_without_a_branch(beat_set: BeatSet) -> None:
    found = look(beat_set, "none", "ecg")
    assert found.branch_share is None


def test_shares_of_branch_and_ecg_add_up() -> None:
    # cov(a, a + b) + cov(b, a + b) = var(a + b): the definition leaves nothing over.
    rng = np.random.default_rng(0)
    ecg, branch = rng.normal(size=(2, 500))
    logit = ecg + branch
    shares = [np.cov(part, logit, bias=True)[0, 1] / logit.var() for part in (ecg, branch)]
    assert sum(shares) == pytest.approx(1.0)
