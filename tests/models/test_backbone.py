"""MACNN-SE against its description, layer by layer.

What each layer computes, the reference kernels write once more: test_cpu_backbone.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from study.models.backbone import DILATIONS, FEATURES, MACNNSE, STEPS

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
    assert DILATIONS == (1, 6, 12, 18)
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
