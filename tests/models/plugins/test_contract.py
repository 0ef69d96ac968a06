"""Each check of the contract names what is broken."""

from __future__ import annotations

import pytest

from study.models.plugins.contract import CHECKS, cases_of_backbone, cases_of_fusion, faults
from study.models.plugins.plugin import Plugin
from tests.builders import low_rank

FORWARD = "return self.output(ecg * torch.tanh(self.rr(required(rr))))"
OUTPUT = "self.output = nn.Seq"

BROKEN = {
    "constructor": (', Option("rank", 16, low=1, high=256))', ",)", "takes rank, which is not"),
    "outputs": (FORWARD, f"{FORWARD}[:, :3]", r"must be [6, 4] in float32, got [6, 3]"),
    "late sets": ("nn.Linear(n_rr, rank)", "nn.Linear(7, rank)", "RuntimeError: mat1 and mat2"),
    "gradients": ("required(rr)", "required(rr).detach()", "late RR: declared as used, and its"),
    "uses of rr": ("required(rr)", "0 * required(rr)", "late RR: other values must change"),
    "independence": (FORWARD, f"{FORWARD} * rr.mean()", "depends on the other beats of its batch"),
    "start": (OUTPUT, f"self.free = nn.Parameter(torch.ones(4)); {OUTPUT}", "has free and no"),
    "state": (
        OUTPUT,
        f"self.noise = torch.rand(1); {OUTPUT}",
        "the same state dict gives another",
    ),
    "options": ("nn.Dropout(dropout)", "nn.Dropout(0.2)", "dropout: changes nothing"),
    "over time": ("mean_over_time(feature_map)", "feature_map.amax(2)", "say over_time = True"),
    "packs": (
        *("return self", "assert float(rr.sum()) < 1e9\n        return self"),
        "torch.vmap cannot run it",
    ),
    "inspection": (
        *("    def f", "    def gate_values(self):\n        return torch.ones(3)\n\n    def f"),
        "gate_values: must be [D] in (0, 1), got [3]",
    ),
}
"""Check: what of `LowRank` is replaced by what, and what the check says."""


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_fusion_is_named(check: str) -> None:
    old, new, said = BROKEN[check]
    text = low_rank()
    assert old in text
    if check == "packs":
        text = text.replace("    options", "    packs = True\n    options")
    if check == "state":
        text = text.replace("return self.output(", "return self.noise * self.output(")
    Plugin("low_rank", text.replace(old, new)).load()
    found = [fault for case in cases_of_fusion("low_rank") for fault in faults(check, case)]
    assert found and said in found[0]


SHORT = """
from torch import nn
from study.models.backbone import Backbone

class Short(Backbone):
    def __init__(self, *, channels):
        super().__init__()
        self.net = nn.Conv2d(1, 256, (channels, 3), padding=(0, 1), stride=(1, 4))

    def forward(self, x):
        return self.net(x).squeeze(2)

BACKBONES = {"short": Short}
"""


@pytest.mark.usefixtures("own_tables")
def test_a_broken_backbone_is_named_and_a_good_one_keeps_the_contract() -> None:
    Plugin("short", SHORT).load()
    (first, *_) = cases_of_backbone("short")
    assert faults("feature map", first) == [
        "ecg with short and none: must be [6, K, 64], got [6, 256, 32] in float32"
    ]
    Plugin("wide", SHORT.replace("short", "wide").replace("(1, 4)", "(1, 2)")).load()
    cases = cases_of_backbone("wide")
    assert [fault for check in CHECKS for case in cases for fault in faults(check, case)] == []
