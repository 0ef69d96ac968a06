"""What models of all records say of records that they have never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from study.config import ModelConfig, SignalSpec, TrainConfig, TrialConfig
from study.data.beat_set import BeatSet
from study.data.prepare import prepare_all
from study.errors import ConfigError, DivergedError
from study.models.classifier import build_model
from study.sealed.opening import predict_all
from study.sealed.records import Records
from study.training.device import DeviceBeats
from study.training.engine import Engine

CONFIG = TrialConfig(
    model=ModelConfig(fusion="film", embed_dim=8), train=TrainConfig(epochs=1, batch_size=32)
)
SEEDS = (1000, 1001)


@pytest.fixture
def ds1(records: Records, cache_dir: Path) -> BeatSet:
    cut = ("daeac", "linear")
    return prepare_all(records.source, [cut], cache_dir=cache_dir, study_seed=0)[cut]


def predicted(beats: BeatSet, config: TrialConfig, *seeds: int) -> np.ndarray:
    placed = DeviceBeats(beats, torch.device("cpu"))
    models = [build_model(CONFIG.signal, CONFIG.model, seed=(seed,)) for seed in seeds]
    return predict_all(models, config, placed, study_seed=0, seeds=seeds, engine=Engine())


def test_predictions_are_by_seed_and_normalised(ds1: BeatSet) -> None:
    log_probs = predicted(ds1, CONFIG, *SEEDS)
    assert log_probs.shape == (2, len(ds1.label), 4)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_array_equal(predicted(ds1, CONFIG, 1001)[0], log_probs[1])


def test_a_placebo_permutes_rr_in_the_predicted_records_too(ds1: BeatSet) -> None:
    placebo = replace(CONFIG, signal=SignalSpec(rr="placebo"))
    assert not np.allclose(predicted(ds1, placebo, 1000), predicted(ds1, CONFIG, 1000))


def test_what_is_not_finite_names_its_seed(ds1: BeatSet) -> None:
    damaged = replace(ds1, ecg=np.full_like(ds1.ecg, np.nan))
    with pytest.raises(DivergedError, match="a prediction is not finite, seed 1000; conf"):
        predicted(damaged, CONFIG, *SEEDS)


def test_beats_that_are_cut_otherwise_are_refused(ds1: BeatSet) -> None:
    with pytest.raises(ConfigError, match="segmentation"):
        predicted(ds1, replace(CONFIG, signal=SignalSpec(segmentation="beat")), 1000)
