"""The fused backbone against the backbone as it is written."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from study.models.backbone import MACNNSE, mean_over_time
from study.models.cpu_backbone import FusedBackbone
from study.models.initialise import initialise
from tests.models.reference_kernels import PLAIN, compiled

WITHOUT_GRADIENT = 14
"""Biases that batch norm subtracts: of 12 branches, and of the first in each residual block."""


def backbones(
    channels: int, dtype: torch.dtype, features: int = 256
) -> tuple[MACNNSE, MACNNSE, Tensor]:
    """Return two equal backbones and beats [8, 1, channels, 128]."""
    backbone = MACNNSE(channels=channels, backbone_width=features)
    initialise(backbone, (0, 0, 0))
    beats = torch.randn(8, 1, channels, 128, generator=torch.Generator().manual_seed(0))
    return backbone.to(dtype), copy.deepcopy(backbone).to(dtype), beats.to(dtype)


def written(backbone: MACNNSE, beats: Tensor, *, over_time: bool) -> Tensor:
    """Return what the backbone gives as it is written, or its mean over time."""
    feature_map: Tensor = backbone(beats)
    return feature_map if over_time else mean_over_time(feature_map)[:, :, None]


@pytest.mark.parametrize("over_time", [True, False])
@pytest.mark.parametrize(("channels", "features"), [(1, 256), (4, 128)])
def test_equals_the_backbone_step_by_step(channels: int, features: int, over_time: bool) -> None:
    """In float64, outputs, gradients, running moments and weights agree to rounding."""
    plain, ours, beats = backbones(channels, torch.float64, features)
    fused = FusedBackbone(torch.float64, PLAIN)
    target = torch.randn(8, features, 64 if over_time else 1, dtype=torch.float64)
    optimisers = [torch.optim.SGD(b.parameters(), lr=0.01) for b in (plain, ours)]
    for _ in range(3):
        outputs = (
            written(plain, beats, over_time=over_time),
            fused(ours, beats, over_time=over_time),
        )
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
        for output, optimiser in zip(outputs, optimisers, strict=True):
            optimiser.zero_grad()
            (output * target).sum().backward()
            optimiser.step()
        without = 0
        for (name, of_written), of_fused in zip(
            plain.named_parameters(), ours.parameters(), strict=True
        ):
            assert of_written.grad is not None
            if of_fused.grad is None:
                without += 1
                assert of_written.grad.abs().max() < 1e-10, name
            else:
                torch.testing.assert_close(of_fused.grad, of_written.grad, rtol=1e-8, atol=1e-9)
        assert without == WITHOUT_GRADIENT
    for of_written, of_fused in zip(
        plain.state_dict().values(), ours.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(of_fused, of_written, rtol=1e-8, atol=1e-9)
    before = copy.deepcopy(ours.state_dict())
    with torch.inference_mode():
        expected = written(plain.eval(), beats, over_time=over_time)
        got = fused(ours.eval(), beats, over_time=over_time)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    for was, now in zip(before.values(), ours.state_dict().values(), strict=True):
        assert torch.equal(was, now)


@pytest.mark.parametrize("over_time", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("features", [128, 256])
def test_compiled_gradients_agree(dtype: torch.dtype, over_time: bool, features: int) -> None:
    plain, ours, beats = backbones(1, torch.float32, features)
    shape = (8, features, 64 if over_time else 1)
    target = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    fused = FusedBackbone(dtype, compiled(dtype))
    (written(plain, beats, over_time=over_time) * target).sum().backward()
    (fused(ours, beats, over_time=over_time).float() * target).sum().backward()
    pairs = zip(plain.parameters(), ours.parameters(), strict=True)
    gradients = [(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None]
    of_written, of_fused = (torch.cat([g[i].flatten() for g in gradients]) for i in (0, 1))
    cosine = torch.cosine_similarity(of_fused, of_written, dim=0)
    assert cosine > (0.99999 if dtype is torch.float32 else 0.99)


def test_moments_do_not_cancel() -> None:
    """Values far from zero: the naive sum of squares would lose the variance in float32."""
    x = 1000 + torch.randn(16, 32, 4, generator=torch.Generator().manual_seed(0))
    _, moments = compiled(torch.float32).norm_relu(x, torch.ones(4), torch.zeros(4))
    expected = x.double().var(dim=(0, 1), correction=0)
    torch.testing.assert_close(moments.variance.double(), expected, rtol=1e-4, atol=0)
