"""What models of all records say of records that they have never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from study.config import ModelConfig, SignalSpec, TrainConfig, TrialConfig
from study.data.beat_set import BeatSet
from study.errors import ConfigError, DivergedError
from study.models.classifier import build_model
from study.sealed.opening import predict_all
from study.training.device import DeviceBeats
from study.training.engine import Engine

CONFIG = TrialConfig(
    model=ModelConfig(fusion="film", embed_dim=8), train=TrainConfig(epochs=1, batch_size=32)
)


def predicted(beats: BeatSet, *seeds: int, **signal: str) -> np.ndarray:
    config = replace(CONFIG, signal=SignalSpec(**signal))
    placed = DeviceBeats(beats, torch.device("cpu"))
    models = [build_model(CONFIG.signal, CONFIG.model, seed=(seed,)) for seed in seeds]
    return predict_all(models, config, placed, study_seed=0, seeds=seeds, engine=Engine())


def test_predictions_are_by_seed_and_a_placebo_permutes_rr_in_them_too(ds1: BeatSet) -> None:
    log_probs = predicted(ds1, 1000, 1001)
    assert log_probs.shape == (2, len(ds1.label), 4)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_array_equal(predicted(ds1, 1001)[0], log_probs[1])
    assert not np.allclose(predicted(ds1, 1000, rr="placebo")[0], log_probs[0])


def test_what_is_not_finite_or_cut_otherwise_is_refused(ds1: BeatSet) -> None:
    damaged = replace(ds1, ecg=np.full_like(ds1.ecg, np.nan))
    with pytest.raises(DivergedError, match="a prediction is not finite, seed 1000; conf"):
        predicted(damaged, 1000, 1001)
    with pytest.raises(ConfigError, match="segmentation"):
        predicted(ds1, 1000, segmentation="beat")
