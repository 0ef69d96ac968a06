"""Fusions by cross-attention from RR to the ECG.

`MHCA` follows the code of https://github.com/h4xryu/CrossAttention_MACNN_SE, `MHCATimePlain` its
paper (docs/published.md). `MHCAResidual` repairs `MHCA`, and `MHCATime` repairs
`MHCATimePlain`.

Shapes: B beats, C classes, D embedding, H heads, K channels and L time steps of the feature map
(256, 64), R RR features.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from study.models.backbone import FEATURES, STEPS, mean_over_time
from study.models.blocks import AttentionBlock, GatedHead, RRProjection, Tokens
from study.models.fusion_base import N_CLASSES, Fusion, required


class MHCA(Fusion):
    """Cross-attention as the author's code has it: one key and value, the pooled ECG.

    The query is RR. Blind to RR: the softmax over a single key is 1 whatever the query, and no
    other path leads from the query to the output. For the same reason heads change nothing at
    evaluation. The author's code does not apply a gate (`gate = off`).
    """

    uses_rr = False
    learned_positions: ClassVar[bool] = False
    packs = True
    options = ("embed_dim", "heads", "ffn_expansion", "gate", "gate_init", "dropout")
    query_residual: ClassVar[bool] = False

    def __init__(
        self,
        *,
        n_rr: int = 1,
        embed_dim: int,
        heads: int,
        ffn_expansion: int,
        gate: str,
        gate_init: float,
        dropout: float,
        features: int = FEATURES,
    ) -> None:
        super().__init__()
        self.ecg = nn.Linear(features, embed_dim)
        self.positions = (
            nn.Parameter(torch.empty(embed_dim, STEPS)) if self.learned_positions else None
        )
        self.query = RRProjection(n_rr=n_rr, embed_dim=embed_dim)
        self.block = AttentionBlock(
            embed_dim=embed_dim,
            heads=heads,
            ffn_expansion=ffn_expansion,
            dropout=dropout,
            query_residual=self.query_residual,
        )
        self.head = GatedHead(
            embed_dim=embed_dim, n_classes=N_CLASSES, gate=gate, gate_init=gate_init
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the positions; submodules draw their own parameters."""
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def _embedded(self, feature_map: Tensor) -> tuple[Tensor, Tokens]:
        pooled: Tensor = self.ecg(mean_over_time(feature_map))
        if not self.over_time:
            return pooled, Tokens(features=pooled[:, :, None])
        # The embedding's bias joins the positions: `Tokens` multiplies by the weight alone.
        bias = self.ecg.bias[:, None]
        offset = bias.expand(-1, STEPS) if self.positions is None else self.positions + bias
        return pooled, Tokens(features=feature_map, weight=self.ecg.weight, offset=offset)

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to logits [B, C]."""
        pooled, tokens = self._embedded(feature_map)
        attended: Tensor = self.block(self.query(required(rr)), tokens)
        logits: Tensor = self.head(pooled, attended)
        return logits

    def gate_values(self) -> Tensor | None:
        """Return the gate on the attended vector [D]."""
        return self.head.gate_values()

    def attention(self, feature_map: Tensor, rr: Tensor | None) -> Tensor | None:
        """Return attention over time [B, H, L]; None over one token, whose weight is always 1."""
        if not self.over_time:
            return None
        tokens = self._embedded(feature_map)[1]
        return self.block.attention.weights(self.query(required(rr)), tokens)


class MHCAResidual(MHCA):
    """`mhca` with the query added to what was attended to: the smallest repair."""

    uses_rr = True
    query_residual = True


class MHCATimePlain(MHCA):
    """Cross-attention over the time steps of the feature map, as the author's paper states it.

    Keys and values are the embedded feature map, without positions. RR acts only by the attention
    weights: it can choose between time steps, and add nothing to them.
    """

    uses_rr = True
    over_time = True


class MHCATime(MHCATimePlain):
    """`mhca_time_plain` with the query added to what was attended to, and learned positions.

    Positions are added to keys and values and start at N(0, 0.02) (Dosovitskiy et al. 2021,
    arXiv:2010.11929).
    """

    query_residual = True
    learned_positions = True


class AttentionPool(MHCATime):
    """`mhca_time` with the constant 1 for an RR vector: a learned query, the same for all beats.

    The control for "attention to rhythm": what it gains over `none` is attention's, not RR's.
    """

    uses_rr = False
    takes_late_rr = False

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] to logits [B, C]."""
        return super().forward(feature_map, self._constant(feature_map))

    def attention(self, feature_map: Tensor, rr: Tensor | None) -> Tensor | None:
        """Return attention over time [B, H, L]."""
        return super().attention(feature_map, self._constant(feature_map))

    def _constant(self, feature_map: Tensor) -> Tensor:
        # In the type of the weights: the feature map may be in bfloat16.
        return feature_map.new_ones(len(feature_map), 1, dtype=self.ecg.weight.dtype)
