"""Start of the weights: a stream for each submodule, and nothing else changes it."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch

from study.config import INPUTS, TrialConfig
from study.models.classifier import Classifier, build_model
from study.models.fusion import FUSIONS
from study.models.rules import inputs_for

SEED = (11, 0, 3)


def start(fusion: str = "mhca", seed: tuple[int, ...] = SEED, **options: Any) -> Classifier:
    input_ = next(i for i in inputs_for(fusion) if INPUTS[i].channels == 1)
    trial = TrialConfig.from_flat({"input": input_, "fusion": fusion, **options})
    return build_model(trial.signal, trial.model, seed=seed)


def shared_and_equal(a: Classifier, b: Classifier) -> tuple[int, int]:
    first, second = dict(a.named_parameters()), dict(b.named_parameters())
    same = [n for n in first if n in second and first[n].shape == second[n].shape]
    return len(same), sum(torch.equal(first[n], second[n]) for n in same)


def test_backbone_starts_alike_under_every_fusion() -> None:
    reference = start("none").backbone
    assert reference is not None
    backbones = {name: start(name).backbone for name in FUSIONS}
    assert [name for name, backbone in backbones.items() if backbone is None] == ["rr_only"]
    for fusion, backbone in backbones.items():
        for name, values in reference.named_parameters() if backbone else ():
            assert backbone and torch.equal(values, backbone.get_parameter(name)), (fusion, name)


@pytest.mark.parametrize(
    ("option", "value"),
    [("heads", 4), ("gate", "off"), ("gate", "scalar"), ("gate_init", 0.0), ("dropout", 0.5)],
)
def test_an_option_leaves_all_other_weights_as_they_were(option: str, value: Any) -> None:
    shared, equal = shared_and_equal(start(), start(**{option: value}))
    assert shared - equal == (1 if option == "gate_init" else 0)


def test_seed_decides_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    first = start()
    torch.manual_seed(2)
    shared, equal = shared_and_equal(first, start())
    assert shared == equal
    random = [n for n, p in first.named_parameters() if p.numel() > 1 and p.std() > 0]
    for seed in ((12, 0, 3), (11, 1, 3), (11, 0, 2), (11, 3, 0)):
        other = start(seed=seed)
        assert not any(torch.equal(first.get_parameter(n), other.get_parameter(n)) for n in random)


def test_no_two_layers_start_alike_and_each_as_torch_has_it() -> None:
    model = start("mhca_time")
    weights = [p for n, p in model.named_parameters() if p.ndim > 1]
    for a, b in combinations(weights, 2):
        assert a.shape != b.shape or not torch.equal(a, b)
    # Linear(256 -> 64) of torch 2: uniform in +-1 / sqrt(256).
    weight = model.get_parameter("fusion.ecg.weight")
    assert weight.abs().max() <= 1 / 16
    assert weight.std().item() == pytest.approx(1 / 16 / 3**0.5, rel=0.02)
