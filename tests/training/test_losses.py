"""Losses against PyTorch's own, and class weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from study.errors import ConfigError
from study.training.losses import Loss, class_weights

_LABEL = np.repeat([0, 1, 2], [100, 25, 4])


@pytest.mark.parametrize(
    ("kind", "proportions"),
    [("none", [1, 1, 1, 0]), ("sqrt_inverse", [2, 4, 10, 0]), ("inverse", [4, 16, 100, 0])],
)
def test_class_weights(kind: str, proportions: list[float]) -> None:
    expected = np.array(proportions) / np.mean(proportions[:3])
    np.testing.assert_allclose(class_weights(_LABEL, kind), expected, rtol=1e-6)


def test_unknown_class_weights() -> None:
    with pytest.raises(ConfigError, match="class_weights: unknown kind 'invers'; known: inverse"):
        class_weights(_LABEL, "invers")


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    outputs = torch.randn(64, 4, dtype=torch.float64) * 3
    return outputs, torch.arange(64) % 4


def test_weighted_cross_entropy_is_torchs() -> None:
    outputs, label = _batch()
    weights = torch.tensor([0.1, 1.0, 2.0, 0.9], dtype=torch.float64)
    ours = Loss(weights=weights)(outputs, label)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, label, weight=weights))


def test_label_smoothing_is_torchs() -> None:
    outputs, label = _batch()
    ours = Loss(weights=torch.ones(4, dtype=torch.float64), label_smoothing=0.2)(outputs, label)
    torch.testing.assert_close(ours, F.cross_entropy(outputs, label, label_smoothing=0.2))


def test_focal_loss_by_its_formula() -> None:
    outputs, label = _batch()
    probability = outputs.softmax(dim=1)[torch.arange(64), label]
    expected = (-((1 - probability) ** 1.5) * probability.log()).mean()
    ours = Loss(weights=torch.ones(4, dtype=torch.float64), gamma=1.5)(outputs, label)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_is_finite_where_the_model_is_certain(gamma: float) -> None:
    outputs = torch.tensor([[200.0, 0, 0, 0], [0, 200.0, 0, 0]], requires_grad=True)
    loss = Loss(weights=torch.ones(4), gamma=gamma)(outputs, torch.tensor([0, 2]))
    torch.autograd.backward(loss)
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_log_probabilities_and_logits_give_one_loss() -> None:
    outputs, label = _batch()
    loss = Loss(weights=torch.ones(4, dtype=torch.float64), gamma=2.0, label_smoothing=0.1)
    torch.testing.assert_close(loss(outputs, label), loss(outputs.log_softmax(dim=1), label))
