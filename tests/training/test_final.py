from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from study.config import ModelConfig, SignalSpec, TrainConfig, TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import all_records
from study.errors import ConfigError, DivergedError
from study.models.seed_ensemble import SeedEnsemble
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.final import predict_all, train_on_all
from study.training.loop import TrialTraining

CONFIG = TrialConfig(
    model=ModelConfig(fusion="film", embed_dim=8),
    train=TrainConfig(epochs=2, batch_size=32, normal_beats_per_epoch=40, learning_rate=5e-3),
)
ENGINE = Engine()


@pytest.fixture
def placed(tiny_beats: BeatSet) -> DeviceBeats:
    return DeviceBeats(tiny_beats, torch.device("cpu"))


def trained(
    placed: DeviceBeats, config: TrialConfig = CONFIG, seed: int = 1000
) -> dict[str, torch.Tensor]:
    model = train_on_all(config, placed, study_seed=0, seed_index=seed, engine=ENGINE)
    assert model is not None
    return model.weights


def predicted(placed: DeviceBeats, config: TrialConfig, *seeds: int) -> np.ndarray:
    ensemble = SeedEnsemble.of_weights(config, [trained(placed, config, s) for s in seeds])
    return predict_all(ensemble.models, config, placed, study_seed=0, seeds=seeds, engine=ENGINE)


def test_it_learns_from_every_beat(placed: DeviceBeats, tiny_beats: BeatSet) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=8))
    model = train_on_all(config, placed, study_seed=0, seed_index=0, engine=ENGINE)
    assert model is not None and len(model.losses) == 8
    assert model.losses[-1] < 0.7 * model.losses[0]
    # The statistics of RR are those of all beats, none held out.
    expected = torch.from_numpy(tiny_beats.rr["seed7"]).double().mean(dim=0).float()
    torch.testing.assert_close(model.weights["rr_mean"], expected)


def test_the_same_seed_gives_the_same_model_and_another_gives_another(
    placed: DeviceBeats,
) -> None:
    first, again, other = trained(placed), trained(placed), trained(placed, seed=1001)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("packed", [False, True])
def test_all_seeds_at_once_are_what_each_gives_by_itself(
    placed: DeviceBeats, tiny_beats: BeatSet, packed: bool
) -> None:
    """The path by which plans of the version before were trained: one model at a time.

    In turn they are equal to the bit; a pack of two sums in another order than one model alone.
    """
    engine = Engine("fp64", packed=True) if packed else ENGINE
    config = replace(CONFIG, train=replace(CONFIG.train, ema_decay=0.9, rr_dropout=0.2))
    if packed:  # which draws its dropout for all members together
        config = replace(config, model=replace(config.model, dropout=0.0))
    folds = all_records(tiny_beats.record_names)
    training = TrialTraining(config, tiny_beats, folds, n_seeds=2, study_seed=3, engine=engine)
    losses = []
    while not training.finished:
        report = training.run_epoch()
        losses.append(report.metrics["train_loss"])
        assert set(report.metrics) == {"train_loss", "learning_rate", "beats_per_second"}
    result = training.finish()
    assert np.isnan(result.log_probs).all() and result.metrics == {}
    alone = [
        train_on_all(config, placed, study_seed=3, seed_index=seed, engine=engine)
        for seed in (1000, 1001)
    ]
    for one, weights in zip(alone, result.weights, strict=True):
        assert one is not None
        assert one.weights.keys() == weights.keys()
        for name, values in weights.items():
            if packed:
                torch.testing.assert_close(values, one.weights[name], atol=1e-7, rtol=1e-6)
            else:
                assert torch.equal(values, one.weights[name])


def test_predictions_are_by_seed_and_normalised(placed: DeviceBeats) -> None:
    log_probs = predicted(placed, CONFIG, 1000, 1001)
    assert log_probs.shape == (2, 240, 4)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=2), 1, rtol=1e-5)
    assert not np.allclose(log_probs[0], log_probs[1])
    np.testing.assert_array_equal(predicted(placed, CONFIG, 1001)[0], log_probs[1])


def test_a_placebo_permutes_rr_in_the_predicted_records_too(placed: DeviceBeats) -> None:
    placebo = replace(CONFIG, signal=SignalSpec(rr="placebo"))
    weights = [trained(placed, placebo)]
    models = SeedEnsemble.of_weights(placebo, weights).models

    def predict(config: TrialConfig) -> np.ndarray:
        return predict_all(models, config, placed, study_seed=0, seeds=(1000,), engine=ENGINE)

    assert not np.allclose(predict(placebo), predict(CONFIG))


def test_training_can_be_stopped_between_epochs(placed: DeviceBeats) -> None:
    left = iter([True, False])
    model = train_on_all(
        CONFIG, placed, study_seed=0, seed_index=0, engine=ENGINE, goes_on=lambda: next(left)
    )
    assert model is None


def test_what_diverges_says_so(placed: DeviceBeats, tiny_beats: BeatSet) -> None:
    damaged = DeviceBeats(
        replace(tiny_beats, ecg=np.full_like(tiny_beats.ecg, np.nan)), placed.device
    )
    with pytest.raises(
        DivergedError, match="training loss not finite in epoch 1, seed 1000; conf"
    ):
        trained(damaged)
    models = SeedEnsemble.of_weights(CONFIG, [trained(placed)]).models
    with pytest.raises(DivergedError, match="a prediction is not finite, seed 1000"):
        predict_all(models, CONFIG, damaged, study_seed=0, seeds=(1000,), engine=ENGINE)


def test_beats_that_are_cut_otherwise_are_refused(placed: DeviceBeats) -> None:
    other = replace(CONFIG, signal=SignalSpec(segmentation="centred"))
    with pytest.raises(ConfigError, match="the configuration has 'centred', the beats 'daeac'"):
        trained(placed, other)
    models = SeedEnsemble.of_weights(CONFIG, [trained(placed)]).models
    with pytest.raises(ConfigError, match="the configuration has 'centred', the beats 'daeac'"):
        predict_all(models, other, placed, study_seed=0, seeds=(1000,), engine=ENGINE)
