"""The floors of a study: scored as trials are, and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.keys import AUPRC_SV
from study.store.floors import study_floors
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES
from study.training import floors


def test_floors_are_scored_as_trials_are_and_kept(
    floor_beats: BeatSet, small_folds: Folds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = mock.Mock(wraps=floors.out_of_fold)
    monkeypatch.setattr(floors, "out_of_fold", fits)
    cache = tmp_path / "cache"
    prevalence, logistic, *others = study_floors(floor_beats, small_folds, tmp_path, cache)
    assert fits.call_count == 5 and prevalence.seconds > 0 and logistic.seconds > 0
    (counts,) = small_folds.counts(floor_beats)
    share = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    # All beats tie, and average precision is then the share of the class among a fold's beats.
    assert prevalence.metrics[AUPRC_SV] == pytest.approx(share[1:3].mean())
    assert prevalence.metrics["val_auroc_macro"] == 0.5
    assert logistic.metrics[AUPRC_SV] > 2 * prevalence.metrics[AUPRC_SV]

    folder = tmp_path / "floors" / "logistic_regression"
    assert logistic.files == tuple(folder / n for n in (PREDICTIONS, PER_RECORD, SCORES))
    stored = json.loads((folder / SCORES).read_text())
    assert stored["metrics"][AUPRC_SV] == logistic.metrics[AUPRC_SV]

    again = study_floors(floor_beats, small_folds, tmp_path, tmp_path / "another cache")
    study_floors(floor_beats, small_folds, tmp_path / "another study", cache)
    assert all(floor.metrics[AUPRC_SV] > prevalence.metrics[AUPRC_SV] for floor in others)
    assert fits.call_count == 5, "what is kept, or cached, is not computed again"
    digests = [floor.digest for floor in (prevalence, logistic, *others)]
    assert [floor.digest for floor in again] == digests and len({*digests}) == 5
    assert again[1].metrics == pytest.approx(dict(logistic.metrics), nan_ok=True)
    study_floors(replace(floor_beats, fingerprint="other beats"), small_folds, tmp_path, cache)
    study_floors(floor_beats, replace(small_folds, fingerprint="other folds"), tmp_path, cache)
    monkeypatch.setitem(floors.SETTINGS, "l2_strength", 2.0)
    study_floors(floor_beats, small_folds, tmp_path, cache)
    assert fits.call_count == 20


def test_a_floor_that_cannot_be_says_why(
    floor_beats: BeatSet, small_folds: Folds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "_MAX_ITERATIONS", 1)
    prevalence, logistic, *_ = study_floors(floor_beats, small_folds, tmp_path, tmp_path / "cache")
    assert prevalence.metrics and not prevalence.missing
    assert logistic.missing.endswith(
        "regression: fold 0 of partition 0: no convergence within 1 iterations"
    )
    assert not logistic.metrics and not logistic.files
    assert not (tmp_path / "floors" / "logistic_regression").exists()
