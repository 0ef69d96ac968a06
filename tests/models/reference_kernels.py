"""The kernels of `study.models.cpu_kernels` in plain PyTorch: what the compiled ones must equal.

Pure functions, in float64 too. Statistics and sums are taken in float32 (in float64 of float64),
whatever the activations are kept in.

Shapes: B beats, T time steps, K channels, S width of a squeeze-and-excitation's hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from study.models.cpu_kernels import (
    Kernels,
    Moments,
    Squeezed,
    apart,
    compiled_kernels,
    moments_of_sums,
    squeeze_backward,
    squeezed_of_mean,
)

Joined = tuple[Tensor, Tensor, Tensor, Moments, Squeezed]


def norm_relu(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Moments]:
    """Return relu(batch norm(x)) [B, T, K] and the moments of x."""
    wide = _wide(x)
    moments = _moments(wide)
    return _affine(wide, moments, weight, bias).relu().to(x.dtype), moments


def norm_relu_backward(
    grad: Tensor, x: Tensor, out: Tensor, weight: Tensor, moments: Moments
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    g = torch.where(out > 0, _wide(grad), 0.0)
    return _norm_backward(g, x, weight, moments)


def norm_tanh_scale(branches: Sequence[Tensor], *weights: Tensor) -> Joined:
    """Join branches along the channels: tanh of batch norm, scaled by squeeze-and-excitation.

    Returns:
        The result, the joined branches, their tanh, moments, and what the scaling saw.
    """
    joined, active, moments, squeezed = _norm_tanh(branches, *weights)
    scaled = active * squeezed.factor[:, None]
    return scaled.to(joined.dtype), joined, active.to(joined.dtype), moments, squeezed


def norm_tanh_pool(branches: Sequence[Tensor], *weights: Tensor) -> Joined:
    """Return the mean over time of `norm_tanh_scale`, [B, K], and the rest as it does."""
    joined, active, moments, squeezed = _norm_tanh(branches, *weights)
    pooled = squeezed.mean * squeezed.factor
    return pooled, joined, active.to(joined.dtype), moments, squeezed


def norm_tanh_scale_backward(grad: Tensor, *seen: Any) -> tuple[Tensor, ...]:
    """Return the gradients of weight, bias, squeeze, excite and of every branch."""
    return _tanh_backward(grad, None, *seen)


def norm_tanh_pool_backward(grad: Tensor, *seen: Any) -> tuple[Tensor, ...]:
    """Return the gradients of weight, bias, squeeze, excite and of every branch."""
    return _tanh_backward(None, grad, *seen)


def _tanh_backward(
    grad: Tensor | None,
    pooled_grad: Tensor | None,
    joined: Tensor,
    active: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    moments: Moments,
    squeezed: Squeezed,
) -> tuple[Tensor, ...]:
    """Return the gradients of weight, bias, squeeze, excite and of every branch.

    Either from the gradient of the scaled tanh [B, T, K], or from that of its mean [B, K].
    """
    active = _wide(active)
    if pooled_grad is None:
        assert grad is not None
        every_step = _wide(grad) * squeezed.factor[:, None]
        d_factor = (_wide(grad) * active).sum(1)
    else:
        every_step = (pooled_grad * squeezed.factor / joined.shape[1])[:, None]
        d_factor = pooled_grad * squeezed.mean
    d_mean, d_squeeze, d_excite = squeeze_backward(d_factor, squeeze, excite, squeezed)
    d_active = every_step + (d_mean / joined.shape[1])[:, None]
    d_x, d_weight, d_bias = _norm_backward(
        d_active * (1 - active * active), joined, weight, moments
    )
    return d_weight, d_bias, d_squeeze, d_excite, *apart(d_x)


def affine_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return relu(x * scale + shift): batch norm of known moments, and ReLU."""
    return (_wide(x) * scale + shift).relu().to(x.dtype)


def affine_tanh_scale(
    branches: Sequence[Tensor], scale: Tensor, shift: Tensor, squeeze: Tensor, excite: Tensor
) -> Tensor:
    """Return tanh(joined branches * scale + shift), scaled by its squeeze-and-excitation."""
    active = (torch.cat(list(branches), dim=2) * scale + shift).tanh()
    scaled = active * _squeeze(active, squeeze, excite).factor[:, None]
    return scaled.to(branches[0].dtype)


def affine_tanh_pool(
    branches: Sequence[Tensor], scale: Tensor, shift: Tensor, squeeze: Tensor, excite: Tensor
) -> Tensor:
    """Return the mean over time of `affine_tanh_scale`, [B, K]."""
    active = (torch.cat(list(branches), dim=2) * scale + shift).tanh()
    squeezed = _squeeze(active, squeeze, excite)
    return squeezed.mean * squeezed.factor


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype is torch.bfloat16 else x


def _moments(x: Tensor) -> Moments:
    # Both sums in one pass. Taken from one of the values, they do not cancel (Chan, Golub &
    # LeVeque 1983, doi:10.1080/00031305.1983.10483115).
    origin = x[0, 0]
    centred = x - origin
    n = x.shape[0] * x.shape[1]
    return moments_of_sums(origin, centred.sum((0, 1)), (centred * centred).sum((0, 1)), n)


def _affine(x: Tensor, moments: Moments, weight: Tensor, bias: Tensor) -> Tensor:
    scale = weight * moments.inverse_sd
    return x * scale + (bias - moments.mean * scale)


def _squeeze(active: Tensor, squeeze: Tensor, excite: Tensor) -> Squeezed:
    return squeezed_of_mean(active.sum(1) / active.shape[1], squeeze, excite)


def _norm_tanh(
    branches: Sequence[Tensor], weight: Tensor, bias: Tensor, squeeze: Tensor, excite: Tensor
) -> tuple[Tensor, Tensor, Moments, Squeezed]:
    joined = torch.cat(list(branches), dim=2)
    wide = _wide(joined)
    moments = _moments(wide)
    normal = _affine(wide, moments, weight, bias)
    active = normal.tanh()
    return joined, active, moments, _squeeze(active, squeeze, excite)


def _norm_backward(
    g: Tensor, x: Tensor, weight: Tensor, moments: Moments
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias from that of the normalised values, [B, T, K]."""
    n = x.shape[0] * x.shape[1]
    mean, _, inverse_sd = moments
    normal = (_wide(x) - mean) * inverse_sd
    d_weight, d_bias = (g * normal).sum((0, 1)), g.sum((0, 1))
    d_x = weight * inverse_sd * (g - d_bias / n - normal * (d_weight / n))
    return d_x.to(x.dtype), d_weight, d_bias


PLAIN = Kernels(
    norm_relu,
    norm_relu_backward,
    norm_tanh_scale,
    norm_tanh_scale_backward,
    norm_tanh_pool,
    norm_tanh_pool_backward,
    affine_relu,
    affine_tanh_scale,
    affine_tanh_pool,
)


def compiled(dtype: torch.dtype) -> Kernels:
    """Return the kernels that are tested against these, for activations of a type."""
    kernels = compiled_kernels(dtype)
    assert kernels is not None
    return kernels
