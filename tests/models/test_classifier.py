"""Channels, RR scaling and hiding, and the builder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from study.config import ModelConfig, SignalSpec
from study.models.classifier import Classifier, build_model
from study.models.fusion import Concat
from study.models.fusion_base import Fusion

BEATS = 5


class Echo(Fusion):
    """Give the late RR vector back, to look at what a fusion is given."""

    options = frozenset()

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Return RR."""
        assert rr is not None
        return rr


def echo(*, standardise: bool) -> Classifier:
    return Classifier(channels=1, n_rr=2, standardise_rr=standardise, fusion=Echo())


def network(input_: str = "opt3", fusion: str = "concat") -> Classifier:
    signal, model = SignalSpec(input=input_), ModelConfig(fusion=fusion)
    return build_model(signal, model, seed=(0, 0, 0)).eval()


ECG = torch.randn(BEATS, 128, generator=torch.Generator().manual_seed(0))
LATE = torch.tensor([[800.0, 1.0], [700.0, 1.2], [400.0, 0.5], [1000.0, 1.1], [600.0, 0.9]])
MEAN, SD = torch.tensor([700.0, 1.0]), torch.tensor([100.0, 0.2])


@pytest.mark.parametrize(
    ("standardise", "expected", "hidden"),
    [(True, (LATE - MEAN) / SD, torch.zeros(2)), (False, LATE, MEAN)],
    ids=["std", "raw"],
)
def test_late_rr_is_scaled_and_where_hidden_the_mean(
    standardise: bool, expected: Tensor, hidden: Tensor
) -> None:
    model = echo(standardise=standardise)
    assert torch.equal(model(ECG, None, LATE), LATE)
    model.set_rr_statistics(MEAN, SD)
    plain = model(ECG, None, LATE)
    torch.testing.assert_close(plain, expected)
    hide = torch.tensor([True, False, False, True, False])
    out = model(ECG, None, LATE, hide_rr=hide)
    assert torch.equal(out[hide], hidden.expand(2, 2))
    assert torch.equal(out[~hide], plain[~hide])


def test_constant_rr_feature_is_only_centred() -> None:
    model = echo(standardise=True)
    model.set_rr_statistics(MEAN, torch.tensor([0.0, 0.2]))
    assert torch.equal(model(ECG, None, LATE)[:, 0], LATE[:, 0] - 700)


@pytest.mark.parametrize(
    ("mean", "sd", "message"),
    [
        ([0.0], [1.0, 1.0], "mean: must be 2 finite values, got [0.0]"),
        ([0.0, 1.0], [1.0, float("nan")], "sd: must be 2 finite values, got [1.0, nan]"),
    ],
)
def test_bad_statistics(mean: list[float], sd: list[float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        echo(standardise=True).set_rr_statistics(torch.tensor(mean), torch.tensor(sd))
    assert str(error.value) == message


def test_early_ratios_are_repeated_beside_the_ecg() -> None:
    model = network("opt2", "none")
    seen: list[Tensor] = []
    assert model.backbone is not None
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    early = torch.rand(BEATS, 2)
    hide = torch.tensor([False, True, False, False, False])
    model(ECG, early, None)
    model(ECG, early, None, hide_rr=hide)
    plain, hidden = seen
    assert plain.shape == (BEATS, 1, 3, 128)
    assert torch.equal(plain[:, 0, 0], ECG)
    assert torch.equal(plain[:, 0, 1:], early[:, :, None].expand(-1, -1, 128))
    assert torch.equal(hidden[hide][:, 0, 1:], torch.ones(1, 2, 128))
    assert torch.equal(hidden[~hide], plain[~hide])


@pytest.mark.parametrize(
    ("input_", "fusion", "early", "late", "message"),
    [
        ("opt3", "concat", None, 7, "early_rr: this network needs [B, 2], got None"),
        ("opt3", "concat", 2, None, "late_rr: this network needs [B, 7], got None"),
        ("ecg", "none", 2, None, "early_rr: this network has no input for it; give None"),
        ("ecg", "none", None, 7, "late_rr: this network has no input for it; give None"),
    ],
)
def test_rr_that_does_not_fit(
    input_: str, fusion: str, early: int | None, late: int | None, message: str
) -> None:
    rr = [None if width is None else torch.rand(BEATS, width) for width in (early, late)]
    with pytest.raises(ValueError) as error:
        network(input_, fusion)(ECG, *rr)
    assert str(error.value) == message


def test_fusion_without_its_late_vector() -> None:
    fusion = Concat(n_rr=7, embed_dim=8, ffn_expansion=1, dropout=0.0)
    with pytest.raises(ValueError) as error:
        fusion(torch.zeros(2, 256, 64), None)
    assert str(error.value) == "rr: this fusion takes a late RR vector [B, R], got None"


def test_rr_only_has_no_backbone_and_ignores_the_ecg() -> None:
    model, late = network("opt1", "rr_only"), torch.randn(BEATS, 7)
    assert model.backbone is None
    assert not any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    assert torch.equal(model(ECG, None, late), model(torch.full_like(ECG, torch.nan), None, late))


def test_gradients_reach_every_weight() -> None:
    """No dead part in the published hybrid, except the query, to which MHCA is blind.

    Vectors are left out: batch norm takes the bias of a convolution before it out.
    """
    model = network("opt3", "mhca").train()
    outputs = model(ECG, torch.rand(BEATS, 2), torch.randn(BEATS, 7))
    outputs.log_softmax(dim=1)[:, 1].sum().backward()
    silent = {
        name
        for name, p in model.named_parameters()
        if p.ndim > 1 and (p.grad is None or torch.count_nonzero(p.grad) == 0)
    }
    assert silent == {"fusion.query.0.weight"}
