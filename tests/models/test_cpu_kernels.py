"""The kernels in C++ against those in PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from study.models import cpu_kernels
from study.models.backbone import DILATIONS
from study.models.build_kernels import LibraryError
from study.models.cpu_kernels import Kernels, compiled_kernels, has_compiled_kernels
from tests.models.reference_kernels import PLAIN, compiled

BRANCHES = len(DILATIONS)

SHAPES = [(8, 128, 4), (8, 128, 16), (8, 64, 64), (3, 7, 5), (5, 2, 1)]
"""Beats, steps, channels of a branch: the network's stages; sizes that fill no register."""

ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Relative to the largest value of an output."""


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def called(
    kernels: Kernels, shape: tuple[int, int, int], dtype: torch.dtype, *, time_innermost: bool
) -> dict[str, Any]:
    """Return what every kernel gives for the same inputs, the ones backwards for PyTorch's."""
    beats, steps, channels = shape
    k, hidden = BRANCHES * channels, 3

    def activations(*sizes: int, seed: int) -> Tensor:
        values = random(*sizes, seed=seed, dtype=dtype)
        return values.mT.contiguous().mT if time_innermost else values

    x = activations(*shape, seed=0) + 2
    grad = activations(*shape, seed=1)
    weight, bias = random(k, seed=2) + 1, random(k, seed=3)
    squeeze, excite = random(hidden, k, seed=4), random(k, hidden, seed=5)
    branches = [activations(*shape, seed=6 + i) + i for i in range(BRANCHES)]
    wide = activations(beats, steps, k, seed=10)
    of_x = (weight[:channels], bias[:channels])
    joined = (branches, weight, bias, squeeze, excite)
    # What a kernel keeps for the way back is dense.
    out, moments = PLAIN.norm_relu(x.contiguous(), *of_x)
    dense = [branch.contiguous() for branch in branches]
    _, *values, moments_seen, squeezed = PLAIN.norm_tanh(dense, *joined[1:], pooled=False)
    back: Any = (*values, weight, squeeze, excite, moments_seen, squeezed)
    of_mean = random(beats, k, seed=11)
    return {
        "norm_relu": kernels.norm_relu(x, *of_x),
        "its gradients": kernels.norm_relu_backward(grad, x, out, of_x[0], moments),
        "affine_relu": kernels.affine_relu(x, *of_x),
        "norm_tanh": [kernels.norm_tanh(*joined, pooled=pooled) for pooled in (False, True)],
        "gradients of it": [kernels.norm_tanh_backward(g, *back) for g in (wide, of_mean)],
        "affine_tanh": [kernels.affine_tanh(*joined, pooled=pooled) for pooled in (False, True)],
    }


def tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for part in outputs:
            yield from tensors(part)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("time_innermost", [False, True])
def test_each_kernel_is_that_of_pytorch(
    time_innermost: bool, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    """However a convolution lays out its result."""
    with torch.no_grad():
        expected, got = (
            called(kernels, shape, dtype, time_innermost=time_innermost)
            for kernels in (PLAIN, compiled(dtype))
        )
    for name in got:
        pairs = list(zip(tensors(got[name]), tensors(expected[name]), strict=True))
        for position, (compiled_value, reference) in enumerate(pairs):
            assert (
                compiled_value.shape == reference.shape and compiled_value.dtype == reference.dtype
            ), (name, position)
            far = (compiled_value.float() - reference.float()).abs().max()
            assert far <= ROUNDING[dtype] * reference.float().abs().max() + 1e-6, (name, position)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_hidden(dtype: torch.dtype, value: float) -> None:
    """A training that diverges is found by its NaN."""
    kernels = compiled(dtype)
    x = random(2, 8, 4, seed=0, dtype=dtype)
    x[1, 2, 3] = value
    ones, zeros = torch.ones(4), torch.zeros(4)
    with torch.no_grad():
        out, moments = kernels.norm_relu(x, ones, zeros)
        assert out[..., 3].isnan().all() and not out[..., :3].isnan().any()
        assert moments.variance[3].isnan()
        assert not kernels.affine_relu(x, ones, zeros)[1, 2, 3].isfinite()
        wide, factors = torch.ones(16), (torch.ones(2, 16), torch.ones(16, 2))
        pooled = kernels.affine_tanh([x, x, x, x], wide, wide, *factors, pooled=True)
        # tanh of infinity is 1.
        assert pooled[1].isnan().any() == (value != value)
        assert pooled[0].isfinite().all()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LibraryError("no C++ compiler is on the path")

    monkeypatch.setattr(cpu_kernels, "load_library", fail)
    with caplog.at_level(logging.WARNING, logger="study.models.cpu_kernels"):
        assert compiled_kernels.__wrapped__(torch.float32) is None
    assert caplog.messages == [
        "no compiled kernels, training takes up to twice as long: no C++ compiler is on the path "
        "(README, 'Two commands')"
    ]
    monkeypatch.setattr(cpu_kernels, "compiled_kernels", compiled_kernels.__wrapped__)
    assert not has_compiled_kernels()
    assert compiled_kernels(torch.float64) is None, "which PyTorch computes"
