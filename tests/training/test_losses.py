"""Losses against PyTorch's own, and class weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from study.training.losses import Loss, class_weights

_LABEL = np.repeat([0, 1, 2], [100, 25, 4])


@pytest.mark.parametrize(
    ("kind", "proportions"),
    [("none", [1, 1, 1, 0]), ("sqrt_inverse", [2, 4, 10, 0]), ("inverse", [4, 16, 100, 0])],
)
def test_class_weights(kind: str, proportions: list[float]) -> None:
    expected = np.array(proportions) / np.mean(proportions[:3])
    np.testing.assert_allclose(class_weights(_LABEL, kind), expected, rtol=1e-6)


_ONES = torch.ones(4, dtype=torch.float64)
_WEIGHTS = torch.tensor([0.1, 1.0, 2.0, 0.9], dtype=torch.float64)


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    outputs = torch.randn(64, 4, dtype=torch.float64) * 3
    return outputs, torch.arange(64) % 4


def test_losses_are_torchs_and_the_focal_one_is_its_formula() -> None:
    outputs, label = _batch()
    probability = outputs.softmax(dim=1)[torch.arange(64), label]
    for loss, expected in (
        (Loss(weights=_WEIGHTS), F.cross_entropy(outputs, label, weight=_WEIGHTS)),
        (
            Loss(weights=_ONES, label_smoothing=0.2),
            F.cross_entropy(outputs, label, label_smoothing=0.2),
        ),
        (Loss(weights=_ONES, gamma=1.5), (-((1 - probability) ** 1.5) * probability.log()).mean()),
    ):
        torch.testing.assert_close(loss(outputs, label), expected)
    both = Loss(weights=_ONES, gamma=2.0, label_smoothing=0.1)
    # Log-probabilities and logits give one loss.
    torch.testing.assert_close(both(outputs, label), both(outputs.log_softmax(dim=1), label))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_gradient_is_finite_where_the_model_is_certain(gamma: float) -> None:
    outputs = torch.tensor([[200.0, 0, 0, 0], [0, 200.0, 0, 0]], requires_grad=True)
    loss = Loss(weights=torch.ones(4), gamma=gamma)(outputs, torch.tensor([0, 2]))
    torch.autograd.backward(loss)
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
