"""From a space and records to a plan and its ledger: which cuts, folds and draws."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from study.data.beat_set import BeatSet
from study.data.source import Source, synthetic_source
from study.errors import DataError, SpaceError
from study.store.admission import Before
from study.store.study import Places, Study
from study.tuning import setup as own
from study.tuning.session import open_ledger
from study.tuning.setup import Setup
from tests.builders import set_up_study, space_toml

SEARCH = space_toml(
    {"dropout": {"low": 0.0, "high": 0.5}},
    fixed={"epochs": 2},
    settings={"sampler": "random", "trials": 5, "folds": 2, "seeds": 3, "reduction_factor": 4},
)
COMPARE = space_toml(
    {"dropout": {"low": 0.0, "high": 0.5}},
    fixed={"epochs": 4},
    arms=[
        {"name": "now", "segmentation": "daeac"},
        {"name": "beat", "segmentation": "beat", "resampling": "linear"},
    ],
    settings={"draws": 2, "folds": 2, "reference": "now"},
)


Build = Callable[..., Setup]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beats")


@pytest.fixture
def build(small_source: Source, tmp_path: Path, cache: Path) -> Build:
    """A function that sets up a study of a space's text on six records."""
    return partial(set_up_study, tmp_path, source=small_source, cache_dir=cache)


def test_what_trials_compute_with_goes_by_the_device(build: Build) -> None:
    for device, compiles, engine in (
        ("cpu", True, "fp32, compiled"),
        ("cpu", False, "fp32, not compiled"),
        ("cuda", True, "fp32, packed"),
        ("auto", True, "fp32, packed"),
    ):
        with mock.patch.object(own, "has_compiled_kernels", return_value=compiles):
            setup = build(SEARCH, device=device, precision="fp32")
        assert str(setup.job.engine) == setup.plan.engine == engine


def test_a_plan_holds_what_shapes_the_results(build: Build, small_beats: BeatSet) -> None:
    setup = build(SEARCH, study_seed=7)
    plan = setup.plan
    assert (plan.name, plan.space, plan.kind) == ("mine", "tiny", "search")
    assert (plan.sampler, plan.scheduler, plan.reduction_factor) == ("random", "asha", 4)
    assert (plan.trials, plan.epochs, plan.n_folds, plan.n_seeds) == (5, 2, 2, 3)
    assert (plan.study_seed, plan.data_source) == (7, "synthetic")
    assert plan.space_digest == setup.space.digest
    assert plan.fold_fingerprint == setup.job.folds.fingerprint
    assert plan.data_fingerprints == {"daeac/linear": setup.beats.fingerprint}
    assert (setup.job.n_seeds, setup.job.study_seed, setup.job.device) == (3, 7, "cpu")
    assert setup.beats.fingerprint != small_beats.fingerprint, "reliance draws by the study seed"


def test_a_comparison_prepares_each_cut_once(build: Build) -> None:
    setup = build(COMPARE)
    assert setup.job.beats.keys() == {("daeac", "linear"), ("beat", "linear")}
    assert (setup.plan.trials, setup.plan.epochs, setup.plan.kind) == (4, 4, "compare")
    for config in setup.space.configurations():
        assert setup.job.beats_of(config).segmentation == config.signal.segmentation


UNEQUAL = "epochs: must be the same in every configuration"


def test_what_space_or_records_do_not_allow_is_refused(build: Build) -> None:
    for text, said in (
        (COMPARE.replace('name = "now"', 'name = "now"\nepochs = 2'), UNEQUAL),
        (SEARCH.replace("epochs = 2\n", "") + "[params.epochs]\nvalues = [2, 4]\n", UNEQUAL),
        (SEARCH.replace("folds = 2", 'folds = "published"'), "published"),
        (SEARCH.replace("folds = 2", "folds = 7"), "folds: must be in [2, 6] for 6 patients, got"),
    ):
        with pytest.raises((SpaceError, DataError), match=re.escape(said)):
            build(text)


def test_records_that_would_give_no_score_are_refused(build: Build, tmp_path: Path) -> None:
    few = synthetic_source(tmp_path / "few", duration_s=30, names=("101", "106"))
    with pytest.raises(DataError, match=r"no fold has 10 beats of S \(\d+ in all\)"):
        build(SEARCH, source=few)


def test_a_start_after_owed_trials_asks_for_others(build: Build, tmp_path: Path) -> None:
    """It would take them for repeats, and twenty of those for the end of the space."""
    setup = build(SEARCH.replace('"random"', '"tpe"'))
    one, two = (Places(folder=tmp_path / name) for name in ("one", "two"))

    def draws(places: Places, before: Before | None = None) -> list[float]:
        ledger = open_ledger(setup, places, before)
        found = [ledger.ask().suggest_float("dropout", 0.0, 0.5) for _ in range(5)]
        ledger.release()
        return found

    first = draws(one)
    assert first == draws(two), "a study's first start is repeatable"
    setup.plan.save(one.folder)
    assert not set(first) & set(draws(one, Before(Study.at(one), [])))
