"""A study's floors: computed once, in the form of a trial's files, or missing with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.prepare import prepare
from study.data.source import Source
from study.keys import AUPRC_SV
from study.store import floors
from study.store.floors import FLOOR_CUT
from study.store.study_floors import study_floors
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES


@pytest.fixture(scope="module")
def floor_beats(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """The small records, cut for the floors."""
    return prepare(small_source, *FLOOR_CUT, cache_dir=tmp_path_factory.mktemp("beats"))


def test_floors_are_scored_as_trials_are_and_kept(
    floor_beats: BeatSet, small_folds: Folds, tmp_path: Path
) -> None:
    prevalence, logistic = study_floors(floor_beats, small_folds, tmp_path)
    assert (prevalence.label, logistic.label) == (
        "floor: prevalence",
        "floor: logistic regression",
    )
    counts = small_folds.counts(floor_beats)
    share = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    # All beats tie, and average precision is then the share of the class among a fold's beats.
    assert prevalence.metrics[AUPRC_SV] == pytest.approx(share[1:3].mean())
    assert prevalence.metrics["val_auroc_macro"] == 0.5
    assert logistic.metrics[AUPRC_SV] > 2 * prevalence.metrics[AUPRC_SV]

    folder = tmp_path / "floors" / "logistic_regression"
    assert logistic.files == tuple(folder / n for n in (PREDICTIONS, PER_RECORD, SCORES))
    with np.load(folder / PREDICTIONS) as arrays:
        assert arrays["log_probs"].shape == (1, len(floor_beats.label), 4)
    stored = json.loads((folder / SCORES).read_text())
    assert stored["metrics"][AUPRC_SV] == logistic.metrics[AUPRC_SV]
    assert len(stored["per_fold"]) == 2


def test_what_is_kept_is_not_computed_again(
    floor_beats: BeatSet,
    small_folds: Folds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = study_floors(floor_beats, small_folds, tmp_path)
    assert all(floor.seconds > 0 for floor in first)
    calls = []
    fit = floors.out_of_fold

    def counted(name: str, beats: BeatSet, folds: Folds) -> NDArray[np.float32]:
        calls.append(name)
        return fit(name, beats, folds)

    monkeypatch.setattr(floors, "out_of_fold", counted)
    again = study_floors(floor_beats, small_folds, tmp_path)
    assert calls == []
    assert [floor.seconds for floor in again] == [0.0, 0.0]
    for old, new in zip(first, again, strict=True):
        assert new.digest == old.digest
        assert new.metrics == pytest.approx(dict(old.metrics), nan_ok=True)

    other = replace(small_folds, fingerprint="other folds")
    study_floors(replace(floor_beats, fingerprint="other beats"), small_folds, tmp_path)
    study_floors(floor_beats, other, tmp_path)
    assert calls == ["prevalence", "logistic_regression"] * 2


def test_a_floor_that_cannot_be_says_why(
    floor_beats: BeatSet, small_folds: Folds, tmp_path: Path
) -> None:
    label = np.where(floor_beats.label == 3, 0, floor_beats.label)
    prevalence, logistic = study_floors(replace(floor_beats, label=label), small_folds, tmp_path)
    assert prevalence.metrics and not prevalence.missing
    assert logistic.missing == "floor logistic_regression: fold 0: no F beats to train on"
    assert not logistic.metrics and not logistic.files
    assert not (tmp_path / "floors" / "logistic_regression").exists()
