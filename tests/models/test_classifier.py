"""Channels, RR scaling and hiding, and the builder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from study.config import ModelConfig, SignalSpec, TrialConfig
from study.models.classifier import Classifier, build_model
from study.models.fusion_base import Fusion

BEATS = 5


class Echo(Fusion):
    """Give the late RR vector back, to look at what a fusion is given."""

    options = frozenset()

    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        assert rr is not None
        return rr


ECG = torch.randn(BEATS, 128, generator=torch.Generator().manual_seed(0))
LATE = torch.tensor([[800, 1.0, 3], [700, 1.2, 3], [400, 0.5, 3], [1000, 1.1, 3], [600, 0.9, 3]])
MEAN, SD = torch.tensor([700, 1.0, 2]), torch.tensor([100, 0.2, 0])
# The third feature is constant, and only centred.
SCALED = (LATE - MEAN) / torch.tensor([100, 0.2, 1])


def test_late_rr_is_scaled_or_hidden() -> None:
    for standardise, expected, hidden in ((True, SCALED, torch.zeros(3)), (False, LATE, MEAN)):
        model = Classifier(
            backbone=None, early=False, n_rr=3, standardise_rr=standardise, fusion=Echo()
        )
        assert torch.equal(model(ECG, None, LATE), LATE)
        model.set_rr_statistics(MEAN, SD)
        plain = model(ECG, None, LATE)
        torch.testing.assert_close(plain, expected)
        hide = torch.tensor([True, False, False, True, False])
        out = model(ECG, None, LATE, hide_rr=hide)
        assert torch.equal(out[hide], hidden.expand(2, 3))
        assert torch.equal(out[~hide], plain[~hide])


def test_scalars_of_shape_follow_rr_and_are_never_hidden() -> None:
    fusion = Echo()
    model = Classifier(
        backbone=None, early=False, n_rr=2, n_shape=1, standardise_rr=True, fusion=fusion
    )
    model.set_rr_statistics(MEAN, SD)
    rr, shape = LATE[:, :2], LATE[:, 2:]
    torch.testing.assert_close(model(ECG, None, rr, late_shape=shape), SCALED)
    hidden = model(ECG, None, rr, hide_rr=torch.ones(BEATS, dtype=torch.bool), late_shape=shape)
    torch.testing.assert_close(hidden, torch.cat((0 * rr, SCALED[:, 2:]), dim=1))
    with pytest.raises(ValueError, match=r"late_shape: this network needs \[B, 1\], got None"):
        model(ECG, None, rr)


def test_channels_are_dropped_whole_and_in_training_alone() -> None:
    values = {"input": "ecg", "fusion": "none", "backbone_dropout": 0.5}
    config = TrialConfig.from_flat(values)
    model = build_model(config.signal, config.model, seed=(0, 0, 0))
    ones = torch.ones(BEATS, 256, 64)
    thinned = model.encode(ECG, None, None, None, ones)[0]
    assert torch.equal(thinned, thinned[:, :, :1].expand_as(ones))
    assert thinned.unique().tolist() == [0, 2] and not torch.equal(thinned[0], thinned[1])
    assert torch.equal(model.eval().encode(ECG, None, None, None, ones)[0], ones)


def test_the_logit_adjustment_is_added_in_evaluation_alone() -> None:
    config = ModelConfig(fusion="rr_only", dropout=0.0)
    model = build_model(SignalSpec(), config, seed=(0, 0, 0)).eval()
    late = torch.ones(BEATS, 7)
    plain, adjustment = model(ECG, None, late), torch.tensor([-1.0, 0.5, 0.0, 2.0])
    model.logit_adjustment.copy_(adjustment)
    torch.testing.assert_close(model(ECG, None, late), plain + adjustment)
    assert torch.equal(model.train()(ECG, None, late), plain)


@pytest.mark.parametrize("windows", [1, 2])
def test_early_ratios_are_repeated_beside_the_windows(windows: int) -> None:
    both: dict[str, str] = {"template": "record", "morphology": "both"} if windows == 2 else {}
    signal = SignalSpec(input="opt2", **both)
    model = build_model(signal, ModelConfig(fusion="none"), seed=(0,)).eval()
    seen: list[Tensor] = []
    assert model.backbone is not None
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ecg, early = torch.rand(BEATS, 2, 128)[:, :windows], torch.rand(BEATS, 2)
    hide = torch.tensor([False, True, False, False, False])
    model(ecg if windows == 2 else ecg[:, 0], early, None)
    model(ecg if windows == 2 else ecg[:, 0], early, None, hide_rr=hide)
    plain, hidden = (rows[:, 0] for rows in seen)
    assert torch.equal(plain[:, :windows], ecg)
    assert torch.equal(plain[:, windows:], early[:, :, None].expand(-1, -1, 128))
    assert torch.equal(hidden[hide][:, windows:], torch.ones(1, 2, 128))
    assert torch.equal(hidden[~hide], plain[~hide])
