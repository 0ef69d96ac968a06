"""Plug-ins: what a file may have, and what a process makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from study.config import PARAMETERS, TrialConfig
from study.errors import PluginError
from study.models import rules
from study.models.classifier import build_model
from study.models.cpu_backbone import FusedBackbone
from study.models.fusion import FUSIONS
from study.models.plugins.plugin import Plugin, used_by
from tests.builders import low_rank
from tests.models.plugins.test_contract import SHORT
from tests.models.reference_kernels import PLAIN

pytestmark = pytest.mark.usefixtures("own_tables")


def test_its_class_and_its_option_are_known_and_part_of_the_digest() -> None:
    before = rules.digest(TrialConfig())
    plugin = Plugin("low_rank", low_rank())
    plugin.load()
    plugin.load()
    assert rules.digest(TrialConfig()) == before
    config = TrialConfig.from_flat({"fusion": "low_rank", "rank": 8})
    assert config.flat()["rank"] == 8
    assert rules.active_parameters(config)["rank"] == 8
    assert TrialConfig.from_flat(rules.active_parameters(config)).model == config.model
    network = build_model(config.signal, config.model, seed=(0,))
    assert network.fusion.state_dict()["ecg.weight"].shape == (8, 256)
    assert used_by(config.model) == (plugin,)
    assert "rank" not in rules.active_parameters(TrialConfig.from_flat({"rank": 8}))


BAD = {
    "x = 1": "has no table FUSIONS = {...} or BACKBONES = {...}",
    "import sys; sys.exit(0)": "fails in line 1: SystemExit: 0",
    "def f(:": "fails in line 1: SyntaxError",
    "\nimport nothing_of_this_name": "fails in line 2: ModuleNotFoundError",
    "FUSIONS = {'a': 3}": "FUSIONS: 'a' must be a class of Fusion: 3",
    low_rank().replace('"low_rank":', '"film":'): "there is a 'film' already",
    low_rank().replace('"rank"', '"epochs"'): "epochs: is the name of another parameter",
    low_rank().replace('"dropout"', '"dropuot"'): "LowRank: unknown shared option 'dropuot'",
    low_rank().replace("16, low", "0, low"): "`low <= default <= high` must hold",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_cannot_be_used_is_named_and_leaves_nothing(text: str) -> None:
    tables = (dict(FUSIONS), dict(PARAMETERS))
    with pytest.raises(PluginError, match=r"^plug-in mine\.py: ") as caught:
        Plugin("mine", text).load()
    assert BAD[text] in str(caught.value)
    assert (FUSIONS, PARAMETERS) == tables


def test_another_file_of_a_loaded_name_is_refused(tmp_path: Path) -> None:
    Plugin("low_rank", low_rank()).load()
    with pytest.raises(PluginError, match=r"another file of this name is loaded"):
        Plugin("low_rank", low_rank() + "\n").load()
    with pytest.raises(PluginError, match=r"a plug-in is a file NAME\.py"):
        Plugin.at(tmp_path / "low-rank.py")


def test_a_backbone_without_fused_form_runs_as_it_is_written() -> None:
    Plugin("short", SHORT).load()
    config = TrialConfig.from_flat({"backbone": "short", "input": "ecg", "fusion": "none"})
    model = build_model(config.signal, config.model, seed=(0,))
    model.run_by(FusedBackbone(torch.float32, PLAIN))
    assert model.run_backbone is None and not model.packs
    assert rules.arm(config) == "ecg / daeac / short / none"
    assert rules.active_parameters(config)["backbone"] == "short"
