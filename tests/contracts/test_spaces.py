"""Every file of search_spaces/: it loads, each branch is legal, its header tells the truth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from optuna.trial import FixedTrial

from study.config import TrialConfig, digest_of
from study.models import rules
from study.models.fusion import FUSIONS
from study.spaces.load import FOLDER, load_space, rehearsal
from study.spaces.optuna_space import distributions, suggest
from study.spaces.space import Space

FILES = sorted(FOLDER.rglob("*.toml"))
COMPARE = ("fusion_compare", "published_arms")


def test_earlier_words_are_read_as_those_of_today_and_move_no_digest(tmp_path: Path) -> None:
    assert load_space("seed_experiments").name == "published_arms"
    text = (FOLDER / "published_arms.toml").read_text()
    (tmp_path / "published_arms.toml").write_text(text.replace("published7", "seed7"))
    now, before = load_space("published_arms"), load_space(tmp_path / "published_arms.toml")
    assert before.digest == now.digest and before.fixed == now.fixed
    assert "published7" in text and digest_of(["published7"]) == digest_of(["seed7"])
    stored = TrialConfig().flat() | {"late_rr": "seed7"}
    assert TrialConfig.from_flat(stored) == TrialConfig()


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def space(request: pytest.FixtureRequest) -> Space:
    path: Path = request.param
    return load_space(path)


def test_every_branch_is_a_configuration_of_its_own(space: Space) -> None:
    assert load_space(space.name) == space
    configs = space.configurations()
    assert configs
    assert len({rules.digest(config) for config in configs}) == len(configs)


def test_header_names_the_command_and_the_counts(space: Space) -> None:
    command, counts, question = space.text.splitlines()[:3]
    assert command == f"# python -m study.run --space {space.name}"
    assert question.startswith("# Answers: ")
    assert "?" in question
    if space.kind == "compare":
        expected = (
            f"# {space.trials} trials = {len(space.arms)} arms x {space.draws} "
            f"draw{'s' if space.draws > 1 else ''}, each of {space.folds} folds x "
            f"{space.seeds} seeds, a partition into folds for each seed."
        )
        assert space.partitions == space.seeds
        assert counts == expected
        return
    size = space.grid_size()
    of = "of a continuous space" if size is None else f"of {size} configurations"
    arms = len(space.defaults())
    told = rf"# {space.trials} trials {of} in {arms} arms?\b"
    if space.n_finals:
        told = (
            rf"# {space.trials} {of} in {arms} arms are screened, and the best of each arm is "
            r"trained in full\."
        )
    assert re.match(told, counts), counts


def test_a_rehearsal_is_small_and_says_so(space: Space) -> None:
    quick = rehearsal(space)
    assert quick.rehearses and not space.rehearses
    assert quick.n_trials <= max(12, len(space.arms))
    assert {config.train.epochs for config in quick.configurations()} == {1}
    assert (quick.folds, quick.seeds, quick.partitions, quick.scheduler) == (2, 1, 1, "none")
    assert (quick.name, quick.contrasts) == (space.name, space.contrasts)


def test_search_proposes_what_it_can_run(space: Space) -> None:
    if space.kind == "compare":
        return
    points = [draw(0, index) for draw in (space.random, space.qmc) for index in range(16)]
    for point in [*points, *space.defaults()]:
        assert suggest(space, FixedTrial(dict(point))) == point
        assert distributions(space, point).keys() == point.keys()
        config = space.configuration(point)
        assert set(point) <= set(rules.active_parameters(config))


@pytest.mark.parametrize("name", COMPARE)
def test_compare_declares_each_fusion_against_its_placebo(name: str) -> None:
    space = load_space(name)
    arms = {point.arm: point.config for point in space.comparisons()}
    for arm, config in arms.items():
        if f"{arm}_placebo" in arms:
            assert (arm, f"{arm}_placebo") in space.contrasts
        elif not arm.endswith("_placebo"):
            assert not rules.rr_routes(config).inputs, f"{arm} uses RR and has no placebo"


def test_fusion_compare_has_every_fusion_and_one_window() -> None:
    space = load_space("fusion_compare")
    points = space.comparisons()
    assert {point.config.model.fusion for point in points} == {*FUSIONS}
    assert {point.config.signal.segmentation for point in points} == {"beat"}
    with_rr = {
        point.arm
        for point in points
        if rules.rr_routes(point.config).inputs and not point.arm.endswith("_placebo")
    }
    for arm in with_rr - {space.reference}:
        assert (arm, space.reference) in space.contrasts
    assert not any(rules.rr_routes(point.config).window for point in points)


_MHCA = {"fusion": "mhca", "heads": 1, "late_rr": "published7", "rr_scale": "raw"}
_MHCA |= {"embed_dim": 64, "gate_init": -2.0, "dropout": 0.2}
PUBLISHED: list[tuple[str, Mapping[str, object]]] = [
    (
        "baseline_opt2",
        {"input": "opt2", "segmentation": "daeac", "fusion": "none", "ratio_mean": "so_far"},
    ),
    ("mhca_h1", {"input": "opt1", "segmentation": "centred", **_MHCA}),
    ("opt3_mhca_h1", {"input": "opt3", "segmentation": "daeac", **_MHCA}),
]
"""The three experiments of the brief; docs/published.md has their sources."""


@pytest.mark.parametrize(("arm", "expected"), PUBLISHED)
def test_published_experiments_are_as_published(arm: str, expected: Mapping[str, object]) -> None:
    config = load_space("published_arms").arm_configurations()[arm]
    active = rules.active_parameters(config)
    assert {name: active[name] for name in expected} == expected
    assert (active["resampling"], active.get("rr", "real")) == ("linear", "real")
    assert (active["epochs"], active["normal_beats_per_epoch"]) == (6, 4000)
