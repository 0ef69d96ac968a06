"""AdamW, its learning-rate schedules, and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

_WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""

_START, _END = 1 / 25, 1e-5
"""First and last learning rate, as shares of the highest."""


def make_optimiser(
    parameters: Sequence[tuple[str, Tensor]],
    *,
    learning_rate: float | Tensor,
    weight_decay: float,
    packed: bool = False,
) -> torch.optim.AdamW:
    """Return AdamW that decays matrices and kernels only.

    Biases, norms, gates, queries and positions do not decay: decay would pull a gate towards half
    open, whatever it started at. Parameters come by qualified name, in the order of their module;
    `packed` ones have an axis of members in front. A learning rate that is a tensor may be changed
    in place, between the replays of a graph.
    """
    decayed = {
        id(p)
        for name, p in parameters
        if name.rpartition(".")[2].endswith("weight") and p.ndim > 1 + packed
    }
    trained = [p for _, p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(
        groups,
        lr=learning_rate,
        fused=True,
        capturable=any(p.is_cuda for p in trained),
    )


def learning_rate(step: int, *, n_steps: int, peak: float, schedule: str) -> float:
    """Return the learning rate of a step (from 0); the last one's is about zero.

    `one_cycle` rises for 30 % of the steps from a 25th of the peak, then falls, both as half a
    cosine (Smith & Topin 2018, arXiv:1708.07120, without its momentum cycle); `cosine` only falls
    (Loshchilov & Hutter 2017, arXiv:1608.03983).
    """
    last = max(n_steps - 1, 1)
    top = _WARM_UP * last if schedule == "one_cycle" else 0.0
    if step < top:
        return peak * _half_cosine(_START, 1.0, step / top)
    return peak * _half_cosine(1.0, _END, (step - top) / (last - top))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


Model = TypeVar("Model", bound=nn.Module)


class AveragedWeights(Generic[Model]):
    """Exponential moving average of a model's weights and float buffers (batch norm's).

    Attributes:
        model: The averaged copy of the model that is trained.
    """

    def __init__(self, model: Model, *, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._decay = decay
        self._means, self._values = _tensors(self.model), _tensors(model)

    def update(self, step: int) -> None:
        """Move the average towards the model after a step (from 0)."""
        move_average(self._means, self._values, decay=self._decay, step=step)


@torch.no_grad()
def move_average(
    means: Sequence[Tensor], values: Sequence[Tensor], *, decay: float, step: int
) -> None:
    """Move averages towards values after a step (from 0); copy values that are no floats.

    The decay is min(decay, (1 + t) / (10 + t)) at step t, so that a short training does not keep
    the initial weights.
    """
    pairs = list(zip(means, values, strict=True))
    averaged = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_(
        [mean for mean, _ in averaged],
        [value for _, value in averaged],
        1 - min(decay, (1 + step) / (10 + step)),
    )
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
