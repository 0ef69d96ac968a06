"""Losses against PyTorch's own, and class weights by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from study.training.losses import Loss, class_weights, logit_adjustment, times_shown

_LABEL = np.repeat([0, 1, 2], [100, 25, 4])


def test_class_weights_of_an_epoch() -> None:
    for kind, normal_beats, proportions in (
        ("none", 0, [1, 1, 1, 0]),
        ("sqrt_inverse", 0, [2, 4, 10, 0]),
        ("inverse", 0, [4, 16, 100, 0]),
        # An epoch has 16 N, 25 S and 4 V.
        ("sqrt_inverse", 16, [5, 4, 10, 0]),
    ):
        expected = np.array(proportions) / np.mean(proportions[:3])
        weights = class_weights(_LABEL, kind, normal_beats=normal_beats)
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_adjustment_gives_the_true_shares_where_nothing_else_is_known() -> None:
    """Outputs that are the same for all beats, at the minimum of an epoch's loss."""
    epoch = np.repeat([0, 1, 2], [16, 25, 4])
    weights = class_weights(_LABEL, "sqrt_inverse", normal_beats=16)
    outputs = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.LBFGS([outputs], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = Loss(weights=torch.tensor(weights))(outputs.expand(45, 4), torch.tensor(epoch))
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)
    adjustment = logit_adjustment(weights * times_shown(_LABEL, normal_beats=16))
    probability = (outputs.detach() + torch.tensor(adjustment)).softmax(dim=0).numpy()
    assert probability == pytest.approx(np.array([100, 25, 4, 0]) / 129, abs=2e-3)


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
    own = Loss(weights=_WEIGHTS, rr_weight=0.5)(torch.cat((outputs, 2 * outputs), dim=1), label)
    whole, expert = (F.cross_entropy(k * outputs, label, weight=_WEIGHTS) for k in (1, 2))
    torch.testing.assert_close(own, whole + 0.5 * expert)
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
