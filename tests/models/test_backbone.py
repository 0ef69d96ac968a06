"""MACNN-SE against its description: sizes layer by layer, and a few numbers worked out here."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from study.models.backbone import ASPP, FEATURES, MACNNSE, STEPS, ResidualBlock, SqueezeExcitation

LAYERS = {
    "stem": (4, 128, 4 * 3 + 4),
    "aspp_1": (16, 128, 4 * (4 * 4 * 3 + 4 + 2 * 4)),
    "se_1": (16, 128, 2 * 16 * 4),
    "residual_1": (16, 128, 2 * (2 * 16 + 16 * 16 * 3 + 16)),
    "aspp_2": (64, 128, 4 * (16 * 16 * 3 + 16 + 2 * 16)),
    "se_2": (64, 128, 2 * 64 * 8),
    "residual_2": (64, 64, 2 * (2 * 64 + 64 * 64 * 3 + 64)),
    "activation": (64, 64, 2 * 64),
    "aspp_3": (256, 64, 4 * (64 * 64 * 3 + 64 + 2 * 64)),
    "se_3": (256, 64, 2 * 256 * 16),
}
"""Layer: output channels, time steps and parameters, for one input channel."""


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_layer_by_layer(channels: int) -> None:
    backbone = MACNNSE(channels=channels)
    assert count(MACNNSE(channels=channels, backbone_width=128)) < 0.27 * count(backbone)
    seen: dict[str, tuple[int, ...]] = {}
    for name, layer in backbone.named_children():
        layer.register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: tuple(out.shape)})
        )
    assert backbone(torch.randn(2, 1, channels, 128)).shape == (2, FEATURES, STEPS)
    # As lists: layers must also run in this order.
    assert list(seen.items()) == [(name, (2, k, 1, t)) for name, (k, t, _) in LAYERS.items()]
    extra = {"stem": 4 * 3 * (channels - 1)}
    assert {name: count(layer) for name, layer in backbone.named_children()} == {
        name: n + extra.get(name, 0) for name, (_, _, n) in LAYERS.items()
    }


def test_aspp_joins_dilated_branches_in_order() -> None:
    aspp = ASPP(in_features=3, branch_features=2).eval()
    x = torch.randn(2, 3, 1, 128)
    expected = []
    for branch, dilation in zip(aspp.branches, (1, 6, 12, 18), strict=True):
        assert isinstance(branch, nn.Sequential)
        conv = branch[0]
        assert isinstance(conv, nn.Conv2d)
        y = functional.conv1d(
            x[:, :, 0], conv.weight[:, :, 0], conv.bias, padding=dilation, dilation=dilation
        )
        # Untrained batch norm in eval mode divides by sqrt(1 + eps) only.
        expected.append(torch.tanh(y / (1 + 1e-5) ** 0.5))
    torch.testing.assert_close(aspp(x)[:, :, 0], torch.cat(expected, dim=1))


def test_squeeze_excitation_scales_whole_channels() -> None:
    se = SqueezeExcitation(features=8, reduction=4)
    x = torch.randn(3, 8, 1, 20)
    ratio = se(x) / x
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
    assert ((ratio > 0) & (ratio < 1)).all()
    silent = SqueezeExcitation(features=8, reduction=4)
    for weight in silent.parameters():
        nn.init.zeros_(weight)
    torch.testing.assert_close(silent(x), x / 2)


@pytest.mark.parametrize(("stride", "shortcut"), [(1, [1.0, 3.0, 5.0, 9.0]), (2, [2.0, 7.0])])
def test_residual_block_keeps_its_raw_input(stride: int, shortcut: list[float]) -> None:
    block = ResidualBlock(features=1, stride=stride)
    for layer in block.body:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    x = torch.tensor([1.0, 3.0, 5.0, 9.0]).reshape(1, 1, 1, 4)
    torch.testing.assert_close(block(x).flatten(), torch.tensor(shortcut))
