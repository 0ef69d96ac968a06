from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import f1_score, precision_score, recall_score

from study.config import ModelConfig, TrialConfig
from study.data.beat_set import BeatSet
from study.models import rules
from study.sealed.plan import Arm
from study.sealed.thresholds import (
    best_f1_thresholds,
    decisions_at,
    ensemble_of,
    stored_predictions,
    thresholds_from,
)
from study.store.storage import Storage
from study.store.study import Places
from tests.builders import npz, stored_beats

ARM = Arm(name="film", config=TrialConfig(model=ModelConfig(fusion="film")))
LABEL = np.tile(np.arange(4), 25)


def log_probs(n_beats: int, n_seeds: int = 2) -> np.ndarray:
    logits = np.random.default_rng(3).normal(size=(n_seeds, n_beats, 4))
    return log_softmax(logits, axis=2).astype(np.float32)


def test_a_study_s_out_of_fold_predictions_of_the_same_arm_and_beats_are_taken(
    tmp_path: Path, ds1: BeatSet
) -> None:
    folder, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    predictions, places = log_probs(len(ds1.label)), Places(folder=folder)
    folder.mkdir()
    (folder / "beats.npz").write_bytes(stored_beats(ds1))
    files = Storage.at(folder / "trials").folder(rules.digest(ARM.config))
    files.write("predictions.npz", npz(log_probs=predictions))
    np.testing.assert_array_equal(stored_predictions(places, ARM, ds1), predictions)
    config = replace(ARM.config, model=ModelConfig(fusion="film", dropout=0.3))
    assert stored_predictions(places, Arm(name="film", config=config), ds1) is None
    others = replace(ds1, label=np.roll(ds1.label, 1))
    assert stored_predictions(places, ARM, others) is None
    elsewhere.mkdir()
    (folder / "trials").rename(elsewhere / "study")
    assert stored_predictions(places, ARM, ds1) is None
    assert stored_predictions(replace(places, storage=str(elsewhere)), ARM, ds1) is not None


def test_beats_in_no_fold_do_not_count() -> None:
    predictions = log_probs(100)
    few = predictions.copy()
    few[:, 60:] = np.nan
    expected = thresholds_from(predictions[:, :60], LABEL[:60], "x")
    assert thresholds_from(few, LABEL, "x").as_json() == expected.as_json()


def test_a_class_that_no_model_gives_anything_is_finite() -> None:
    predictions = np.full((2, 1, 4), -np.inf)
    predictions[:, :, 0] = 0.0
    mean = ensemble_of(predictions)
    assert mean.shape == (1, 1, 4) and np.isfinite(mean).all()


def test_no_other_threshold_has_a_higher_f1() -> None:
    predictions = log_probs(100, 3)
    thresholds = best_f1_thresholds(predictions, LABEL)
    probs = np.exp(predictions.astype(np.float64))
    for c in range(4):
        truth, scores = np.tile(LABEL == c, 3), probs[:, :, c].ravel()
        best = f1_score(truth, scores >= thresholds[c])
        assert best == pytest.approx(max(f1_score(truth, scores >= t) for t in scores))


def test_a_class_without_beats_has_none() -> None:
    predictions = log_probs(100, 1)
    thresholds = best_f1_thresholds(predictions, np.where(LABEL == 3, 0, LABEL))
    assert np.isnan(thresholds[3]) and np.isfinite(thresholds[:3]).all()
    decisions = decisions_at(predictions, LABEL, thresholds)
    assert np.isnan(decisions["se"][:, 3]).all()
    # Where nothing is called there is no precision.
    decisions = decisions_at(predictions, LABEL, np.array([2.0, 0.1, 0.1, 0.1]))
    assert np.isnan(decisions["ppv"][0, 0]) and decisions["se"][0, 0] == 0


def test_decisions_are_those_of_scikit_learn_seed_by_seed() -> None:
    predictions = log_probs(100)
    thresholds = np.array([0.5, 0.3, 0.2, 0.4])
    decisions = decisions_at(predictions, LABEL, thresholds)
    called = np.exp(predictions.astype(np.float64)) >= thresholds
    for seed in range(2):
        for c in range(4):
            truth = LABEL == c
            expected = {
                "se": recall_score(truth, called[seed, :, c]),
                "ppv": precision_score(truth, called[seed, :, c]),
                "f1": f1_score(truth, called[seed, :, c]),
                "sp": recall_score(~truth, ~called[seed, :, c]),
            }
            got = {name: values[seed, c] for name, values in decisions.items()}
            assert got == pytest.approx(expected)
