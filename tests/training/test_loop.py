"""A trial trains all members, repeats to the last bit, and continues where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from study.data.beat_set import BeatSet
from study.data.folds import Folds, all_records
from study.errors import CheckpointError, ConfigError, DivergedError
from study.keys import BEATS_PER_SECOND
from study.models.classifier import build_model
from study.training.batches import stand_ins
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.loop import TrialTraining
from study.training.member import build_members
from study.training.results import TrialResult
from study.training.scores import score
from tests.builders import refused, small_config, small_training

_FULL: dict[str, Any] = {
    "fusion": "mhca_time",
    "input": "opt3",
    "ema_decay": 0.9,
    "rr_dropout": 0.3,
    "augment": 1.0,
    "backbone_dropout": 0.3,
    "epochs": 3,
}
"""Everything that has state or draws random numbers."""


def _finish(training: TrialTraining) -> tuple[list[dict[str, float]], TrialResult]:
    logged = []
    while not training.finished:
        logged.append(_logged(training))
    return logged, training.finish()


def _logged(training: TrialTraining) -> dict[str, float]:
    metrics = dict(training.run_epoch().metrics)
    del metrics[BEATS_PER_SECOND]
    return metrics


Uninterrupted = tuple[list[dict[str, Any]], list[dict[str, float]], TrialResult]


@pytest.fixture(scope="module")
def full(tiny_beats: BeatSet, tiny_folds: Folds) -> Uninterrupted:
    """A trial that ran through: its states from before the first epoch on, logs and result."""
    training = small_training(tiny_beats, tiny_folds, **_FULL)
    states, logged = [training.state_dict()], []
    while not training.finished:
        logged.append(_logged(training))
        states.append(training.state_dict())
    return states, logged, training.finish()


@pytest.mark.parametrize("after", [None, 1, 3])
def test_same_seed_same_bits_whatever_ran_before_or_where_it_was_continued(
    tiny_beats: BeatSet, tiny_folds: Folds, full: Uninterrupted, after: int | None
) -> None:
    """After epoch 3, the last, only the result is owed."""
    states, expected_logs, expected = full
    before = torch.get_rng_state()
    _finish(small_training(tiny_beats, tiny_folds, epochs=1))
    assert torch.equal(before, torch.get_rng_state()), "the global random state is left alone"
    torch.rand(17)
    training = small_training(tiny_beats, tiny_folds, **_FULL)
    if after is not None:
        training.load_state_dict(states[after])
        assert training.epoch == after
    logged, result = _finish(training)
    # Equal to the last bit, NaN included.
    np.testing.assert_equal(logged, expected_logs[after or 0 :])
    np.testing.assert_equal(result.metrics, expected.metrics)
    assert np.array_equal(result.log_probs, expected.log_probs)


def test_a_seed_trains_on_its_partition_as_alone(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    """To the last bit; scores and RR reliance are means over seeds."""
    others = (("a", "d"), ("b", "e"), ("c", "f"))
    both = replace(tiny_folds, validation=tiny_folds.validation + others, n_partitions=2)
    other = replace(tiny_folds, validation=others)
    _, shared = _finish(small_training(tiny_beats, both, n_seeds=2, epochs=1))
    alone = [
        _finish(small_training(tiny_beats, folds, n_seeds=2, epochs=1))[1]
        for folds in (tiny_folds, other)
    ]
    for seed, one in enumerate(alone):
        assert np.array_equal(shared.log_probs[seed], one.log_probs[seed])
        for ours, theirs in zip(
            *(result.weights[3 * seed : 3 * seed + 3] for result in (shared, one)), strict=True
        ):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    n_beats, label, record = len(tiny_beats.label), tiny_beats.label, tiny_beats.record
    assert shared.log_probs.shape == (2, n_beats, 4)
    sets = [one.log_probs[[seed]] for seed, one in enumerate(alone)]
    scores = [
        score(log_probs, label, record, folds.of_beats(tiny_beats), record_names="abcdef").values
        for log_probs, folds in zip(sets, (tiny_folds, other), strict=True)
    ]
    assert shared.metrics["val_auprc_sv"] == np.mean([one["val_auprc_sv"] for one in scores])


def test_a_checkpoint_of_another_trial_is_refused(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    state = small_training(tiny_beats, tiny_folds).state_dict()
    beats, engine = replace(tiny_beats, fingerprint="other"), Engine("bf16")
    new = TrialTraining(small_config(), beats, tiny_folds, n_seeds=1, study_seed=1, engine=engine)
    assert refused(CheckpointError, new.load_state_dict, state) == (
        "checkpoint of another trial: 3 faults\n"
        "  - beats: the checkpoint has 'tiny', this trial 'other'\n"
        "  - study seed: the checkpoint has 0, this trial 1\n"
        "  - engine: the checkpoint has 'fp32, not compiled', this trial 'bf16, not compiled'"
    )


def _spoil(training: TrialTraining, member: int, part: str) -> None:
    state = training.state_dict()
    for tensor in state["members"][member][part].values():
        tensor.fill_(torch.nan)
    training.load_state_dict(state)


def test_divergence_names_epoch_fold_and_seed(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    training = small_training(tiny_beats, tiny_folds, n_seeds=2, learning_rate=0.01, ema_decay=0.5)
    training.run_epoch()
    _spoil(training, 4, "model")
    message = refused(DivergedError, training.run_epoch)
    assert message.startswith("diverged: training loss not finite in epoch 2, fold 1 of seed 1; ")
    assert "'learning_rate': 0.01" in message
    _spoil(training, 2, "average")
    with pytest.raises(DivergedError, match="predictions not finite in epoch 2, fold 2 of seed 0"):
        training.finish()


def test_beats_cut_otherwise_are_refused(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    with pytest.raises(ConfigError, match="segmentation: the configuration has 'fixed', the b"):
        small_training(tiny_beats, tiny_folds, segmentation="fixed", fusion="film")


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_scored_weights_are_kept(tiny_beats: BeatSet, tiny_folds: Folds, ema_decay: float) -> None:
    training = small_training(tiny_beats, tiny_folds, ema_decay=ema_decay, epochs=1, fusion="film")
    config = training.config
    _, result = _finish(training)
    model = build_model(config.signal, config.model, seed=(9, 9, 9))
    model.load_state_dict(result.weights[2])
    model.run_backbone = Engine().backbone(torch.device("cpu"))
    at = tiny_folds.splits(tiny_beats)[2][1]
    late_rr = torch.from_numpy(tiny_beats.rr["published7"][at])
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(tiny_beats.ecg[at]), None, late_rr)
    assert np.array_equal(logits.log_softmax(dim=1).numpy(), result.log_probs[0, at])


def test_members_have_own_weights_and_constants(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    _, result = _finish(small_training(tiny_beats, tiny_folds, n_seeds=2, epochs=1))
    assert result.log_probs.shape == (2, 240, 4)
    assert result.confusion.sum() == 2 * 240
    parts = [torch.cat([t.flatten() for t in member.values()]) for member in result.weights]
    assert len({tuple(part.tolist()) for part in parts}) == 6
    # The data set has 36 S, 42 V and 30 F, an epoch 40 N; a member has 88 N to train on.
    counted = np.array([40, 36, 42, 30]) ** -0.5 * [40 / 88, 1, 1, 1]
    for state, (training, _) in zip(
        result.weights[:3], tiny_folds.splits(tiny_beats), strict=True
    ):
        rows = tiny_beats.rr["published7"][training]
        np.testing.assert_allclose(state["rr_mean"].numpy(), rows.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(state["rr_sd"].numpy(), rows.std(axis=0), rtol=1e-4)
        added = state["logit_adjustment"].numpy()
        np.testing.assert_allclose(added - added[1], np.log(counted[1] / counted), atol=1e-5)


def test_a_trial_learns_from_rr_not_from_placebo(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    real, placebo = (
        _finish(small_training(tiny_beats, tiny_folds, epochs=20, learning_rate=0.02, rr=rr))[0]
        for rr in ("real", "placebo")
    )
    assert real[-1]["val_auprc_sv"] > 0.9
    assert real[-1]["train_loss"] < real[0]["train_loss"] / 2
    assert real[-1]["learning_rate"] < 1e-5
    assert placebo[-1]["val_auprc_sv"] < 0.4


def test_a_hold_out_leaves_other_beats_without_prediction(tiny_beats: BeatSet) -> None:
    folds = Folds(name="hold-out", validation=(("a", "c"),), fingerprint="x")
    _, result = _finish(small_training(tiny_beats, folds, epochs=1))
    validated = np.isin(tiny_beats.record, [0, 2])
    assert np.isfinite(result.log_probs[0, validated]).all()
    assert np.isnan(result.log_probs[0, ~validated]).all()
    assert result.confusion.sum() == validated.sum()
    assert np.isfinite([result.metrics["val_auprc_sv"], result.metrics["val_loss"]]).all()
    assert result.gates is None


def test_stand_ins_are_predicted_before_the_end(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    """Unless a screening ends: its last score steers too."""
    screening, training = (
        small_training(tiny_beats, tiny_folds, screening=steers) for steers in (True, False)
    )
    stands, told = stand_ins(tiny_beats.label, tiny_beats.record), list[str]()
    for epoch in range(2):
        for each in (screening, training):
            each.run_epoch(told.append)
            predictions = each._predictions
            assert predictions is not None
            replaced = bool((predictions == predictions[:, stands]).all())
            assert replaced is (epoch == 0 or each is screening)
    assert told[-3:] == ["epoch 2/2 fold 2/3", "epoch 2/2 fold 3/3", "epoch 2/2 scoring"]
    in_full = training.finish().log_probs
    assert screening._predictions is not None
    np.testing.assert_allclose(screening._predictions, in_full[:, stands], rtol=1e-4, atol=1e-5)
    assert np.array_equal(screening.finish().log_probs, in_full, equal_nan=True)


@pytest.mark.parametrize("packed", [False, True])
def test_on_all_records_a_seed_is_what_it_is_by_itself(few_beats: BeatSet, packed: bool) -> None:
    """An earlier version trained a sealed test's models one at a time; these are the same.

    In turn they are equal to the bit. A pack sums in another order, and draws its dropout for all
    members together.
    """
    engine = Engine("fp64", packed=True) if packed else Engine()
    dropout = 0.0 if packed else 0.2
    config = small_config(fusion="film", ema_decay=0.9, rr_dropout=0.2, dropout=dropout)
    folds = all_records(few_beats.record_names)
    training = TrialTraining(config, few_beats, folds, n_seeds=2, study_seed=3, engine=engine)
    while not training.finished:
        report = training.run_epoch()
        assert set(report.metrics) == {"train_loss", "learning_rate", "beats_per_second"}
    result = training.finish()
    assert np.isnan(result.log_probs).all() and result.metrics == {}
    placed = DeviceBeats(few_beats, torch.device("cpu"))
    every = np.arange(len(few_beats.label))
    for seed, weights in zip((1000, 1001), result.weights, strict=True):
        (member,) = build_members(
            config,
            placed,
            [(every, every[:0])],
            seeds=(seed,),
            study_seed=3,
            dtype=engine.weights,
            run_backbone=engine.backbone(placed.device),
        )
        trainer = engine.trainer([member])
        for epoch in range(config.train.epochs):
            trainer.train_epoch(epoch)
        for name, values in member.scored.state_dict().items():
            if packed:
                torch.testing.assert_close(weights[name], values, atol=1e-7, rtol=1e-6)
            else:
                assert torch.equal(weights[name], values)
    with torch.no_grad():
        next(iter(training._members[1].scored.parameters())).fill_(torch.nan)
    with pytest.raises(DivergedError, match="weights not finite in epoch 2, fold 0 of seed 1001"):
        training.finish()
