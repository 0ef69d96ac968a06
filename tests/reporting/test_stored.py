"""A compare study read back from its folder, and what is said of one that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config import TrainConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import ComparisonError, StudyStateError
from study.keys import AUPRC_SV, Outcome
from study.reporting.comparison_tables import pair_name
from study.reporting.stored import compare_study, keep_comparison, read_beats, read_study
from study.statistics.predictions import check_comparable
from study.store.folder import BEATS, PAIRS, RECORDS, SPACE_COPY, TRIALS
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS
from study.store.trials import TrialRow
from study.store.trials_csv import read_trials_csv, trials_csv
from study.training.batches import epoch_shape
from tests.builders import npz, stored_beats, trial_row

SPACE = """
description = "two arms and a placebo, at two draws"
[compare]
draws = 2
seeds = 1
folds = 2
reference = "ecg"
contrasts = [["film", "film_placebo"], ["film", "ecg"]]
[fixed]
segmentation = "daeac"
epochs = 9
normal_beats_per_epoch = 40
[[arms]]
name = "ecg"
input = "ecg"
fusion = "none"
[[arms]]
name = "film"
fusion = "film"
placebo = true
[params.learning_rate]
low = 1e-3
high = 1e-2
log = true
"""

SEEDS, EPOCHS = 2, 3
"""As the command line said, in place of what the space's file says."""

ARMS = ("ecg", "film", "film_placebo")


def rows() -> list[TrialRow]:
    """Return a complete trial for every arm and draw."""
    pairs = [(draw, arm) for draw in range(2) for arm in ARMS]
    return [
        trial_row(
            number,
            arm,
            digest=f"{number:012x}",
            params={"arm": arm, "learning_rate": 0.002},
            metrics={AUPRC_SV: 0.5},
            epochs=EPOCHS,
            full_epochs=EPOCHS,
            seconds=1.5,
            draw=draw,
        )
        for number, (draw, arm) in enumerate(pairs)
    ]


@pytest.fixture
def folder(tmp_path: Path, plan: StudyPlan, small_beats: BeatSet, small_folds: Folds) -> Path:
    """The folder of a finished study, with made-up predictions."""
    (tmp_path / SPACE_COPY).write_text(SPACE)
    replace(plan, kind="compare", epochs=EPOCHS, n_seeds=SEEDS, trials=6).save(tmp_path)
    (tmp_path / BEATS).write_bytes(stored_beats(small_beats, small_folds, "abcdef"))
    write(tmp_path, rows())
    return tmp_path


def write(folder: Path, trials: Sequence[TrialRow]) -> None:
    """Write a study's trials, and predictions that are their numbers in every value."""
    (folder / TRIALS).write_text(trials_csv(trials))
    with np.load(folder / BEATS) as arrays:
        n_beats = len(arrays["label"])
    for row in trials:
        rng = np.random.default_rng(row.number)
        content = npz(log_probs=rng.normal(size=(SEEDS, n_beats, 4)).astype(np.float32))
        Storage.at(folder / "trials").folder(row.digest).write(PREDICTIONS, content)


def test_rows_are_read_as_they_were_written() -> None:
    some = rows()
    some[1] = replace(some[1], outcome=Outcome.FAILED, cause="a, b\n'c'", full_epochs=None)
    some[2] = replace(some[2], draw=None, duplicate_of=1, params={})
    read = read_trials_csv(trials_csv(some))
    assert [replace(row, params={}) for row in read] == [replace(row, params={}) for row in some]
    assert read[0].params == {"arm": "ecg", "learning_rate": "0.002"}


def test_a_finished_study_is_read_back(
    folder: Path, small_beats: BeatSet, small_folds: Folds
) -> None:
    study = read_study(folder)
    assert study.left_out == () and len(study.rows) == 6
    assert study.beats.patients == ("a", "b", "c", "d", "e", "f")
    assert [arm.name for arm in study.arms] == list(ARMS)
    ecg, film, placebo = study.arms
    assert (ecg.input, ecg.fusion, ecg.segmentation, ecg.rr) == ("ecg", "none", "daeac", "real")
    assert (film.input, film.fusion, placebo.rr, film.trials) == ("opt1", "film", "placebo", 2)
    assert film.draw.tolist() == [0, 0, 1, 1] and film.seed.tolist() == [0, 1, 0, 1]
    # Draw 1 of film is trial 4.
    expected = np.random.default_rng(4).normal(size=(SEEDS, len(small_beats.label), 4))
    assert film.log_probs[2:] == pytest.approx(expected.astype(np.float32))
    assert film.fingerprints["daeac/linear windows"] == "2" * 12
    check_comparable(study.beats, study.arms)
    labels = [small_beats.label[training] for training, _ in small_folds.masks(small_beats)]
    shape = epoch_shape(labels, normal_beats=40, batch_size=TrainConfig().batch_size)
    assert film.beats_trained == 2 * SEEDS * len(labels) * EPOCHS * shape.beats


def test_what_is_not_complete_is_left_out_and_named(folder: Path) -> None:
    some = rows()
    some[1] = replace(some[1], outcome=Outcome.FAILED)
    write(folder, some)
    study = read_study(folder)
    assert study.left_out == ("draw 0 is left out: no complete trial of film",)
    assert [arm.draw.tolist() for arm in study.arms] == [[1, 1]] * 3
    write(folder, [row for row in some if row.arm != "film"])
    study = read_study(folder)
    assert study.left_out == ("film is left out: no complete trial",)
    assert [arm.name for arm in study.arms] == ["ecg", "film_placebo"]
    found = compare_study(study)
    assert found.notes[0] == "film is left out: no complete trial"
    assert not any(pair.primary for pair in found.contrasts), "both declared ones need film"


def test_fewer_than_two_arms_are_no_comparison(folder: Path) -> None:
    write(folder, [row for row in rows() if row.arm == "film"])
    with pytest.raises(ComparisonError) as caught:
        compare_study(read_study(folder))
    assert str(caught.value) == (
        "two arms with complete trials are needed, got 1; ecg is left out: no complete trial; "
        "film_placebo is left out: no complete trial"
    )


def test_arms_without_a_common_draw_are_no_comparison(folder: Path) -> None:
    write(folder, [row for row in rows() if (row.arm == "film") == (row.draw == 0)])
    study = read_study(folder)
    assert study.arms == ()
    assert study.left_out == (
        "draw 0 is left out: no complete trial of ecg, film_placebo",
        "draw 1 is left out: no complete trial of film",
    )


def test_a_report_leaves_every_pair_and_record(folder: Path) -> None:
    comparison = keep_comparison(folder, Storage.at(folder / "trials"))
    assert pair_name(comparison.contrasts[0]) == "film - its placebo"
    assert (folder / PAIRS).read_text().startswith("first,second,primary,quantity,difference,se,")
    assert len((folder / RECORDS).read_text().splitlines()) == 1 + 3 * 6


FEW = {
    "label": np.array([0, 1]),
    "record": np.array([0, 1]),
    "record_names": np.array(["101", "106"]),
    "fold_of_record": np.array([0, 1]),
}


def test_beats_of_a_study_without_patients_are_of_a_patient_a_record(tmp_path: Path) -> None:
    path = tmp_path / "beats.npz"
    path.write_bytes(npz(**FEW))
    assert read_beats(path).patient_of_record == ("101", "106")


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"label": np.array([0, 4])}, "label: must be in [0, 3], got 0 to 4"),
        ({"label": np.array([0, 1, 2])}, "label and record must both be [N], got (3,) and (2,)"),
        ({"label": np.array([0.0, 1.0])}, "'label' must have 1 dimensions and a type of kind i"),
        ({"record": np.array([0, -1])}, "record: must be in [0, 1], got -1 to 0"),
        ({"fold_of_record": np.array([0, 10**9])}, "fold_of_record: must be in [-1, 1], got ["),
        ({"fold_of_record": np.array(0)}, "'fold_of_record' must have 1 dimensions"),
        ({"record_names": np.array([], dtype="U3")}, "record_names: must name at least one"),
    ],
)
def test_beats_that_do_not_agree_are_refused(
    tmp_path: Path, changed: dict[str, Any], fault: str
) -> None:
    path = tmp_path / "beats.npz"
    path.write_bytes(npz(**{**FEW, **changed}))
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert fault in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; bring it back from a copy")


def test_beats_that_are_damaged_or_gone_are_named(tmp_path: Path) -> None:
    path = tmp_path / "beats.npz"
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert str(caught.value) == f"{path}: is gone; bring it back from a copy"
    path.write_bytes(npz(**FEW)[:-30])
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert str(caught.value) == (
        f"{path}: is damaged (BadZipFile: File is not a zip file); bring it back from a copy"
    )


def test_a_folder_that_is_none_is_refused_with_what_it_lacks(
    folder: Path, plan: StudyPlan
) -> None:
    with pytest.raises(StudyStateError) as caught:
        read_study(folder / "nowhere")
    assert str(caught.value) == (
        f"{folder / 'nowhere'}: is not the folder of a study that has ended; it has no "
        "plan.json, space.toml, trials.csv, beats.npz"
    )
    plan.save(folder)
    with pytest.raises(StudyStateError) as caught:
        read_study(folder)
    assert str(caught.value) == (
        f"{folder}: is a search study, whose arms had unequal tries; only a compare study can be "
        "compared"
    )


def test_predictions_that_are_gone_are_named_with_their_place(folder: Path) -> None:
    Storage.at(folder / "trials").folder(f"{3:012x}").delete(PREDICTIONS)
    with pytest.raises(StudyStateError) as caught:
        read_study(folder)
    assert str(caught.value) == (
        f"trial 3, ecg: {folder}/trials/000000000003 has no predictions.npz; a study started with "
        "--storage keeps its files there"
    )
