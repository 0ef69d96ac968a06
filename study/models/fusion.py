"""How RR is fused with the ECG: one class for each type, listed in FUSIONS.

To add a fusion: a class here and its line in FUSIONS, or the same in a plug-in (docs/plugins.md).
Its constructor takes exactly what it declares: its `options`, and the width `n_rr` of the late RR
vector if it takes one. One that takes `features`, the channels of the map, goes with narrower
backbones too. The types that attend are in `study.models.mhca`.
`Concat` and `ConcatProjected` follow https://github.com/h4xryu/CrossAttention_MACNN_SE.

Shapes: B beats, C classes, D embedding, K channels and L time steps of the feature map (256, 64),
R RR features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from study.models.backbone import FEATURES, mean_over_time
from study.models.blocks import ECGMLP, GatedHead, RRProjection
from study.models.declared import Option, declare
from study.models.fusion_base import N_CLASSES, Fusion, required
from study.models.mhca import MHCA, AttentionPool, MHCAResidual, MHCATime, MHCATimePlain


class NoFusion(Fusion):
    """Classify the pooled feature map, as MACNN-SE does."""

    uses_rr = False
    takes_late_rr = False
    packs = True

    def __init__(self, *, features: int = FEATURES) -> None:
        super().__init__()
        self.output = nn.Linear(features, N_CLASSES)

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] to logits [B, C]."""
        logits: Tensor = self.output(mean_over_time(feature_map))
        return logits


class Concat(Fusion):
    """Classify the ECG MLP's output joined with the RR features as they are."""

    packs = True
    options = ("embed_dim", "ffn_expansion", "dropout")

    def __init__(
        self,
        *,
        n_rr: int,
        embed_dim: int,
        ffn_expansion: int,
        dropout: float,
        features: int = FEATURES,
    ) -> None:
        super().__init__()
        self.ecg = ECGMLP(
            features=features,
            embed_dim=embed_dim,
            ffn_expansion=ffn_expansion,
            dropout=dropout,
        )
        self.output = nn.Linear(embed_dim + n_rr, N_CLASSES)

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to logits [B, C]."""
        ecg = self.ecg(mean_over_time(feature_map))
        logits: Tensor = self.output(torch.cat((ecg, required(rr)), dim=1))
        return logits


class ConcatProjected(Fusion):
    """Classify the ECG MLP's output joined with an RR embedding: a gate without attention.

    The author's first code has no gate (`off`), the later one a single gate (`scalar`).
    """

    packs = True
    options = ("embed_dim", "ffn_expansion", "gate", "gate_init", "dropout")

    def __init__(
        self,
        *,
        n_rr: int,
        embed_dim: int,
        ffn_expansion: int,
        gate: str,
        gate_init: float,
        dropout: float,
        features: int = FEATURES,
    ) -> None:
        super().__init__()
        self.ecg = ECGMLP(
            features=features,
            embed_dim=embed_dim,
            ffn_expansion=ffn_expansion,
            dropout=dropout,
        )
        self.rr = RRProjection(n_rr=n_rr, embed_dim=embed_dim)
        self.head = GatedHead(
            embed_dim=embed_dim, n_classes=N_CLASSES, gate=gate, gate_init=gate_init
        )

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to logits [B, C]."""
        ecg = self.ecg(mean_over_time(feature_map))
        logits: Tensor = self.head(ecg, self.rr(required(rr)))
        return logits

    def gate_values(self) -> Tensor | None:
        """Return the gate on the RR embedding [D]."""
        return self.head.gate_values()


class FiLM(Fusion):
    """RR scales and shifts the ECG embedding (Perez et al. 2018, arXiv:1709.07871).

    Scales are 1 + delta, as there; a GELU follows the modulation, a ReLU there.
    """

    packs = True
    options = ("embed_dim", "dropout")

    def __init__(
        self, *, n_rr: int, embed_dim: int, dropout: float, features: int = FEATURES
    ) -> None:
        super().__init__()
        self.ecg = nn.Linear(features, embed_dim)
        self.rr = RRProjection(n_rr=n_rr, embed_dim=embed_dim)
        self.modulation = nn.Sequential(nn.Dropout(dropout), nn.Linear(embed_dim, 2 * embed_dim))
        self.output = nn.Sequential(nn.GELU(), nn.Linear(embed_dim, N_CLASSES))

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to logits [B, C]."""
        delta, shift = self.modulation(self.rr(required(rr))).chunk(2, dim=1)
        logits: Tensor = self.output(self.ecg(mean_over_time(feature_map)) * (1 + delta) + shift)
        return logits


class RROnly(Fusion):
    """An MLP with two hidden layers of width D on the late RR vector; it does not use the ECG."""

    uses_ecg = False
    packs = True
    options = ("embed_dim", "dropout")

    def __init__(self, *, n_rr: int, embed_dim: int, dropout: float) -> None:
        super().__init__()
        self.rr = RRProjection(n_rr=n_rr, embed_dim=embed_dim)
        self.output = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, N_CLASSES),
        )

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, R] to logits [B, C]."""
        logits: Tensor = self.output(self.rr(required(rr)))
        return logits


class ExpertSum(Fusion):
    """Two experts, `none` and `rr_only`, whose class log-probabilities add (Hinton 2002).

    The sum is the product of experts before normalisation, doi:10.1162/089976602760128018. With
    `rr_loss` the RR expert is also trained by itself: in training its log-probabilities then
    follow those of the sum, [B, 2C].
    """

    packs = True
    options = ("embed_dim", "dropout", Option("rr_loss", 0.0, 0.0, 10.0))

    def __init__(
        self,
        *,
        n_rr: int,
        embed_dim: int,
        dropout: float,
        rr_loss: float,
        features: int = FEATURES,
    ) -> None:
        super().__init__()
        self.trains_rr = rr_loss > 0
        self.ecg = NoFusion(features=features)
        self.rr = RROnly(n_rr=n_rr, embed_dim=embed_dim, dropout=dropout)

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to summed log-probabilities [B, C]."""
        ecg: Tensor = self.ecg(feature_map, None)
        expert = self.rr(feature_map, rr).log_softmax(dim=1)
        both: Tensor = ecg.log_softmax(dim=1) + expert
        return torch.cat((both, expert), dim=1) if self.training and self.trains_rr else both


FUSIONS: dict[str, type[Fusion]] = {
    "none": NoFusion,
    "concat": Concat,
    "concat_proj": ConcatProjected,
    "mhca": MHCA,
    "mhca_residual": MHCAResidual,
    "mhca_time_plain": MHCATimePlain,
    "mhca_time": MHCATime,
    "attention_pool": AttentionPool,
    "film": FiLM,
    "expert_sum": ExpertSum,
    "rr_only": RROnly,
}
"""Every fusion by the name that space files and tables use."""

declare(FUSIONS.values())
