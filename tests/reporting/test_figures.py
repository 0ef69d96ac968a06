"""Pictures: which are drawn, that they are pictures, and that the curves are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from study.reporting.figures import draw_trial, precision_recall

PNG = b"\x89PNG\r\n\x1a\n"
ALL = ["pr_curves.png", "confusion_matrix.png", "gate_histogram.png", "attention.png"]


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


@pytest.fixture
def attention() -> NDArray[np.float64]:
    peaks = np.linspace(10, 50, 8).reshape(4, 2, 1)
    weights: NDArray[np.float64] = np.exp(-(((np.arange(64) - peaks) / 8) ** 2))
    weights /= weights.sum(axis=2, keepdims=True)
    return weights


def test_all_pictures_of_a_trial_are_small_png_files(
    tmp_path: Path,
    label: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    attention: NDArray[np.float64],
) -> None:
    gates = np.full((5, 8), 0.12)
    log_probs[:, :3] = np.nan  # beats of no validation fold
    log_probs[0, 3] = np.nan  # and one that a single seed predicted
    paths = draw_trial(
        tmp_path / "new" / "folder",
        label=label,
        log_probs=log_probs,
        record=np.arange(len(label)) // 20,
        gates=gates,
        gate_start=0.12,
        attention=attention,
        title="opt3 / daeac / mhca_time / seed7 / real",
    )
    assert [path.name for path in paths] == ALL
    for path in paths:
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size < 100_000


def test_equal_trials_give_equal_files(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    first, second = (
        draw_trial(tmp_path / name, label=label, log_probs=log_probs) for name in "ab"
    )
    assert [a.read_bytes() for a in first] == [b.read_bytes() for b in second]


def test_what_a_trial_does_not_have_is_not_drawn(
    tmp_path: Path, label: NDArray[np.int64], log_probs: NDArray[np.float32]
) -> None:
    one_token = np.ones((4, 1, 1))
    paths = draw_trial(tmp_path, label=label, log_probs=log_probs, attention=one_token)
    assert [path.name for path in paths] == ALL[:2]
    nothing = np.full_like(log_probs, np.nan)
    assert draw_trial(tmp_path / "empty", label=label, log_probs=nothing) == []


def test_a_class_without_beats_is_drawn_as_such(
    tmp_path: Path,
    label: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    attention: NDArray[np.float64],
) -> None:
    attention[3] = np.nan
    paths = draw_trial(
        tmp_path, label=np.minimum(label, 2), log_probs=log_probs, attention=attention
    )
    assert [path.name for path in paths] == [*ALL[:2], ALL[3]]


@pytest.mark.parametrize("decimals", [1, 8])
def test_precision_and_recall_are_those_of_scikit_learn(decimals: int) -> None:
    generator = np.random.default_rng(3)
    positive = generator.random(300) < 0.2
    score = np.round(generator.random(300) + positive, decimals)
    recall, precision = precision_recall(positive, score)
    theirs, their_recall, _ = precision_recall_curve(positive, score)
    np.testing.assert_allclose(recall, their_recall[:-1][::-1], rtol=1e-12)
    np.testing.assert_allclose(precision, theirs[:-1][::-1], rtol=1e-12)


@pytest.mark.parametrize(
    ("log_probs", "attention", "message"),
    [
        ((2, 9, 4), None, r"log_probs must be \[S, N, C\] with \(N, C\) = \(10, 4\), got \(2, 9"),
        ((10, 4), None, r"log_probs must be \[S, N, C\] .*, got \(10, 4\)"),
        ((2, 10, 4), (3, 1, 64), r"attention must be \[C, H, L\] with C = 4, got \(3, 1, 64\)"),
    ],
)
def test_shapes_that_do_not_agree_are_refused(
    tmp_path: Path,
    log_probs: tuple[int, ...],
    attention: tuple[int, ...] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_trial(
            tmp_path,
            label=np.zeros(10, dtype=np.int64),
            log_probs=np.zeros(log_probs, dtype=np.float32),
            attention=None if attention is None else np.ones(attention),
        )
