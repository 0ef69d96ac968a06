"""Thresholds by brute force and decisions by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from study.training.thresholds import best_f1_thresholds, decisions_at


def predictions(n_seeds: int, n_beats: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, n_beats)
    logits = rng.normal(size=(n_seeds, n_beats, 4)) + 1.5 * np.eye(4)[label]
    log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    return log_probs.astype(np.float32), label


def test_no_other_threshold_has_a_higher_f1() -> None:
    log_probs, label = predictions(3)
    thresholds = best_f1_thresholds(log_probs, label)
    probs = np.exp(log_probs.astype(np.float64))
    for c in range(4):
        truth, scores = np.tile(label == c, 3), probs[:, :, c].ravel()
        best = f1_score(truth, scores >= thresholds[c])
        assert best == pytest.approx(max(f1_score(truth, scores >= t) for t in scores))


def test_a_class_without_beats_has_none() -> None:
    log_probs, label = predictions(1)
    thresholds = best_f1_thresholds(log_probs, np.where(label == 3, 0, label))
    assert np.isnan(thresholds[3]) and np.isfinite(thresholds[:3]).all()
    decisions = decisions_at(log_probs, label, thresholds)
    assert np.isnan(decisions["se"][:, 3]).all()
    # Where nothing is called there is no precision.
    decisions = decisions_at(log_probs, label, np.array([2.0, 0.1, 0.1, 0.1]))
    assert np.isnan(decisions["ppv"][0, 0]) and decisions["se"][0, 0] == 0


def test_decisions_are_those_of_scikit_learn_seed_by_seed() -> None:
    log_probs, label = predictions(2)
    thresholds = np.array([0.5, 0.3, 0.2, 0.4])
    decisions = decisions_at(log_probs, label, thresholds)
    called = np.exp(log_probs.astype(np.float64)) >= thresholds
    for seed in range(2):
        for c in range(4):
            truth = label == c
            expected = {
                "se": recall_score(truth, called[seed, :, c]),
                "ppv": precision_score(truth, called[seed, :, c]),
                "f1": f1_score(truth, called[seed, :, c]),
                "sp": recall_score(~truth, ~called[seed, :, c]),
            }
            got = {name: values[seed, c] for name, values in decisions.items()}
            assert got == pytest.approx(expected)
