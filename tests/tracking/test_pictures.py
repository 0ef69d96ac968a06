"""Pictures: which are drawn, that they are pictures, and that the curves are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from study.tracking.pictures import draw_trial, precision_recall

PNG = b"\x89PNG\r\n\x1a\n"
ALL = ["confusion_matrix.png", "pr_curves.png"]


@pytest.fixture
def label() -> NDArray[np.int64]:
    return np.random.default_rng(0).choice(4, 400, p=[0.85, 0.05, 0.08, 0.02])


@pytest.fixture
def log_probs(label: NDArray[np.int64]) -> NDArray[np.float32]:
    logits = np.random.default_rng(1).normal(size=(2, len(label), 4))
    logits[:, np.arange(len(label)), label] += 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    log_probs: NDArray[np.float32] = np.log(probs).astype(np.float32)
    return log_probs


def draw(folder: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]) -> list[Path]:
    record = np.arange(len(label)) // 20
    draw_trial(folder, label=label, record=record, log_probs=log_probs)
    return sorted(folder.iterdir())


def test_the_pictures_of_a_trial_are_small_png_files(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    log_probs[:, :3] = np.nan  # beats of no validation fold
    log_probs[0, 3] = np.nan  # and one that a single seed predicted
    paths = draw(tmp_path, label, log_probs)
    assert [path.name for path in paths] == ALL
    for path in paths:
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size < 100_000


def test_equal_trials_give_equal_files(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = (draw(folder, label, log_probs) for folder in folders)
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]


def test_beats_that_nobody_predicted_are_not_drawn(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    assert draw(tmp_path, label, np.full_like(log_probs, np.nan)) == []


def test_a_class_without_beats_is_drawn_as_such(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    paths = draw(tmp_path, np.minimum(label, 2), log_probs)
    assert [path.name for path in paths] == ALL


@pytest.mark.parametrize("decimals", [1, 8])
def test_precision_and_recall_are_those_of_scikit_learn(decimals: int) -> None:
    generator = np.random.default_rng(3)
    positive = generator.random(300) < 0.2
    score = np.round(generator.random(300) + positive, decimals)
    recall, precision = precision_recall(positive, score)
    theirs, their_recall, _ = precision_recall_curve(positive, score)
    np.testing.assert_allclose(recall, their_recall[:-1][::-1], rtol=1e-12)
    np.testing.assert_allclose(precision, theirs[:-1][::-1], rtol=1e-12)
