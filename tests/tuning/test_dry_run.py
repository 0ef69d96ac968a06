"""The dry run builds every branch for real, and its times follow from the size of a trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from study.data.source import Source
from study.errors import ConfigError
from study.models import rules
from study.models.classifier import build_model
from study.spaces.load import load_space
from study.store.storage import Storage
from study.tuning.dry_run import build_branches, trial_seconds
from study.tuning.setup import Setup, set_up

SPACE = """
description = "three branches"
[search]
sampler = "random"
trials = 5
folds = 2
[fixed]
epochs = 2
normal_beats_per_epoch = 40
batch_size = 32
embed_dim = 16
[params.fusion]
values = ["concat_proj", "mhca_time", "rr_only"]
[params.heads]
values = [1, 2]
when = { fusion = ["mhca_time"] }
"""

COMPARE = """
description = "three arms"
[compare]
draws = 2
reference = "bare"
[[arms]]
name = "film"
fusion = "film"
placebo = true
[[arms]]
name = "bare"
input = "ecg"
fusion = "none"
[params.learning_rate]
low = 1e-4
high = 1e-2
"""


@pytest.fixture(scope="module")
def setup(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("dry")
    (folder / "three.toml").write_text(SPACE)
    return set_up(
        load_space(folder / "three.toml"),
        small_source,
        name="three",
        study_seed=0,
        partition_seed=0,
        device="cpu",
        storage=Storage.at(folder / "trials"),
        cache_dir=folder / "beats",
    )


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


def test_a_branch_that_cannot_be_built_ends_the_dry_run(setup: Setup) -> None:
    fixed = {**setup.space.fixed, "input": "opt2"}
    broken = replace(setup, space=replace(setup.space, fixed=fixed))
    with pytest.raises(ConfigError, match="'concat_proj' takes a late RR vector"):
        list(build_branches(broken, run=False))


def with_fixed(setup: Setup, **values: int) -> Setup:
    space = setup.space
    return replace(setup, space=replace(space, fixed={**space.fixed, **values}))


def test_estimated_time_grows_with_epochs_and_normal_beats(setup: Setup) -> None:
    seconds = trial_seconds(setup)
    assert 0 < seconds < 120
    # A hundred times the work: no load on the machine hides that.
    assert trial_seconds(with_fixed(setup, epochs=200)) > 10 * seconds
    assert trial_seconds(with_fixed(setup, normal_beats_per_epoch=20_000)) > 10 * seconds


def test_a_comparison_is_built_by_arm(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "arms.toml").write_text(COMPARE)
    space = load_space(tmp_path / "arms.toml")
    built = build_branches(replace(setup, space=space), run=False)
    assert [branch.arm for branch in built] == ["film", "film_placebo", "bare"]
