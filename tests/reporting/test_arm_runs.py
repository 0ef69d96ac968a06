"""The predictions that stand for the arms of a compare study, and what is left out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config import TrainConfig, TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import StudyStateError
from study.keys import AUPRC_SV, Outcome
from study.reporting.arm_runs import arm_runs, floor_runs
from study.reporting.arms import arm_configs, facts_of
from study.reporting.comparison_tables import pair_name
from study.reporting.load import compare_arms, keep_comparison, load
from study.statistics.predictions import check_comparable
from study.store.floors import FOLDER, StudyFloor
from study.store.folder import BEATS, PAIRS, RECORDS, SPACE_COPY
from study.store.plan import StudyPlan
from study.store.study import Study
from study.store.trial_files import PREDICTIONS
from study.store.trials import TrialRow
from study.training.batches import epoch_shape
from tests.builders import npz, refused, stored_beats, study_of, study_plan, trial_row

SPACE = """
description = "three arms and a placebo, at two draws"
fixed = { segmentation = "beat", epochs = 9, normal_beats_per_epoch = 40 }
arms = [
    { name = "ecg", input = "ecg", fusion = "none" },
    { name = "film", fusion = "film", placebo = true },
    { name = "rr", fusion = "rr_only" },
]
params.learning_rate = { low = 1e-3, high = 1e-2, log = true }
[compare]
draws = 2
seeds = 1
folds = 2
reference = "ecg"
contrasts = [["film", "film_placebo"], ["film", "ecg"]]
"""

SEEDS, EPOCHS = 2, 3
"""As the command line said, in place of what the space's file says."""

ARMS = ("ecg", "film", "film_placebo", "rr")


def rows() -> list[TrialRow]:
    pairs = [(draw, arm) for draw in range(2) for arm in ARMS]
    usual: dict[str, Any] = {"metrics": {AUPRC_SV: 0.5}, "epochs": EPOCHS}
    return [
        trial_row(number, arm, digest=f"{number:012x}", draw=draw, **usual)
        for number, (draw, arm) in enumerate(pairs)
    ]


@pytest.fixture
def folder(tmp_path: Path, small_beats: BeatSet, small_folds: Folds) -> Path:
    """The folder of a finished study, with made-up predictions."""
    (tmp_path / SPACE_COPY).write_text(SPACE)
    study_plan(
        data_fingerprints={"beat/antialiased": "2" * 12},
        **{"kind": "compare", "epochs": EPOCHS, "n_seeds": SEEDS, "trials": 8},
    ).save(tmp_path)
    (tmp_path / BEATS).write_bytes(stored_beats(small_beats, small_folds, "abcdef"))
    return tmp_path


def study_with(folder: Path, trials: Sequence[TrialRow]) -> Study:
    """Return a study of these trials, with predictions that are drawn by their numbers."""
    plan = StudyPlan.load(folder)
    points = study_of(folder, plan, []).space.comparisons()
    configs = {(point.arm, point.draw): point.config for point in points}
    study = study_of(folder, plan, [(row, configs[row.arm, row.draw or 0]) for row in trials])
    for row in trials:
        rng = np.random.default_rng(row.number)
        shape = (SEEDS, len(study.beats.label), 4)
        content = npz(log_probs=rng.normal(size=shape).astype(np.float32))
        study.files.folder(row.digest).write(PREDICTIONS, content)
    return study


def test_a_finished_study_is_read(folder: Path, small_beats: BeatSet, small_folds: Folds) -> None:
    study = study_with(folder, rows())
    arms, left_out = arm_runs(study)
    assert left_out == []
    assert study.beats.patients == ("a", "b", "c", "d", "e", "f")
    assert [arm.name for arm in arms] == list(ARMS)
    ecg, film, placebo, rr = arms
    assert (ecg.input, ecg.fusion, ecg.window, ecg.rr) == ("ecg", "none", "beat", "real")
    assert (film.input, film.fusion, placebo.rr, film.trials) == ("opt1", "film", "placebo", 2)
    assert film.draw.tolist() == [0, 0, 1, 1] and film.seed.tolist() == [0, 1, 0, 1]
    assert rr.window == "beat", "it sees no window, and is compared with arms of this one"
    # Draw 1 of film is trial 5.
    expected = np.random.default_rng(5).normal(size=(SEEDS, len(small_beats.label), 4))
    assert film.log_probs[2:] == pytest.approx(expected.astype(np.float32))
    assert film.fingerprints["beat/antialiased windows"] == "2" * 12
    check_comparable(study.beats, arms)
    labels = [small_beats.label[training] for training, _ in small_folds.splits(small_beats)]
    shape = epoch_shape(labels, normal_beats=40, batch_size=TrainConfig().batch_size)
    assert film.beats_trained == 2 * SEEDS * len(labels) * EPOCHS * shape.beats
    comparison = load(study, print).comparison
    assert comparison is not None
    keep_comparison(study, comparison)
    assert pair_name(comparison.contrasts[0]) == "film - its placebo"
    assert (folder / PAIRS).read_text().startswith("first,second,primary,quantity,difference,se,")
    assert len((folder / RECORDS).read_text().splitlines()) == 1 + 4 * 6


def test_what_is_not_complete_is_left_out_and_named(folder: Path) -> None:
    some = rows()
    some[1] = replace(some[1], outcome=Outcome.FAILED)
    arms, left_out = arm_runs(study_with(folder, some))
    assert left_out == ["draw 0 is left out: no complete trial of film"]
    assert [arm.draw.tolist() for arm in arms] == [[1, 1]] * 4
    study = study_with(folder, [row for row in some if row.arm != "film"])
    arms, left_out = arm_runs(study)
    assert left_out == ["film is left out: no complete trial"]
    assert [arm.name for arm in arms] == ["ecg", "film_placebo", "rr"]
    found = compare_arms(study, arms, left_out)
    assert found.notes[0] == "film is left out: no complete trial"
    assert not any(pair.primary for pair in found.contrasts), "both declared ones need film"


def test_without_two_arms_on_a_common_draw_there_is_no_comparison(folder: Path) -> None:
    results = load(study_with(folder, [row for row in rows() if row.arm == "film"]), print)
    assert results.comparison is None
    assert results.gaps["comparison"] == (
        "two arms with complete trials are needed, got 1; ecg is left out: no complete trial; "
        "film_placebo is left out: no complete trial; rr is left out: no complete trial"
    )


def test_predictions_that_are_gone_are_named_with_their_place(folder: Path) -> None:
    study = study_with(folder, rows())
    study.files.folder(f"{3:012x}").delete(PREDICTIONS)
    assert refused(StudyStateError, arm_runs, study) == (
        f"trial 3, rr: {folder}/trials/000000000003 has no predictions.npz; a study started with "
        "--storage keeps its files there"
    )


def test_a_floor_has_as_many_runs(folder: Path, small_beats: BeatSet, small_folds: Folds) -> None:
    one_partition = study_with(folder, rows())
    assert one_partition.beats.n_partitions == 1
    (folder / BEATS).write_bytes(stored_beats(small_beats, small_folds, "abcdef", partitions=2))
    study = study_with(folder, rows())
    arms, _ = arm_runs(study)
    predicted = np.random.default_rng(0).normal(size=(2, len(study.beats.label), 4))
    stored = folder / FOLDER / "logistic_regression"
    stored.mkdir(parents=True)
    (stored / PREDICTIONS).write_bytes(npz(log_probs=predicted.astype(np.float32)))
    floors = [
        StudyFloor(name="prevalence", digest="p", metrics={AUPRC_SV: 0.1}),
        StudyFloor(name="logistic_regression", digest="l", metrics={AUPRC_SV: 0.4}),
    ]
    floor = floor_runs(study, floors, arms)
    assert floor is not None and floor.name == "logistic regression"
    check_comparable(study.beats, [*arms, floor])
    # Two draws of two seeds: each seed has what is predicted in its partition.
    assert np.array_equal(floor.log_probs, predicted.astype(np.float32)[[0, 1, 0, 1]])
    assert floor_runs(study, floors[:1], arms) is None, "its predictions are not there"
    assert floor_runs(one_partition, floors, arms) is None, "they are of other partitions"


def test_rr_only_of_a_search_belongs_to_the_window_of_its_space(folder: Path) -> None:
    text = """
description = "with RR alone and without"
fixed = { segmentation = "beat" }
params.fusion = { values = ["rr_only", "concat"] }
search = { sampler = "grid" }
"""
    (folder / SPACE_COPY).write_text(text)
    configs = {
        name: TrialConfig.from_flat({"segmentation": "beat", "fusion": name})
        for name in ("rr_only", "concat")
    }
    trials = [
        (trial_row(k, name, digest=name, metrics={AUPRC_SV: 0.5}), configs[name])
        for k, name in enumerate(configs)
    ]
    study = study_of(folder, replace(StudyPlan.load(folder), kind="search"), trials)
    for name in configs:
        content = npz(log_probs=np.zeros((SEEDS, len(study.beats.label), 4), np.float32))
        study.files.folder(name).write(PREDICTIONS, content)
    arms, _ = arm_runs(study)
    assert [(arm.name, arm.window) for arm in arms] == [("rr_only", "beat"), ("concat", "beat")]
    assert facts_of(arm_configs(study))["rr_only"].segmentation == "beat"
