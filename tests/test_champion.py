"""A model from an arm of a finished comparison, and its card."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study import champion
from study.models.seed_ensemble import SeedEnsemble
from tests.builders import low_rank
from tests.command import Ended, fresh_tables, here
from tests.studies import Studies

SPACE = """
description = "Two fusions"
compare = { draws = 1, seeds = 2, folds = 2, reference = "own", contrasts = [] }
fixed = { input = "opt1", embed_dim = 8, epochs = 1, normal_beats_per_epoch = 50 }
arms = [{ name = "own", fusion = "low_rank" }, { name = "sum", fusion = "expert_sum" }]
"""


@pytest.fixture(scope="module")
def workspace(studies: Studies) -> Path:
    (studies.folder / "two.toml").write_text(SPACE)
    (studies.folder / "low_rank.py").write_text(low_rank())
    with fresh_tables():
        studies.here("two", "two", "--no-track", "--plugin", "low_rank.py").succeeded()
    return studies.folder


def made(workspace: Path, *words: str) -> Ended:
    records = ("--records", "records", "--split", "split.toml")
    with fresh_tables():
        return here(workspace, ["--study", "two", *records, *words], champion.main)


def test_an_arm_becomes_a_calibrated_model_with_a_card(workspace: Path) -> None:
    ended = made(workspace, "--arm", "sum", "--seeds", "2")
    assert ended.code == 0, ended
    content = (workspace / "sum.pt").read_bytes()
    model = SeedEnsemble.read(content)
    assert ended.out.startswith("sum.pt: opt1 / daeac / expert_sum / published7 / real, ")
    assert (model.config.model.fusion, len(model.models)) == ("expert_sum", 2)
    assert model.temperature != 1
    assert model.about["trained_on"].startswith("all 6 records of its study, 2 seeds;")
    # Two bytes a parameter, not four
    assert len(content) < 3 * 2 * sum(p.numel() for p in model.models[0].parameters())
    card = (workspace / "sum.md").read_text()
    for text in ("**It is no diagnosis.**", "Out of fold, on 6 patients", "2 seeds", "## Limits"):
        assert text in card, text
    assert "the leads and sampling rates of these records alone" in card
    assert not re.search("MIT-BIH|DS2|derived from", card), "it was trained on other records"
    assert "trained 1 of 1 epoch, 0 s left" in ended.err
    raw, calibrated = map(float, re.findall(r"log loss (\d\.\d+), Brier", card))
    worse = "calibration made the log loss worse"
    assert (worse in card, worse in ended.err) == (calibrated > raw,) * 2


def test_what_cannot_become_one_is_refused(workspace: Path) -> None:
    unknown = "--arm: unknown arm with a complete trial 'summ'; known: own, sum."
    assert unknown in made(workspace, "--arm", "summ").err
    refused = made(workspace, "--arm", "sum", "--output", "a.bin")
    assert (refused.code, "--output: must end in .pt" in refused.err) == (2, True)
    (workspace / "notes.md").write_text("of the user")
    refused = made(workspace, "--arm", "sum", "--output", "notes.pt")
    assert "--output: notes.md: is there already, and is never replaced; name" in refused.err
    refused = made(workspace, "--arm", "sum", "--output", "two.toml/a.pt")
    assert "--output: two.toml/a.pt: cannot be written (two.toml: Not a dir" in refused.err


def test_a_plug_in_lies_beside_its_model_and_replaces_no_other_file(workspace: Path) -> None:
    words = ("--arm", "own", "--seeds", "1", "--output", "made/own.pt")
    assert "; plug-in: made/low_rank.py\n" in made(workspace, *words).succeeded().out
    with fresh_tables():
        assert SeedEnsemble.at(workspace / "made/own.pt").config.model.fusion == "low_rank"
    (workspace / "made/low_rank.py").write_text("# my own")
    refused = made(workspace, *words)
    assert "--output: made/low_rank.py: is another plug-in than the arm's (" in refused.err
