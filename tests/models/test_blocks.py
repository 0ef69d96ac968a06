"""Attention and gate against torch's own attention and the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from study.models.blocks import CrossAttention, GatedHead, Tokens


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("tokens", [1, 9])
def test_equals_torch_attention(heads: int, tokens: int) -> None:
    ours = CrossAttention(embed_dim=16, heads=heads, dropout=0.0)
    theirs = nn.MultiheadAttention(16, heads, batch_first=True)
    assert theirs.in_proj_bias is not None
    nn.init.normal_(ours.in_bias)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_weight)
        theirs.in_proj_bias.copy_(ours.in_bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    query, x = torch.randn(5, 16), torch.randn(5, 16, tokens)
    sequence = x.transpose(1, 2)
    attended, weights = theirs(
        query[:, None], sequence, sequence, average_attn_weights=False, need_weights=True
    )
    given = Tokens(features=x)
    torch.testing.assert_close(ours(query, given), attended[:, 0])
    torch.testing.assert_close(ours.weights(query, given), weights[:, :, 0])


def test_dropped_tokens_lose_their_value_and_its_bias() -> None:
    """With dropout, what is attended to is the sum over the weights that are left."""
    attention = CrossAttention(embed_dim=8, heads=2, dropout=0.5)
    nn.init.normal_(attention.in_bias)
    query, x = torch.randn(3, 8), torch.randn(3, 8, 6)
    torch.manual_seed(0)
    attended = attention(query, Tokens(features=x))
    torch.manual_seed(0)
    weights = attention.dropout(attention.weights(query, Tokens(features=x)))
    value = attention.in_weight[16:] @ x + attention.in_bias[16:, None]
    context = (value.unflatten(1, (2, 4)) * weights[:, :, None]).sum(dim=3).flatten(1)
    torch.testing.assert_close(attended, attention.out(context))


@pytest.mark.parametrize(
    ("gate", "trained"), [("learned", 8), ("scalar", 1), ("frozen", 0), ("off", None)]
)
def test_gate_kinds(gate: str, trained: int | None) -> None:
    """`trained`: how many values of alpha are learned; None without a gate."""
    head = GatedHead(embed_dim=8, n_classes=4, gate=gate, gate_init=-2.0)
    ecg, branch = torch.randn(3, 8), torch.randn(3, 8)
    factor = 1.0 if trained is None else torch.sigmoid(torch.tensor(-2.0))
    expected = head.output(torch.cat((ecg, factor * branch), dim=1))
    torch.testing.assert_close(head(ecg, branch), expected)
    sizes = {name: p.numel() for name, p in head.named_parameters()}
    assert sizes.get("alpha", 0) == (trained or 0)
    assert ("alpha" in head.state_dict()) is (trained is not None)
    values = head.gate_values()
    assert (values is None) is (trained is None)
    if values is not None:
        torch.testing.assert_close(values, torch.full((8,), 0.11920292))
