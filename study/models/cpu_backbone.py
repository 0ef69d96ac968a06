"""The backbone on a CPU: the network of `study.models.backbone`, in fewer passes over memory.

oneDNN computes the convolutions, over channels that lie innermost. One kernel of
`study.models.cpu_kernels` forward and one backward compute all that is between two of them.
Training in bfloat16 halves the activations and the
operands of the convolutions, while weights, statistics, sums and gradients of weights stay as they
are. Evaluation computes in the weights' own type, so that a trial's scores are not rounded; only
scores before the last epoch, which steer a search, may be.

A bias before batch norm gets no gradient here: batch norm subtracts the bias again, so that its
gradient is zero but for rounding.

Shapes: B beats, T time steps, K channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from study.models.backbone import ASPP, EPSILON, MACNNSE, ResidualBlock, SqueezeExcitation
from study.models.cpu_kernels import Kernels, Moments, Squeezed


@dataclass(frozen=True, slots=True, eq=False)
class FusedBackbone:
    """Runs a `MACNNSE`: the same parameters and buffers, another order of operations."""

    dtype: torch.dtype  # of the activations in training: float32, bfloat16, or float64 for tests
    kernels: Kernels  # what runs between convolutions, for activations of that type
    exact: bool = True  # evaluate in the weights' own type; else as in training

    def __call__(self, backbone: MACNNSE, x: Tensor, *, over_time: bool) -> Tensor:
        """Map beats [B, 1, channels, T] to [B, K, T / 2], or to its mean over time, [B, K, 1]."""
        stem = backbone.stem
        dtype = self.dtype if backbone.training or not self.exact else stem.weight.dtype
        x = functional.conv2d(
            x.to(dtype),
            stem.weight.to(dtype),
            None if stem.bias is None else stem.bias.to(dtype),
            padding=cast(tuple[int, int], stem.padding),
        )
        rows = _rows(x).contiguous()
        rows = self._residual(
            backbone.residual_1, self._stage(backbone.aspp_1, backbone.se_1, rows)
        )
        rows = self._residual(
            backbone.residual_2, self._stage(backbone.aspp_2, backbone.se_2, rows)
        )
        rows = self._norm_relu(cast(nn.BatchNorm2d, backbone.activation[0]), rows)
        if over_time:
            return self._stage(backbone.aspp_3, backbone.se_3, rows).transpose(1, 2)
        return self._stage(backbone.aspp_3, backbone.se_3, rows, pooled=True)[:, :, None]

    def in_training_precision(self) -> FusedBackbone:
        """Return a runner that evaluates in the type of training."""
        return replace(self, exact=False)

    def _stage(
        self, aspp: ASPP, excitation: SqueezeExcitation, rows: Tensor, *, pooled: bool = False
    ) -> Tensor:
        modules = cast(Sequence[nn.Sequential], aspp.branches)
        norms = [cast(nn.BatchNorm2d, branch[1]) for branch in modules]
        branches = [
            _convolved(cast(nn.Conv2d, branch[0]), rows, normalised=True) for branch in modules
        ]
        squeeze = cast(nn.Linear, excitation.scale[0]).weight
        excite = cast(nn.Linear, excitation.scale[2]).weight
        if not aspp.training:
            scale, shift = _scale_and_shift(norms)
            return self.kernels.affine_tanh(branches, scale, shift, squeeze, excite, pooled=pooled)
        weight = torch.cat([norm.weight for norm in norms])
        bias = torch.cat([norm.bias for norm in norms])
        out, mean, variance = _apply(
            _NormTanh, self.kernels, pooled, weight, bias, squeeze, excite, *branches
        )
        _track(norms, mean, variance, rows.shape[0] * rows.shape[1])
        return out

    def _residual(self, block: ResidualBlock, rows: Tensor) -> Tensor:
        norm_1, _, conv_1, norm_2, _, conv_2 = block.body
        change = _convolved(
            cast(nn.Conv2d, conv_1),
            self._norm_relu(cast(nn.BatchNorm2d, norm_1), rows),
            normalised=True,
        )
        change = _convolved(
            cast(nn.Conv2d, conv_2),
            self._norm_relu(cast(nn.BatchNorm2d, norm_2), change),
            normalised=False,
        )
        if block.stride == 1:
            return change + rows
        # As strided slices: `mean` is not vectorised in bfloat16.
        total = sum(rows[:, step :: block.stride] for step in range(block.stride))
        return torch.add(change, cast(Tensor, total), alpha=1 / block.stride)

    def _norm_relu(self, norm: nn.BatchNorm2d, rows: Tensor) -> Tensor:
        if not norm.training:
            return self.kernels.affine_relu(rows, *_scale_and_shift([norm]))
        out, mean, variance = _apply(_NormReLU, self.kernels, rows, norm.weight, norm.bias)
        _track([norm], mean, variance, rows.shape[0] * rows.shape[1])
        return out


def _rows(x: Tensor) -> Tensor:
    """Return [B, K, 1, T] as [B, T, K], without a copy where channels lie innermost."""
    return x.squeeze(2).transpose(1, 2)


def _convolved(conv: nn.Conv2d, rows: Tensor, *, normalised: bool) -> Tensor:
    """Convolve [B, T, K]; `normalised` says that batch norm follows, and takes the bias away."""
    bias = cast(Tensor, conv.bias)
    out = functional.conv2d(
        rows.transpose(1, 2).unsqueeze(2),
        conv.weight.to(rows.dtype),
        (bias.detach() if normalised else bias).to(rows.dtype),
        cast(tuple[int, int], conv.stride),
        cast(tuple[int, int], conv.padding),
        cast(tuple[int, int], conv.dilation),
    )
    return _rows(out)


def _scale_and_shift(norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
    """Return scale and shift [K] of joined batch norms, from their running moments."""

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(norm, name).detach() for norm in norms])

    scale = joined("weight") * (joined("running_var") + EPSILON).rsqrt()
    return scale, joined("bias") - joined("running_mean") * scale


def _track(norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, n: int) -> None:
    """Update running moments as `torch.nn.BatchNorm2d` does, with the unbiased variance."""
    with torch.no_grad():
        unbiased = variance * (n / (n - 1))
        parts = zip(norms, mean.chunk(len(norms)), unbiased.chunk(len(norms)), strict=True)
        for norm, norm_mean, norm_variance in parts:
            momentum = cast(float, norm.momentum)
            cast(Tensor, norm.running_mean).lerp_(norm_mean, momentum)
            cast(Tensor, norm.running_var).lerp_(norm_variance, momentum)
            cast(Tensor, norm.num_batches_tracked).add_(1)


def _apply(
    function: type[torch.autograd.Function], *inputs: object
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a function below returns: output, mean and variance."""
    apply: Any = function.apply
    return cast(tuple[Tensor, Tensor, Tensor], apply(*inputs))


class _NormReLU(torch.autograd.Function):
    """Batch norm and ReLU; also returns mean and variance."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, moments = kernels.norm_relu(x, weight, bias)
        ctx.kernels = kernels
        ctx.save_for_backward(x, out, weight, *moments)
        ctx.mark_non_differentiable(moments.mean, moments.variance)
        ctx.set_materialize_grads(False)
        return out, moments.mean, moments.variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        *saved, mean, variance, inverse_sd = ctx.saved_tensors
        moments = Moments(mean, variance, inverse_sd)
        return None, *ctx.kernels.norm_relu_backward(grad.contiguous(), *saved, moments)


class _NormTanh(torch.autograd.Function):
    """Joined branches, batch norm, tanh and squeeze-and-excitation, scaled or pooled."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Kernels, pooled: bool, *inputs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias, squeeze, excite, *branches = inputs
        out, joined, active, moments, squeezed = kernels.norm_tanh(
            branches, weight, bias, squeeze, excite, pooled=pooled
        )
        ctx.kernels = kernels
        ctx.save_for_backward(joined, active, weight, squeeze, excite, *moments, *squeezed)
        ctx.mark_non_differentiable(moments.mean, moments.variance)
        ctx.set_materialize_grads(False)
        return out, moments.mean, moments.variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        moments, squeezed = Moments(*saved[5:8]), Squeezed(*saved[8:])
        gradients = ctx.kernels.norm_tanh_backward(
            grad.contiguous(), *saved[:5], moments, squeezed
        )
        return None, None, *gradients
