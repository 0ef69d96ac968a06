"""Blocks that fusions share: cross-attention, channel gate, projections.

Shapes: B beats, D embedding, H heads, L tokens, R RR features, K channels of the feature map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """Tokens [B, D, L] = weight @ features + offset, used without computing them.

    A single query needs only two weighted sums over the tokens. Summing the features first and
    embedding the sums gives the same with 40 times fewer multiplications.
    """

    features: Tensor  # [B, K, L]
    # [D, K], the embedding; None where the features are the tokens, K = D
    weight: Tensor | None = None
    offset: Tensor | None = None  # [D, L], or None for zero

    def scores(self, queries: Tensor) -> Tensor:
        """Return the inner products [B, H, L] of queries [B, H, D] with the tokens."""
        inner = queries if self.weight is None else queries @ self.weight
        scores = (inner.to(self.features.dtype) @ self.features).to(queries.dtype)
        return scores if self.offset is None else scores + queries @ self.offset

    def sums(self, weights: Tensor) -> Tensor:
        """Return the sums [B, H, D] of the tokens, weighted by [B, H, L]."""
        outer = weights.to(self.features.dtype) @ self.features.transpose(1, 2)
        sums = outer.to(weights.dtype)
        if self.weight is not None:
            sums = sums @ self.weight.T
        return sums if self.offset is None else sums + weights @ self.offset.T


class CrossAttention(nn.Module):
    """Multi-head attention of one query over tokens (Vaswani et al. 2017, arXiv:1706.03762).

    It has the parameters and initial weights of `torch.nn.MultiheadAttention`. The softmax is
    written out and not left to a fused kernel, so that over a single token its gradient is exactly
    zero, not zero up to rounding.
    """

    def __init__(self, *, embed_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.in_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_bias = nn.Parameter(torch.empty(3 * embed_dim))
        self.out = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as `torch.nn.MultiheadAttention` does; `out` initialises its own weight."""
        nn.init.xavier_uniform_(self.in_weight)
        nn.init.zeros_(self.in_bias)
        nn.init.zeros_(self.out.bias)

    def weights(self, query: Tensor, tokens: Tokens) -> Tensor:
        """Return the attention weights of queries [B, D] over L tokens as [B, H, L]."""
        w_query, w_key, _ = self.in_weight.chunk(3)
        q = functional.linear(query, w_query, self.in_bias.chunk(3)[0])
        q = q.unflatten(1, (self.heads, -1)) * (q.shape[1] // self.heads) ** -0.5
        # The key's bias adds a constant to all scores of a query, and softmax removes it.
        queries = torch.einsum("bhd,hdk->bhk", q, w_key.unflatten(0, (self.heads, -1)))
        return tokens.scores(queries).softmax(dim=-1)

    def forward(self, query: Tensor, tokens: Tokens) -> Tensor:
        """Map queries [B, D] and L tokens to what was attended to, [B, D]."""
        weights: Tensor = self.dropout(self.weights(query, tokens))
        w_value, b_value = self.in_weight.chunk(3)[2], self.in_bias.chunk(3)[2]
        heads = (self.heads, -1)
        context = torch.einsum("bhk,hdk->bhd", tokens.sums(weights), w_value.unflatten(0, heads))
        # Dropout changes the sum of the weights, and each of them carries the value's bias.
        context = context + weights.sum(dim=2)[:, :, None] * b_value.unflatten(0, heads)
        attended: Tensor = self.out(context.flatten(1))
        return attended


class AttentionBlock(nn.Module):
    """Cross-attention, layer norm, x + FFN(x), layer norm; the FFN is D -> expansion * D -> D.

    Args:
        query_residual: Add the query to what was attended to. Neither the author's code nor the
            paper has such a path: there the query only weighs the tokens.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        heads: int,
        ffn_expansion: int,
        dropout: float,
        query_residual: bool,
    ) -> None:
        super().__init__()
        self.query_residual = query_residual
        self.attention = CrossAttention(embed_dim=embed_dim, heads=heads, dropout=dropout)
        self.norm_1 = nn.LayerNorm(embed_dim)
        self.ffn = nn.Sequential(
            nn.Linear(embed_dim, ffn_expansion * embed_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(ffn_expansion * embed_dim, embed_dim),
        )
        self.norm_2 = nn.LayerNorm(embed_dim)

    def forward(self, query: Tensor, tokens: Tokens) -> Tensor:
        """Map queries [B, D] and L tokens to [B, D]."""
        attended = self.attention(query, tokens)
        x = self.norm_1(query + attended if self.query_residual else attended)
        result: Tensor = self.norm_2(x + self.ffn(x))
        return result


class GatedHead(nn.Module):
    """Classify concat(ECG, gate * branch), where the gate is sigmoid(alpha).

    A learned gate has an alpha for each channel, a scalar gate learns one for all; a frozen gate
    keeps its initial value; with gate off the branch passes as it is. The gate does not measure
    the branch's contribution: W (g * a) = (W diag g) a, so it adds a path for the optimiser, but
    no new function.
    """

    alpha: Tensor | None

    def __init__(self, *, embed_dim: int, n_classes: int, gate: str, gate_init: float) -> None:
        super().__init__()
        self.gate_init, self.embed_dim = gate_init, embed_dim
        if gate in ("learned", "scalar"):
            self.alpha = nn.Parameter(torch.empty(embed_dim if gate == "learned" else 1))
        else:
            self.register_buffer("alpha", None if gate == "off" else torch.empty(embed_dim))
        self.output = nn.Linear(2 * embed_dim, n_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every alpha to its initial value."""
        if self.alpha is not None:
            nn.init.constant_(self.alpha, self.gate_init)

    def gate_values(self) -> Tensor | None:
        """Return sigmoid(alpha) [D], or None without a gate."""
        return None if self.alpha is None else self.alpha.detach().sigmoid().expand(self.embed_dim)

    def forward(self, ecg: Tensor, branch: Tensor) -> Tensor:
        """Map two embeddings [B, D] to logits [B, C]."""
        if self.alpha is not None:
            branch = branch * self.alpha.sigmoid()
        logits: Tensor = self.output(torch.cat((ecg, branch), dim=1))
        return logits


class RRProjection(nn.Sequential):
    """Linear, layer norm, GELU: the late RR vector [B, R] as an embedding [B, D]."""

    def __init__(self, *, n_rr: int, embed_dim: int) -> None:
        super().__init__(nn.Linear(n_rr, embed_dim), nn.LayerNorm(embed_dim), nn.GELU())


class ECGMLP(nn.Sequential):
    """The pooled ECG [B, K] as an embedding [B, D], then an MLP D -> expansion * D -> D."""

    def __init__(
        self, *, features: int, embed_dim: int, ffn_expansion: int, dropout: float
    ) -> None:
        super().__init__(
            nn.Linear(features, embed_dim),
            nn.Linear(embed_dim, ffn_expansion * embed_dim),
            nn.LayerNorm(ffn_expansion * embed_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(ffn_expansion * embed_dim, embed_dim),
        )
