"""Weight decay, schedules and averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from study.training.optimiser import AveragedWeights, learning_rate, make_optimiser


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, (1, 3))
        self.norm = nn.BatchNorm2d(2)
        self.output = nn.Linear(2, 2)
        self.alpha = nn.Parameter(torch.zeros(2))
        self.query = nn.Parameter(torch.zeros(1, 2))
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


def test_only_matrices_and_kernels_decay() -> None:
    net = _Net()
    names = {id(p): name for name, p in net.named_parameters()}
    optimiser = make_optimiser(list(net.named_parameters()), learning_rate=0.1, weight_decay=0.5)
    of_decay = {
        group["weight_decay"]: {names[id(p)] for p in group["params"]}
        for group in optimiser.param_groups
    }
    vectors = {"conv.bias", "norm.weight", "norm.bias", "output.bias", "alpha", "query"}
    assert of_decay == {0.5: {"conv.weight", "output.weight"}, 0.0: vectors}


def _rates(schedule: str, n_steps: int) -> list[float]:
    return [
        learning_rate(step, n_steps=n_steps, peak=2.0, schedule=schedule)
        for step in range(n_steps)
    ]


def test_one_cycle_rises_then_falls_to_about_zero_and_cosine_only_falls() -> None:
    rates = _rates("one_cycle", 101)
    assert rates.index(max(rates)) == 30
    assert [rates[0], rates[30], rates[-1]] == pytest.approx([2.0 / 25, 2.0, 2e-5])
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    rates = _rates("cosine", 101)
    assert rates == sorted(rates, reverse=True)
    assert [rates[0], rates[50], rates[-1]] == pytest.approx([2.0, 1.0, 2e-5], rel=1e-3)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_short_schedules_stay_between_zero_and_peak(schedule: str, n_steps: int) -> None:
    assert all(0 < rate <= 2.0 for rate in _rates(schedule, n_steps))


def test_average_follows_the_formula_and_covers_batch_norm() -> None:
    net = _Net()
    average = AveragedWeights(net, decay=0.15)
    expected = net.output.weight.detach().clone()
    for step, decay in enumerate([0.1, 0.15, 0.15]):  # (1 + t) / (10 + t), at most 0.15
        with torch.no_grad():
            net.output.weight += 1
            for buffer in net.norm.buffers():
                buffer += 1
        average.update(step)
        expected = decay * expected + (1 - decay) * net.output.weight.detach()
    torch.testing.assert_close(average.model.output.weight, expected)
    mean = average.model.norm.running_mean
    assert mean is not None
    assert (mean > 2.5).all() and (mean < 3).all()
    assert average.model.norm.num_batches_tracked == torch.tensor(3)
