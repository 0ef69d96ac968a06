"""MACNN-SE: multi-scale atrous convolutions with squeeze-and-excitation.

The network of DAEAC (Wang et al. 2021, "Inter-patient ECG arrhythmia heartbeat classification
based on unsupervised domain adaptation", Neurocomputing 454), as the experiments compared here
have it (https://github.com/h4xryu/CrossAttention_MACNN_SE): three ASPP stages (Chen et al. 2017,
arXiv:1706.05587), each followed by an SE layer (Hu et al. 2018, arXiv:1709.01507), the first two
also by a pre-activation residual block (He et al. 2016, arXiv:1603.05027). With 1 channel and
Linear(256 -> 4) on the pooled map it has 90,532 parameters, with 3 channels 90,556; convolutions
have biases, SE layers none.

Where the paper leaves a choice, this follows that code: SE scales the joined
branches, before the residual block; the shortcut of a residual block is the block's raw input;
ASPP has no image-level branch and no 1x1 projection; padding keeps the length, so that only the
strided convolution halves it, 128 -> 64.

A narrower network has a quarter, half or three quarters of the channels of every layer.

Shapes: B beats, K feature channels, T samples or time steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from study.models.declared import Declares, Option, declare

DILATIONS = (1, 6, 12, 18)
"""Of the four ASPP branches."""

FEATURES = 256
"""Channels of the feature map, as published."""

STEPS = 64
"""Time steps of the feature map, from 128 samples."""

EPSILON = 1e-5
"""Added to a variance by `torch.nn.BatchNorm2d`, and by every other form of it here."""


def mean_over_time(x: Tensor) -> Tensor:
    """Return the mean [B, K] of [B, K, T]."""
    # As a scaled sum: the gradient of `mean` is a division at full size, 5 % of a training step.
    # A feature map in bfloat16 is summed in float32, as everything after it is computed.
    wide = torch.float32 if x.dtype is torch.bfloat16 else x.dtype
    return x.sum(dim=2, dtype=wide) / x.shape[2]


class ASPP(nn.Module):
    """Parallel dilated convolutions, each with batch norm and tanh, joined along the channels."""

    def __init__(self, *, in_features: int, branch_features: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_features, branch_features, (1, 3), padding=(0, d), dilation=(1, d)),
                nn.BatchNorm2d(branch_features),
                nn.Tanh(),
            )
            # Padded by the dilation, so that every branch keeps the length.
            for d in DILATIONS
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, K, 1, T] to [B, 4 * branch_features, 1, T]."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor in (0, 1) computed from all channels' means.

    Args:
        reduction: K / reduction is the width between the two layers.
    """

    def __init__(self, *, features: int, reduction: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.Linear(features, features // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(features // reduction, features, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale [B, K, 1, T] channel by channel."""
        factor: Tensor = self.scale(mean_over_time(x.squeeze(2)))
        return x * factor[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two times batch norm, ReLU, convolution; the input is added, averaged where strided.

    Only the first convolution is strided.
    """

    def __init__(self, *, features: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, (1, 3), stride=(1, stride), padding=(0, 1)),
            nn.BatchNorm2d(features),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, (1, 3), padding=(0, 1)),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, K, 1, T] to [B, K, 1, T / stride]."""
        change: Tensor = self.body(x)
        if self.stride == 1:
            return change + x
        # As strided slices: `avg_pool2d` is not vectorised, and takes 5 % of a training step.
        total = sum(x[..., step :: self.stride] for step in range(self.stride))
        return change + total / self.stride


class Backbone(Declares, nn.Module, ABC):
    """Base of all backbones: beats in, feature map over time out.

    Its constructor takes `channels`, the rows of the input, and its options.

    Attributes:
        features: Channels K of its feature map.
        map_dropout: Share of them that the classifier drops in training, each beat its own.
    """

    features: int = FEATURES
    map_dropout: float = 0.0

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map beats [B, 1, channels, 128] to the feature map [B, K, 64]."""


class MACNNSE(Backbone):
    """MACNN-SE.

    Args:
        channels: Rows of the input: 1 (ECG) or 3 (ECG and two RR ratios), and one more with the
            deviation from a template. The first kernel spans them all.
        backbone_width: Channels K of the feature map, a multiple of 64.
        backbone_dropout: Share of them that a beat loses in training.
    """

    options = (
        Option("backbone_width", FEATURES, 64, FEATURES),
        Option("backbone_dropout", 0.0, 0.0, 0.95),
    )

    def __init__(
        self, *, channels: int, backbone_width: int = FEATURES, backbone_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features, self.map_dropout = backbone_width, backbone_dropout
        narrow, middle, wide = backbone_width // 64, backbone_width // 16, backbone_width // 4
        # No padding over the rows: the kernel mixes ECG and ratios, and one row is left.
        self.stem = nn.Conv2d(1, narrow, (channels, 3), padding=(0, 1))
        self.aspp_1 = ASPP(in_features=narrow, branch_features=narrow)
        self.se_1 = SqueezeExcitation(features=middle, reduction=4)
        self.residual_1 = ResidualBlock(features=middle, stride=1)
        self.aspp_2 = ASPP(in_features=middle, branch_features=middle)
        self.se_2 = SqueezeExcitation(features=wide, reduction=8)
        self.residual_2 = ResidualBlock(features=wide, stride=2)
        self.activation = nn.Sequential(nn.BatchNorm2d(wide), nn.ReLU(inplace=True))
        self.aspp_3 = ASPP(in_features=wide, branch_features=wide)
        self.se_3 = SqueezeExcitation(features=backbone_width, reduction=16)

    def forward(self, x: Tensor) -> Tensor:
        """Map beats [B, 1, channels, 128] to the feature map [B, K, 64]."""
        x = self.stem(x)
        x = self.residual_1(self.se_1(self.aspp_1(x)))
        x = self.residual_2(self.se_2(self.aspp_2(x)))
        x = self.se_3(self.aspp_3(self.activation(x)))
        return x.squeeze(2)


BACKBONES: dict[str, type[Backbone]] = {"macnn_se": MACNNSE}
"""Every backbone by the name that space files and tables use."""

declare(BACKBONES.values())
