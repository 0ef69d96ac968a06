"""Pictures: which are drawn, that they are pictures, and that the curves are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from study.tracking.pictures import draw_trial

LABEL = np.random.default_rng(0).choice(4, 400, p=[0.85, 0.05, 0.08, 0.02])


@pytest.fixture
def log_probs() -> NDArray[np.float32]:
    logits = np.random.default_rng(1).normal(size=(2, len(LABEL), 4))
    logits[:, np.arange(len(LABEL)), LABEL] += 2
    return log_softmax(logits, axis=2).astype(np.float32)


def draw(
    folder: Path, log_probs: NDArray[np.float32], label: NDArray[np.int64] = LABEL
) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    draw_trial(folder, label=label, record=np.arange(len(label)) // 20, log_probs=log_probs)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_pictures_of_a_trial_are_small_png_files_and_the_same_each_time(
    tmp_path: Path, log_probs: NDArray[np.float32]
) -> None:
    log_probs[:, :3] = np.nan  # beats of no validation fold
    log_probs[0, 3] = np.nan  # and one that a single seed predicted
    pictures = draw(tmp_path / "a", log_probs)
    assert pictures.keys() == {"confusion_matrix.png", "pr_curves.png"}
    for content in pictures.values():
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) < 100_000
    assert draw(tmp_path / "b", log_probs) == pictures
    assert len(draw(tmp_path / "c", log_probs, np.minimum(LABEL, 2))) == 2, "without F"
    assert draw(tmp_path / "d", np.full_like(log_probs, np.nan)) == {}
