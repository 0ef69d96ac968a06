"""What each fusion computes, against its formula; the contract suite tests what all share."""

from __future__ import annotations

import torch
from torch import Tensor

from study.config import TrialConfig
from study.models.blocks import Tokens
from study.models.classifier import build_fusion
from study.models.fusion import Concat, ConcatProjected, ExpertSum, FiLM, NoFusion
from study.models.fusion_base import Fusion
from study.models.mhca import MHCA, MHCAResidual, MHCATime, MHCATimePlain

FEATURE_MAP = torch.randn(4, 256, 64, generator=torch.Generator().manual_seed(1))
RR = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))
POOLED = FEATURE_MAP.mean(dim=2)


def build(fusion: str, **options: object) -> Fusion:
    torch.manual_seed(0)
    trial = TrialConfig.from_flat({"fusion": fusion, "embed_dim": 16, **options})
    return build_fusion(trial.model, n_rr=7).eval()


def attended(fusion: MHCA, query: Tensor, tokens: Tensor) -> Tensor:
    """Return what DESIGN's residual MHCA gives to the head: LN, x + FFN(x), LN."""
    x = fusion.block.attention(query, Tokens(features=tokens))
    x = fusion.block.norm_1(x + query)
    y: Tensor = fusion.block.norm_2(x + fusion.block.ffn(x))
    return y


def test_fusions_by_concatenation() -> None:
    none, concat, gated = build("none"), build("concat"), build("concat_proj")
    assert isinstance(none, NoFusion) and isinstance(concat, Concat)
    assert isinstance(gated, ConcatProjected)
    torch.testing.assert_close(none(FEATURE_MAP, None), none.output(POOLED))
    expected = concat.output(torch.cat((concat.ecg(POOLED), RR), dim=1))
    torch.testing.assert_close(concat(FEATURE_MAP, RR), expected)
    expected = gated.head(gated.ecg(POOLED), gated.rr(RR))
    torch.testing.assert_close(gated(FEATURE_MAP, RR), expected)


def test_mhca_is_a_function_of_the_pooled_ecg() -> None:
    """The published formula with the attention worked out: its weight is 1, value in, out."""
    fusion = build("mhca", heads=2)
    assert isinstance(fusion, MHCA)
    pooled = fusion.ecg(POOLED)
    block = fusion.block
    value = block.attention.in_weight[32:] @ pooled.T + block.attention.in_bias[32:, None]
    x = block.norm_1(block.attention.out(value.T))
    x = block.norm_2(x + block.ffn(x))
    expected = fusion.head.output(torch.cat((pooled, 0.11920292 * x), dim=1))
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), expected)


def test_mhca_residual_adds_the_query() -> None:
    fusion = build("mhca_residual", heads=2)
    assert isinstance(fusion, MHCAResidual)
    pooled, query = fusion.ecg(POOLED), fusion.query(RR)
    x = attended(fusion, query, pooled[:, :, None])
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), fusion.head(pooled, x))


def test_mhca_time_plain_only_weighs_64_tokens() -> None:
    fusion = build("mhca_time_plain", heads=2)
    assert isinstance(fusion, MHCATimePlain)
    steps = fusion.ecg(FEATURE_MAP.transpose(1, 2)).transpose(1, 2)
    block = fusion.block
    x = block.norm_1(block.attention(fusion.query(RR), Tokens(features=steps)))
    x = block.norm_2(x + block.ffn(x))
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), fusion.head(steps.mean(2), x))
    # Where all time steps are equal, nothing is left to choose: RR changes nothing.
    flat = FEATURE_MAP[:, :, :1].expand_as(FEATURE_MAP)
    torch.testing.assert_close(fusion(flat, RR), fusion(flat, 10 * RR.flip(0)))


def test_mhca_time_attends_to_64_positioned_tokens() -> None:
    fusion = build("mhca_time", heads=2)
    assert isinstance(fusion, MHCATime) and fusion.positions is not None
    steps = fusion.ecg(FEATURE_MAP.transpose(1, 2)).transpose(1, 2)
    x = attended(fusion, fusion.query(RR), steps + fusion.positions)
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), fusion.head(steps.mean(2), x))
    assert fusion.positions.shape == (16, 64)
    assert 0.01 < fusion.positions.std().item() < 0.03


def test_film_scales_and_shifts() -> None:
    fusion = build("film")
    assert isinstance(fusion, FiLM)
    delta, shift = fusion.modulation(fusion.rr(RR)).chunk(2, dim=1)
    expected = fusion.output((1 + delta) * fusion.ecg(POOLED) + shift)
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), expected)


def test_expert_sum_adds_log_probabilities() -> None:
    fusion = build("expert_sum")
    assert isinstance(fusion, ExpertSum)
    ecg = fusion.ecg(FEATURE_MAP, None).softmax(dim=1)
    expert = fusion.rr(FEATURE_MAP, RR).softmax(dim=1)
    torch.testing.assert_close(fusion(FEATURE_MAP, RR), (ecg * expert).log())
