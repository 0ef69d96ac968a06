"""From a space and records to a plan: which cuts, which folds, what is written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.data import prepare
from study.data.beat_set import BeatSet
from study.data.source import Source
from study.errors import DataError, SpaceError
from study.store.storage import Storage
from study.tuning import setup as own
from study.tuning.setup import Setup, plan_folds, set_up
from tests.builders import load_text

SEARCH = """
description = "a search"
[search]
sampler = "random"
trials = 5
folds = 2
seeds = 3
reduction_factor = 4
[fixed]
epochs = 2
"""
ONE = "[params.dropout]\nlow = 0.0\nhigh = 0.5\n"
COMPARE = """
description = "a comparison"
[compare]
draws = 2
folds = 2
reference = "now"
[fixed]
epochs = 4
[[arms]]
name = "now"
segmentation = "daeac"
[[arms]]
name = "beat"
segmentation = "beat"
resampling = "linear"
[params.dropout]
low = 0.0
high = 0.5
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beats")


def build(source: Source, text: str, folder: Path, cache: Path, **options: Any) -> Setup:
    known: dict[str, Any] = {"name": "mine", "study_seed": 0, "partition_seed": 0, "device": "cpu"}
    return set_up(
        load_text(folder, text),
        source,
        storage=Storage.at(folder / "trials"),
        cache_dir=cache,
        **(known | options),
    )


@pytest.mark.parametrize(
    ("device", "compiles", "engine"),
    [
        ("cpu", True, "fp32, compiled"),
        ("cpu", False, "fp32, not compiled"),
        ("cuda", True, "fp32, packed"),
        ("auto", True, "fp32, packed"),
    ],
)
def test_what_trials_compute_with_goes_by_the_device(
    small_source: Source,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    compiles: bool,
    engine: str,
) -> None:
    monkeypatch.setattr(own, "has_compiled_kernels", lambda: compiles)
    text = SEARCH + ONE
    setup = build(small_source, text, tmp_path, cache, device=device, precision="fp32")
    assert str(setup.job.engine) == setup.plan.engine == engine


def test_a_plan_holds_what_shapes_the_results(
    small_source: Source, small_beats: BeatSet, tmp_path: Path, cache: Path
) -> None:
    setup = build(small_source, SEARCH + ONE, tmp_path, cache, study_seed=7)
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


def test_a_comparison_prepares_each_cut_once(
    small_source: Source, tmp_path: Path, cache: Path
) -> None:
    setup = build(small_source, COMPARE, tmp_path, cache)
    assert setup.job.beats.keys() == {("daeac", "linear"), ("beat", "linear")}
    assert (setup.plan.trials, setup.plan.epochs, setup.plan.kind) == (4, 4, "compare")
    for config in setup.space.configurations():
        assert setup.job.beats_of(config).segmentation == config.signal.segmentation


@pytest.mark.parametrize(
    "text",
    [
        COMPARE.replace('name = "now"', 'name = "now"\nepochs = 2'),
        SEARCH.replace("epochs = 2\n", "") + "[params.epochs]\nvalues = [2, 4]\n",
    ],
    ids=["arms", "searched"],
)
def test_unequal_budgets_are_refused(
    small_source: Source, tmp_path: Path, cache: Path, text: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        build(small_source, text, tmp_path, cache)
    assert str(caught.value) == (
        f"{tmp_path / 'tiny.toml'}: epochs: must be the same in every configuration, otherwise a "
        "longer budget would look like a better arm; give it under [fixed]"
    )


def test_the_plan_differs_where_folds_or_settings_differ(
    small_source: Source, tmp_path: Path, cache: Path
) -> None:
    text = (SEARCH + ONE).replace("[fixed]", "[fixed]\nnormal_beats_per_epoch = 20")
    setup = build(small_source, text, tmp_path, cache)
    again = build(small_source, "# other words\n" + text, tmp_path, cache)
    assert again.plan.differences(setup.plan) == {}
    for name in ("folds", "epochs"):
        other = build(small_source, text.replace(f"{name} = 2", f"{name} = 3"), tmp_path, cache)
        assert list(other.plan.differences(setup.plan)) == [name]


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        ('"published"', r"published"),
        ("7", r"folds: must be in \[2, 6\] for 6 patients, got 7"),
    ],
)
def test_folds_that_the_records_do_not_allow_are_refused(
    small_source: Source, small_beats: BeatSet, tmp_path: Path, folds: str, said: str
) -> None:
    space = load_text(tmp_path, (SEARCH + ONE).replace("folds = 2", f"folds = {folds}"))
    with pytest.raises(DataError, match=said):
        plan_folds(space, small_beats, small_source, 0)


def test_records_on_which_no_trial_would_have_a_score_are_refused(
    small_source: Source, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = prepare.prepare_all

    def without_s(*given: Any, **options: Any) -> dict[tuple[str, str], BeatSet]:
        return {
            cut: replace(beats, label=np.where(beats.label == 1, 0, beats.label))
            for cut, beats in known(*given, **options).items()
        }

    monkeypatch.setattr(own, "prepare_all", without_s)
    with pytest.raises(DataError) as caught:
        build(small_source, SEARCH + ONE, tmp_path, cache)
    assert str(caught.value) == (
        "objective val_auprc_sv: no fold has 10 beats of S (0 in all) to score, together with "
        "beats of other classes; give records that have them, or another --objective"
    )
