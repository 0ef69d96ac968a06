"""The dry run builds every branch for real."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from study.data.source import Source
from study.models import rules
from study.models.classifier import build_model
from study.models.plugins.plugin import Plugin
from study.tuning.dry_run import broken_routes, build_branches, plan_lines
from study.tuning.estimate import trial_seconds
from study.tuning.header import before_trials
from study.tuning.setup import Setup
from tests.builders import checked_space_of, low_rank, set_up_study, space_toml
from tests.command import fresh_tables

SPACE = space_toml(
    {
        "fusion": ["concat_proj", "mhca_time", "rr_only"],
        "heads": {"values": [1, 2], "when": {"fusion": ["mhca_time"]}},
    },
    fixed={"epochs": 2, "normal_beats_per_epoch": 40, "batch_size": 32, "embed_dim": 16},
    settings={"sampler": "random", "trials": 5, "folds": 2},
)


@pytest.fixture(scope="module")
def setup(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("dry")
    return set_up_study(folder, SPACE, small_source)


def test_every_branch_is_built_with_its_weights_and_routes(setup: Setup) -> None:
    branches = list(build_branches(setup, run=True))
    configs = setup.space.configurations()
    assert [branch.arm for branch in branches] == [rules.arm(config) for config in configs]
    assert [config.model.fusion for config in configs] == ["concat_proj", "mhca_time", "rr_only"]
    for branch, config in zip(branches, configs, strict=True):
        model = build_model(config.signal, config.model, seed=(0, 0, 0))
        assert branch.parameters == sum(p.numel() for p in model.parameters())
        assert branch.routes == rules.rr_routes(config).text()
    assert branches[2].routes == "RR reaches the output by: late vector"
    assert not Path(setup.job.storage.root).exists(), "nothing is written"


def test_branches_of_the_same_arm_are_told_apart_by_their_values(setup: Setup) -> None:
    focal = {"values": [1.0, 2.0], "when": {"loss": ["focal"]}}
    params = {"loss": ["cross_entropy", "focal"], "focal_gamma": focal}
    text = space_toml(params, fixed={}, settings={"sampler": "random", "trials": 2})
    branches = build_branches(replace(setup, space=checked_space_of(text)), run=False)
    told = [branch.differing for branch in branches]
    assert told == ["loss = cross_entropy", "loss = focal, focal_gamma = 1.0"]


def test_what_all_branches_take_from_a_template_is_said_once(
    small_source: Source, tmp_path: Path
) -> None:
    fixed = {"template": "trailing", "morphology": "deviation", "epochs": 1}
    settings = {"sampler": "random", "trials": 2, "folds": 2}
    text = space_toml({"fusion": ["concat", "film"]}, fixed=fixed, settings=settings)
    seen = set_up_study(tmp_path, text, small_source)
    told = [line for line in plan_lines(seen, 1, run_branches=False) if "median of up to" in line]
    assert [line.partition(" deviation from")[0] for line in told] == ["  all of them:"]


def test_a_start_leaves_out_what_comes_on_top_of_an_unknown_time(setup: Setup) -> None:
    time, *_ = before_trials(setup, 1, math.nan, None, "")
    assert time == "time: known after the first epoch; --dry-run estimates it"


def test_a_plug_in_that_uses_rr_otherwise_than_it_declares_is_told() -> None:
    with fresh_tables():
        Plugin("low_rank", low_rank().replace("required(rr)", "0 * required(rr)")).load()
        space = checked_space_of(SPACE.replace("concat_proj", "low_rank"))
        (fault,) = broken_routes(space)
    assert fault.startswith("opt1 with macnn_se and low_rank: late RR: other values must change")


def test_estimated_time_grows_with_the_work(setup: Setup) -> None:
    space, seconds = setup.space, trial_seconds(setup)
    for longer in ({"epochs": 200}, {"normal_beats_per_epoch": 20_000}):  # a hundred times
        more = replace(setup, space=replace(space, fixed={**space.fixed, **longer}))
        # No load on the machine hides that.
        assert 0 < 10 * seconds < trial_seconds(more)
