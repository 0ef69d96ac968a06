"""The operations between a backbone's convolutions on a CPU, as compiled functions.

They are batch norm and what follows it, forward and backward. The compiled functions
(`study.models.build_kernels`) need two or three passes over memory where PyTorch's operations need
a dozen and `torch.compile` four or five; they are compiled in seconds and loaded in milliseconds.
Channels lie innermost, [B, T, K], so that every loop runs along consecutive values. Statistics and
sums are taken in float32, whatever the activations are kept in.

`tests/models/reference_kernels.py` has the same kernels in plain PyTorch.

Shapes: B beats, T time steps, K channels, S width of a squeeze-and-excitation's hidden layer.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from study.models.backbone import DILATIONS, EPSILON
from study.models.build_kernels import LibraryError, load_library

_logger = logging.getLogger(__name__)

_SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class Moments(NamedTuple):
    """Mean, biased variance and 1 / standard deviation [K] of channels over beats and time."""

    mean: Tensor
    variance: Tensor
    inverse_sd: Tensor


class Squeezed(NamedTuple):
    """Values of a squeeze-and-excitation: means [B, K], hidden layer [B, S], factors [B, K]."""

    mean: Tensor
    hidden: Tensor
    factor: Tensor


@cache
def compiled_kernels(dtype: torch.dtype) -> Kernels | None:
    """Return the kernels to train in a type, and to evaluate in it and in float32.

    None for float64, which serves to compare ways of training; None with a warning where they
    cannot be compiled. PyTorch's modules then compute the network.
    """
    if dtype not in _SUFFIXES:
        return None
    try:
        library = load_library()
    except LibraryError as error:
        _logger.warning(
            "no compiled kernels, training takes up to twice as long: %s (README, 'Two commands')",
            error,
        )
        return None
    return Kernels(library, dtype)


def has_compiled_kernels() -> bool:
    """Return whether this machine has the kernels; the first time, they are compiled."""
    return compiled_kernels(torch.float32) is not None


class _Functions:
    """The compiled functions for activations of one type.

    Each is called with a tensor of the sizes [B, T, K] of the activations, and then with its own
    arguments: activations, which have three axes, and values of beats and channels in float32.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        def typed(name: str) -> Callable[..., None]:
            function = getattr(library, f"{name}_{_SUFFIXES[dtype]}")
            function.restype = None

            def call(sized: Tensor, *tensors: Tensor | None) -> None:
                sizes = (ctypes.c_int64(size) for size in sized.shape)
                function(*sizes, *(_address(tensor, dtype) for tensor in tensors))

            return call

        self.sums_around = typed("sums_around")
        self.affine_relu = typed("affine_relu")
        self.relu_backward_sums = typed("relu_backward_sums")
        self.relu_backward = typed("relu_backward")
        self.affine_tanh = typed("affine_tanh")
        self.scaled = typed("scaled")
        self.product_over_time = typed("product_over_time")
        self.tanh_backward_sums = typed("tanh_backward_sums")
        self.tanh_backward = typed("tanh_backward")


def _address(tensor: Tensor | None, activations: torch.dtype) -> ctypes.c_void_p:
    """Return the address of a tensor's values.

    Raises:
        TypeError: If they are of another type, layout or device than the C++ functions expect.
    """
    if tensor is None:
        return ctypes.c_void_p(None)
    expected = activations if tensor.dim() == 3 else torch.float32
    if tensor.dtype != expected or not tensor.is_contiguous() or tensor.device.type != "cpu":
        raise TypeError(
            f"kernels take dense tensors of {expected} on the CPU, got {list(tensor.shape)} of "
            f"{tensor.dtype}, strides {tensor.stride()}, on {tensor.device}"
        )
    return ctypes.c_void_p(tensor.data_ptr())


class Kernels:
    """What a backbone calls: compiled functions for passes over activations, PyTorch for the rest.

    Training has activations of one type; evaluation may have them in another.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self._by_type = {kind: _Functions(library, kind) for kind in _SUFFIXES}
        self._functions = self._by_type[dtype]

    def _moments(self, x: Tensor) -> Moments:
        origin = x[0, 0].float()
        total, squares = origin.new_empty(2, x.shape[2]).unbind()
        self._functions.sums_around(x, x, origin, total, squares)
        return moments_of_sums(origin, total, squares, x.shape[0] * x.shape[1])

    def norm_relu(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Moments]:
        """Return relu(batch norm(x)) [B, T, K], and the moments of x."""
        x = x.contiguous()
        moments = self._moments(x)
        scale, shift = _affine(moments, weight, bias)
        out = torch.empty_like(x)
        self._functions.affine_relu(x, x, scale, shift, out)
        return out, moments

    def norm_relu_backward(
        self, grad: Tensor, x: Tensor, out: Tensor, weight: Tensor, moments: Moments
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias."""
        grad, x = grad.contiguous(), x.contiguous()
        d_weight, d_bias = torch.empty_like(weight), torch.empty_like(weight)
        self._functions.relu_backward_sums(
            x, grad, out, x, moments.mean, moments.inverse_sd, d_weight, d_bias
        )
        d_x = torch.empty_like(x)
        self._functions.relu_backward(
            x, grad, out, x, moments.mean, *_slopes(x, weight, moments, d_weight, d_bias), d_x
        )
        return d_x, d_weight, d_bias

    def norm_tanh(
        self,
        branches: Sequence[Tensor],
        weight: Tensor,
        bias: Tensor,
        squeeze: Tensor,
        excite: Tensor,
        *,
        pooled: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Moments, Squeezed]:
        """Join branches along the channels; tanh of batch norm, scaled by squeeze-and-excitation.

        Returns the result or, pooled, its mean over time [B, K]; the joined branches, their tanh,
        their moments, and the scaling's values.
        """
        joined = _joined(branches)
        moments = self._moments(joined)
        scale, shift = _affine(moments, weight, bias)
        active, mean = torch.empty_like(joined), _empty_by_beat(joined)
        self._functions.affine_tanh(joined, joined, scale, shift, active, mean)
        squeezed = squeezed_of_mean(mean, squeeze, excite)
        if pooled:
            return mean * squeezed.factor, joined, active, moments, squeezed
        out = torch.empty_like(active)
        self._functions.scaled(active, active, squeezed.factor, out)
        return out, joined, active, moments, squeezed

    def norm_tanh_backward(
        self,
        grad: Tensor,
        joined: Tensor,
        active: Tensor,
        weight: Tensor,
        squeeze: Tensor,
        excite: Tensor,
        moments: Moments,
        squeezed: Squeezed,
    ) -> tuple[Tensor, ...]:
        """Return the gradients of weight, bias, squeeze, excite and every branch.

        They come from the gradient of the result [B, T, K], or of its mean over time [B, K].
        """
        if pooled := grad.dim() == 2:
            d_factor = grad * squeezed.mean
        else:
            grad, d_factor = grad.contiguous(), _empty_by_beat(joined)
            self._functions.product_over_time(joined, grad, active, d_factor)
        d_mean, d_squeeze, d_excite = squeeze_backward(d_factor, squeeze, excite, squeezed)
        constant = (grad * squeezed.factor + d_mean if pooled else d_mean) / joined.shape[1]
        by_step = (None, None) if pooled else (grad, squeezed.factor)
        mean, _, inverse_sd = moments
        d_weight, d_bias = torch.empty_like(weight), torch.empty_like(weight)
        before = (*by_step, constant, active, joined, mean)
        self._functions.tanh_backward_sums(joined, *before, inverse_sd, d_weight, d_bias)
        d_x = torch.empty_like(joined)
        slopes = _slopes(joined, weight, moments, d_weight, d_bias)
        self._functions.tanh_backward(joined, *before, *slopes, d_x)
        return d_weight, d_bias, d_squeeze, d_excite, *split_branches(d_x)

    def affine_relu(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return relu(x * scale + shift): batch norm of known moments, and ReLU."""
        x = x.contiguous()
        out = torch.empty_like(x)
        self._by_type[x.dtype].affine_relu(x, x, scale, shift, out)
        return out

    def affine_tanh(
        self,
        branches: Sequence[Tensor],
        scale: Tensor,
        shift: Tensor,
        squeeze: Tensor,
        excite: Tensor,
        *,
        pooled: bool,
    ) -> Tensor:
        """Return what `norm_tanh` does of known moments: the result, or pooled its mean."""
        joined = _joined(branches)
        functions = self._by_type[joined.dtype]
        active, mean = None if pooled else torch.empty_like(joined), _empty_by_beat(joined)
        functions.affine_tanh(joined, joined, scale, shift, active, mean)
        factor = squeezed_of_mean(mean, squeeze, excite).factor
        if active is None:
            return mean * factor
        out = joined  # written over: the joined branches are not needed any more
        functions.scaled(active, active, factor, out)
        return out


def _joined(branches: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(branches), dim=2).contiguous()


def _empty_by_beat(x: Tensor) -> Tensor:
    """Return an empty tensor for a sum over time, [B, K]."""
    return x.new_empty((x.shape[0], x.shape[2]), dtype=torch.float32)


def _affine(moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight * moments.inverse_sd
    return scale, bias - moments.mean * scale


def _slopes(
    x: Tensor, weight: Tensor, moments: Moments, d_weight: Tensor, d_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return p, q and r of d_x = p g - q - r (x - mean), [K] each."""
    n = x.shape[0] * x.shape[1]
    p = weight * moments.inverse_sd
    return p, p * d_bias / n, p * moments.inverse_sd * d_weight / n


def moments_of_sums(origin: Tensor, total: Tensor, squares: Tensor, n: int) -> Moments:
    """Return the moments of n values from the sums of their distances from an origin, [K].

    Taken from one of the values, the sums do not cancel (Chan, Golub & LeVeque 1983,
    doi:10.1080/00031305.1983.10483115).
    """
    offset = total / n
    variance = (squares / n - offset * offset).clamp_min(0.0)
    return Moments(origin + offset, variance, (variance + EPSILON).rsqrt())


def squeezed_of_mean(mean: Tensor, squeeze: Tensor, excite: Tensor) -> Squeezed:
    """Return what a squeeze-and-excitation makes of means over time, [B, K]."""
    hidden = (mean @ squeeze.T).relu()
    return Squeezed(mean, hidden, (hidden @ excite.T).sigmoid())


def squeeze_backward(
    d_factor: Tensor, squeeze: Tensor, excite: Tensor, squeezed: Squeezed
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the means [B, K], of squeeze and of excite."""
    mean, hidden, factor = squeezed
    d_excited = d_factor * factor * (1 - factor)
    d_hidden = (d_excited @ excite) * (hidden > 0)
    return d_hidden @ squeeze, d_hidden.T @ mean, d_excited.T @ hidden


def split_branches(joined: Tensor) -> list[Tensor]:
    """Return the gradient of each branch, in memory of its own."""
    return [part.contiguous() for part in joined.chunk(len(DILATIONS), dim=2)]
