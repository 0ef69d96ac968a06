"""The kernels of `study.models.cpu_kernels` in plain PyTorch: what the compiled ones must equal.

Pure functions, in float64 too; `Kernels` says what each takes and returns. Statistics and sums are
taken in float32 (in float64 of float64), whatever the activations are kept in.

Shapes: B beats, T time steps, K channels, S width of a squeeze-and-excitation's hidden layer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from study.models import cpu_kernels

Joined = tuple[Tensor, Tensor, Tensor, cpu_kernels.Moments, cpu_kernels.Squeezed]


def norm_relu(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, cpu_kernels.Moments]:
    wide = _wide(x)
    moments = _moments(wide)
    return _affine(wide, moments, weight, bias).relu().to(x.dtype), moments


def norm_relu_backward(
    grad: Tensor, x: Tensor, out: Tensor, weight: Tensor, moments: cpu_kernels.Moments
) -> tuple[Tensor, Tensor, Tensor]:
    return _norm_backward(torch.where(out > 0, _wide(grad), 0.0), x, weight, moments)


def norm_tanh(branches: Sequence[Tensor], *weights: Tensor, pooled: bool) -> Joined:
    joined, active, moments, squeezed = _norm_tanh(branches, *weights)
    out = squeezed.mean * squeezed.factor
    if not pooled:
        out = (active * squeezed.factor[:, None]).to(joined.dtype)
    return out, joined, active.to(joined.dtype), moments, squeezed


def norm_tanh_backward(
    grad: Tensor,
    joined: Tensor,
    active: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    moments: cpu_kernels.Moments,
    squeezed: cpu_kernels.Squeezed,
) -> tuple[Tensor, ...]:
    """From the gradient of the scaled tanh [B, T, K], or from that of its mean [B, K]."""
    n_steps, active = joined.shape[1], _wide(active)
    grad = _wide(grad) if grad.dim() == 3 else (grad / n_steps)[:, None].expand_as(active)
    d_factor = (grad * active).sum(1)
    d_mean, d_squeeze, d_excite = cpu_kernels.squeeze_backward(d_factor, squeeze, excite, squeezed)
    d_active = grad * squeezed.factor[:, None] + (d_mean / n_steps)[:, None]
    d_x, d_weight, d_bias = _norm_backward(d_active * (1 - active**2), joined, weight, moments)
    return d_weight, d_bias, d_squeeze, d_excite, *cpu_kernels.split_branches(d_x)


def affine_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (_wide(x) * scale + shift).relu().to(x.dtype)


def affine_tanh(
    branches: Sequence[Tensor],
    scale: Tensor,
    shift: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    *,
    pooled: bool,
) -> Tensor:
    active = (torch.cat(list(branches), dim=2) * scale + shift).tanh()
    scaled = active * _squeeze(active, squeeze, excite).factor[:, None]
    return scaled.mean(1) if pooled else scaled.to(branches[0].dtype)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype is torch.bfloat16 else x


def _moments(x: Tensor) -> cpu_kernels.Moments:
    # Both sums in one pass. Taken from one of the values, they do not cancel (Chan, Golub &
    # LeVeque 1983, doi:10.1080/00031305.1983.10483115).
    origin = x[0, 0]
    centred = x - origin
    n = x.shape[0] * x.shape[1]
    return cpu_kernels.moments_of_sums(
        origin, centred.sum((0, 1)), (centred * centred).sum((0, 1)), n
    )


def _affine(x: Tensor, moments: cpu_kernels.Moments, weight: Tensor, bias: Tensor) -> Tensor:
    scale = weight * moments.inverse_sd
    return x * scale + (bias - moments.mean * scale)


def _squeeze(active: Tensor, squeeze: Tensor, excite: Tensor) -> cpu_kernels.Squeezed:
    return cpu_kernels.squeezed_of_mean(active.sum(1) / active.shape[1], squeeze, excite)


def _norm_tanh(
    branches: Sequence[Tensor], weight: Tensor, bias: Tensor, squeeze: Tensor, excite: Tensor
) -> tuple[Tensor, Tensor, cpu_kernels.Moments, cpu_kernels.Squeezed]:
    joined = torch.cat(list(branches), dim=2)
    wide = _wide(joined)
    moments = _moments(wide)
    normal = _affine(wide, moments, weight, bias)
    active = normal.tanh()
    return joined, active, moments, _squeeze(active, squeeze, excite)


def _norm_backward(
    g: Tensor, x: Tensor, weight: Tensor, moments: cpu_kernels.Moments
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias from that of the normalised values, [B, T, K]."""
    n = x.shape[0] * x.shape[1]
    mean, _, inverse_sd = moments
    normal = (_wide(x) - mean) * inverse_sd
    d_weight, d_bias = (g * normal).sum((0, 1)), g.sum((0, 1))
    d_x = weight * inverse_sd * (g - d_bias / n - normal * (d_weight / n))
    return d_x.to(x.dtype), d_weight, d_bias


PLAIN = cast(cpu_kernels.Kernels, sys.modules[__name__])
"""These functions, called as the methods of the compiled kernels are."""


def compiled(dtype: torch.dtype) -> cpu_kernels.Kernels:
    """Return the kernels that are tested against these, for activations of a type."""
    kernels = cpu_kernels.compiled_kernels(dtype)
    assert kernels is not None
    return kernels
