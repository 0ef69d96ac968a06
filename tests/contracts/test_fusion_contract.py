"""What every fusion and backbone must keep (`study.models.plugins.contract`), and their sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from study.config import INPUTS
from study.models.backbone import BACKBONES
from study.models.classifier import RunBackbone
from study.models.cpu_backbone import FusedBackbone
from study.models.fusion import FUSIONS
from study.models.pack_backbone import OneOfAPack
from study.models.plugins import contract
from study.models.rules import inputs_for
from tests.models.reference_kernels import PLAIN

EXPECTED = {
    "none": (False, False, 90_532),
    "concat": (True, True, 139_840),
    "concat_proj": (True, True, 140_772),
    "mhca": (False, True, 157_156),
    "mhca_residual": (True, True, 157_156),
    "mhca_time_plain": (True, True, 157_156),
    "mhca_time": (True, True, 161_252),
    "attention_pool": (False, False, 160_868),
    "film": (True, True, 115_172),
    "expert_sum": (True, True, 95_592),
    "rr_only": (True, True, 5_060),
}
"""Fusion: uses_rr, takes_late_rr, parameters of its network with one channel, D 64 and R 7."""

PAIRS = [(input_, fusion) for fusion in FUSIONS for input_ in inputs_for(fusion)]


def test_table_is_complete() -> None:
    assert list(FUSIONS) == list(EXPECTED)
    assert {input_ for input_, _ in PAIRS} == set(INPUTS)
    assert all(fusion.packs for fusion in FUSIONS.values()), "a GPU trains them together"


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("name", [*FUSIONS, *BACKBONES])
def test_the_contract_is_kept(name: str, check: str) -> None:
    cases = contract.cases_of_fusion(name) if name in FUSIONS else contract.cases_of_backbone(name)
    assert [fault for case in cases for fault in contract.faults(check, case)] == []


def size(case: contract.Case, **values: Any) -> int:
    return sum(p.numel() for p in case.model(embed_dim=64, **values).parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_declarations_and_size(fusion: str) -> None:
    class_ = FUSIONS[fusion]
    input_ = next(i for i in inputs_for(fusion) if INPUTS[i].channels == 1)
    found = size(contract.Case(input=input_, fusion=fusion))
    assert (class_.uses_rr, class_.takes_late_rr, found) == EXPECTED[fusion]


@pytest.mark.parametrize("fusion", ["mhca", "attention_pool"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_blind_fusions_are_bit_identical_under_any_rr(fusion: str, training: bool) -> None:
    """Also where RR is handed to them directly, and under the dropout of training."""
    case = contract.Case(input="opt1" if fusion == "mhca" else "ecg", fusion=fusion)
    model = case.model(heads=4).fusion.train(training)
    feature_map = torch.randn(contract.BEATS, 256, 64)
    rr = torch.randn(contract.BEATS, 7, requires_grad=True)

    def logits(values: Tensor) -> Tensor:
        torch.manual_seed(3)
        output: Tensor = model(feature_map, values)
        return output

    before = logits(rr)
    for values in (rr.flip(0), torch.zeros(contract.BEATS, 7), 1e4 * rr, -rr):
        assert torch.equal(logits(values), before)
    before.square().sum().backward()
    assert rr.grad is None or torch.count_nonzero(rr.grad) == 0


def test_attention_over_time_and_a_narrow_backbone() -> None:
    for fusion in FUSIONS:
        case = contract.Case(input=inputs_for(fusion)[0], fusion=fusion)
        model = case.model(backbone_width=128)
        assert model(*case.sample()).shape == (contract.BEATS, 4)
        weights = model.fusion.attention(*model.encode(*case.sample(), None))
        expected = fusion in ("mhca_time_plain", "mhca_time", "attention_pool")
        assert (weights is not None) is expected, fusion


@pytest.mark.parametrize(("input_", "fusion"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "other", [FusedBackbone(torch.float64, PLAIN), OneOfAPack()], ids=["fused", "packed"]
)
def test_fused_and_packed(other: RunBackbone, input_: str, fusion: str, training: bool) -> None:
    """In float64, with what the fusion says of `over_time`: outputs and gradients to rounding."""
    case = contract.Case(input=input_, fusion=fusion)
    inputs = contract.each(case.sample(), Tensor.double)
    runs = []
    for run_backbone in (None, other):
        model = case.model(dropout=0.0).double().train(training)
        model.run_backbone = run_backbone
        output = model(*inputs)
        if training:
            output.square().sum().backward()
        runs.append((output, {n: p.grad for n, p in model.named_parameters()}))
    (written, gradients), (otherwise, other_gradients) = runs
    torch.testing.assert_close(otherwise, written, rtol=1e-9, atol=1e-10)
    for name, gradient in other_gradients.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("input_", "fusion"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_runs_with_a_backbone_in_bfloat16(input_: str, fusion: str, training: bool) -> None:
    """Weights, their gradients and scores stay float32; bfloat16 has 8 bits, .004 an operation."""
    case = contract.Case(input=input_, fusion=fusion)
    model = case.model(dropout=0.0).train(training)
    written = model(*case.sample())
    model.run_backbone = FusedBackbone(torch.bfloat16, PLAIN, exact=False)
    output = model(*case.sample())
    assert output.dtype is torch.float32
    torch.testing.assert_close(output, written, rtol=0.1, atol=0.1)
    output.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    for gradient in gradients:
        assert gradient.dtype is torch.float32
        assert gradient.isfinite().all()
