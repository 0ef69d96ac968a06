"""A trial trains all members, repeats to the last bit, and continues where it was."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from study.data.beat_set import BeatSet
from study.data.folds import Folds, all_records
from study.errors import CheckpointError, ConfigError, DivergedError, StudyStateError
from study.keys import BEATS_PER_SECOND, CLASSES, OBJECTIVES
from study.models.classifier import build_model
from study.training.batches import stand_ins
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.loop import TrialTraining
from study.training.member import build_members
from study.training.results import TrialResult
from tests.builders import small_config, small_training

_FULL: dict[str, Any] = {
    "fusion": "mhca_time",
    "input": "opt3",
    "ema_decay": 0.9,
    "rr_dropout": 0.3,
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


def _round_trip(state: dict[str, Any]) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def _same(one: dict[str, float], other: dict[str, float]) -> bool:
    """Equal to the last bit, NaN included."""
    return one.keys() == other.keys() and np.array_equal(
        list(one.values()), [other[name] for name in one], equal_nan=True
    )


@dataclass
class _Uninterrupted:
    """A trial that ran through: its state before every epoch and after the last, and its end."""

    states: list[dict[str, Any]]
    logged: list[dict[str, float]]
    result: TrialResult


@pytest.fixture(scope="module")
def full(tiny_beats: BeatSet, tiny_folds: Folds) -> _Uninterrupted:
    training = small_training(tiny_beats, tiny_folds, **_FULL)
    states, logged = [training.state_dict()], []
    while not training.finished:
        logged.append(_logged(training))
        states.append(training.state_dict())
    return _Uninterrupted(states, logged, training.finish())


@pytest.mark.parametrize("after", [None, 1, 3])
def test_same_seed_same_bits_whatever_ran_before_or_where_it_was_continued(
    tiny_beats: BeatSet, tiny_folds: Folds, full: _Uninterrupted, after: int | None
) -> None:
    """After epoch 3, the last, only the result is owed."""
    _finish(small_training(tiny_beats, tiny_folds, epochs=1))
    torch.rand(17)
    training = small_training(tiny_beats, tiny_folds, **_FULL)
    if after is not None:
        training.load_state_dict(_round_trip(full.states[after]))
        assert training.epoch == after
    logged, result = _finish(training)
    assert len(logged) == 3 - (after or 0)
    for ours, expected in zip(logged, full.logged[after or 0 :], strict=True):
        assert _same(ours, expected)
    assert _same(result.metrics, full.result.metrics)
    assert np.array_equal(result.log_probs, full.result.log_probs)


def test_global_random_state_is_left_alone(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    before = torch.get_rng_state()
    _finish(small_training(tiny_beats, tiny_folds, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_a_checkpoint_of_another_trial_is_refused(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    state = small_training(tiny_beats, tiny_folds).state_dict()
    other = TrialTraining(
        small_config(),
        replace(tiny_beats, fingerprint="other"),
        tiny_folds,
        n_seeds=1,
        study_seed=1,
    )
    with pytest.raises(CheckpointError) as error:
        other.load_state_dict(state)
    assert str(error.value) == (
        "checkpoint of another trial: 2 faults\n"
        "  - beats: the checkpoint has 'tiny', this trial 'other'\n"
        "  - study seed: the checkpoint has 0, this trial 1"
    )


@pytest.mark.parametrize("part", ["identity", "epoch", "members", "weights"])
def test_a_checkpoint_that_lacks_a_part_is_refused(
    tiny_beats: BeatSet, tiny_folds: Folds, part: str
) -> None:
    training = small_training(tiny_beats, tiny_folds)
    state = training.state_dict()
    if part == "weights":
        state["members"][1]["model"].popitem()
    else:
        del state[part]
    with pytest.raises(CheckpointError, match="checkpoint is damaged: (KeyError|RuntimeError)"):
        training.load_state_dict(state)


def test_divergence_names_epoch_fold_seed_and_configuration(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    training = small_training(tiny_beats, tiny_folds, n_seeds=2, learning_rate=0.003)
    training.run_epoch()
    state = training.state_dict()
    for tensor in state["members"][4]["model"].values():
        tensor.fill_(torch.nan)
    training.load_state_dict(state)
    with pytest.raises(DivergedError) as error:
        training.run_epoch()
    message = str(error.value)
    assert message.startswith(
        "diverged: training loss not finite in epoch 2, fold 1 of seed 1; configuration "
    )
    assert "'learning_rate': 0.003" in message


def test_non_finite_predictions_diverge_too(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    training = small_training(tiny_beats, tiny_folds, epochs=1, ema_decay=0.5)
    training.run_epoch()
    state = training.state_dict()
    for tensor in state["members"][2]["average"].values():
        tensor.fill_(torch.nan)
    training.load_state_dict(state)
    with pytest.raises(
        DivergedError, match="validation predictions not finite in epoch 1, fold 2"
    ):
        training.finish()


def test_finish_is_for_the_end_and_run_epoch_is_not(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    training = small_training(tiny_beats, tiny_folds, epochs=1)
    with pytest.raises(StudyStateError, match="training: 0 of 1 epochs are done"):
        training.finish()
    training.run_epoch()
    with pytest.raises(StudyStateError, match="training: all 1 epochs are done"):
        training.run_epoch()


def test_beats_cut_otherwise_are_refused(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    with pytest.raises(ConfigError) as error:
        small_training(tiny_beats, tiny_folds, segmentation="fixed", fusion="film")
    assert str(error.value) == (
        "training: 2 faults\n"
        "  - segmentation: the configuration has 'fixed', the beats 'daeac'\n"
        "  - resampling: the configuration has 'antialiased', the beats 'linear'"
    )


def test_reports_and_result_are_complete(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    values = {**_FULL, "heads": 2, "epochs": 1}
    training = small_training(tiny_beats, tiny_folds, n_seeds=2, **values)
    report = training.run_epoch()
    named = {"train_loss", "val_loss", "learning_rate", "beats_per_second"}
    assert named | {"gate_mean", "gate_min", "gate_max", *OBJECTIVES} <= report.metrics.keys()
    result = training.finish()
    assert result.log_probs.shape == (2, 240, 4)
    np.testing.assert_allclose(np.exp(result.log_probs).sum(axis=2), 1, rtol=1e-5)
    assert result.confusion.sum() == 2 * 240
    assert result.gates is not None and result.gates.shape == (6, 8)
    assert result.inspection is not None and result.inspection.attention is not None
    assert result.inspection.attention.shape == (4, 2, 64)
    assert [row["record"] for row in result.per_record] == list("abcdef")
    assert {name for name, v in result.metrics.items() if np.isnan(v)} == result.undefined.keys()
    assert {f"rr_reliance_total_{c}" for c in "SV"} <= result.metrics.keys()


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_returned_weights_are_those_scored(
    tiny_beats: BeatSet, tiny_folds: Folds, ema_decay: float
) -> None:
    training = small_training(tiny_beats, tiny_folds, ema_decay=ema_decay, epochs=1, fusion="film")
    config = training.config
    _, result = _finish(training)
    model = build_model(config.signal, config.model, seed=(9, 9, 9))
    model.load_state_dict(result.weights[2])
    model.run_backbone = Engine().backbone(torch.device("cpu"))
    at = tiny_folds.masks(tiny_beats)[2][1]
    late_rr = torch.from_numpy(tiny_beats.rr["seed7"][at])
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(tiny_beats.ecg[at]), None, late_rr)
    assert np.array_equal(logits.log_softmax(dim=1).numpy(), result.log_probs[0, at])


def test_averaging_changes_what_is_scored_not_what_is_trained(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    plain, _ = _finish(small_training(tiny_beats, tiny_folds))
    averaged, _ = _finish(small_training(tiny_beats, tiny_folds, ema_decay=0.9))
    assert [m["train_loss"] for m in plain] == [m["train_loss"] for m in averaged]
    assert plain[-1]["val_loss"] != averaged[-1]["val_loss"]


def test_rr_is_standardised_by_the_training_beats(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    _, result = _finish(small_training(tiny_beats, tiny_folds, epochs=1))
    for weights, (training, _) in zip(result.weights, tiny_folds.masks(tiny_beats), strict=True):
        rows = tiny_beats.rr["seed7"][training]
        np.testing.assert_allclose(weights["rr_mean"].numpy(), rows.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(weights["rr_sd"].numpy(), rows.std(axis=0), rtol=1e-4)


def test_seeds_and_folds_give_different_members(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    _, result = _finish(small_training(tiny_beats, tiny_folds, n_seeds=2, epochs=1))
    weights = [
        tuple(torch.cat([t.flatten() for t in member.values()]).tolist())
        for member in result.weights
    ]
    assert len(set(weights)) == 6


def test_a_trial_learns(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    logged, _ = _finish(small_training(tiny_beats, tiny_folds, epochs=20, learning_rate=0.02))
    assert logged[-1]["val_auprc_sv"] > 0.9
    assert logged[-1]["train_loss"] < logged[0]["train_loss"] / 2
    assert logged[-1]["learning_rate"] < 1e-5


def test_placebo_breaks_the_tie_of_rr_and_label(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    training = small_training(tiny_beats, tiny_folds, epochs=20, learning_rate=0.02, rr="placebo")
    logged, _ = _finish(training)
    assert logged[-1]["val_auprc_sv"] < 0.4


def test_a_hold_out_leaves_other_beats_without_prediction(tiny_beats: BeatSet) -> None:
    folds = Folds(name="hold-out", validation=(("a", "c"),), fingerprint="x")
    _, result = _finish(small_training(tiny_beats, folds, epochs=1))
    validated = np.isin(tiny_beats.record, [0, 2])
    assert np.isfinite(result.log_probs[0, validated]).all()
    assert np.isnan(result.log_probs[0, ~validated]).all()
    assert result.confusion.sum() == validated.sum()
    assert result.gates is None


def test_prepared_records_train(beat_set: BeatSet) -> None:
    """Read-only arrays, as Ray's object store hands them over, are fine."""
    beat_set.ecg.flags.writeable = beat_set.label.flags.writeable = False
    for features in beat_set.rr.values():
        features.flags.writeable = False
    half = len(beat_set.record_names) // 2
    folds = Folds(
        name="half",
        validation=(beat_set.record_names[:half], beat_set.record_names[half:]),
        fingerprint="half",
    )
    _, result = _finish(small_training(beat_set, folds, epochs=1))
    assert result.log_probs.shape[2] == len(CLASSES)


def test_epochs_before_the_last_predict_stand_ins_and_the_last_predicts_every_beat(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    training = small_training(tiny_beats, tiny_folds)
    stands = stand_ins(tiny_beats.label, tiny_beats.record)
    while not training.finished:
        training.run_epoch()
        predictions = training._predictions
        assert predictions is not None
        replaced = bool((predictions == predictions[:, stands]).all())
        assert replaced is not training.finished
    exact = training._predict(exact=True)
    rough = training._predict(exact=False)
    np.testing.assert_allclose(rough, exact[:, stands], rtol=1e-4, atol=1e-5)


def test_the_last_score_of_a_screening_steers_too(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    screening, trial = (
        small_training(tiny_beats, tiny_folds, epochs=1, screening=steers)
        for steers in (True, False)
    )
    stands = stand_ins(tiny_beats.label, tiny_beats.record)
    for training in (screening, trial):
        training.run_epoch()
    in_full = trial.finish().log_probs
    assert screening._predictions is not None
    np.testing.assert_allclose(screening._predictions, in_full[:, stands], rtol=1e-4, atol=1e-5)
    assert np.array_equal(screening.finish().log_probs, in_full, equal_nan=True)


@pytest.mark.parametrize("packed", [False, True])
def test_on_all_records_a_seed_is_what_it_is_by_itself(tiny_beats: BeatSet, packed: bool) -> None:
    """The version before trained a sealed test's models one at a time; these are the same.

    In turn they are equal to the bit. A pack sums in another order, and draws its dropout for all
    members together.
    """
    engine = Engine("fp64", packed=True) if packed else Engine()
    dropout = 0.0 if packed else 0.2
    config = small_config(fusion="film", ema_decay=0.9, rr_dropout=0.2, dropout=dropout)
    folds = all_records(tiny_beats.record_names)
    training = TrialTraining(config, tiny_beats, folds, n_seeds=2, study_seed=3, engine=engine)
    while not training.finished:
        report = training.run_epoch()
        assert set(report.metrics) == {"train_loss", "learning_rate", "beats_per_second"}
    result = training.finish()
    assert np.isnan(result.log_probs).all() and result.metrics == {}
    placed = DeviceBeats(tiny_beats, torch.device("cpu"))
    every = np.arange(len(tiny_beats.label))
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


def test_weights_that_are_not_finite_are_no_result(tiny_beats: BeatSet) -> None:
    folds = all_records(tiny_beats.record_names)
    training = small_training(tiny_beats, folds, n_seeds=2, fusion="film", epochs=1)
    training.run_epoch()
    with torch.no_grad():
        next(iter(training._members[1].scored.parameters())).fill_(torch.nan)
    with pytest.raises(DivergedError, match="weights not finite in epoch 1, fold 0 of seed 1001"):
        training.finish()
