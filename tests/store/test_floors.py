"""The floors: what they are fitted on, that they are scored as trials are, and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.prepare import prepare_all
from study.data.source import Source
from study.errors import DataError
from study.keys import AUPRC_SV, CLASSES
from study.store import floors
from study.store.floors import FITS, FLOOR_CUT, beat_weights, features, out_of_fold, study_floors
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES

V = CLASSES.index("V")


@pytest.fixture(scope="session")
def floor_beats(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """The small records, cut for the floors."""
    cache_dir = tmp_path_factory.mktemp("beats")
    return prepare_all(small_source, [FLOOR_CUT], cache_dir=cache_dir)[FLOOR_CUT]


def test_features_are_bounded_ratios_their_products_and_the_shape(
    floor_beats: BeatSet, small_beats: BeatSet
) -> None:
    x = features("logistic_regression", floor_beats)
    assert x.shape == (len(floor_beats.label), 8 + 36 + 32)
    pre_rr, _, local_rr, ratio = floor_beats.rr["published7"].astype(float)[:, :4].T
    assert x[:, 0] == pytest.approx(np.log(pre_rr / local_rr), abs=1e-6)
    assert x[:, 4] == pytest.approx(np.log(ratio), abs=1e-6), "pre_rr / post_rr"
    assert x[:, 8] == pytest.approx(x[:, 0] ** 2)
    assert x[:, 9] == pytest.approx(x[:, 0] * x[:, 1])
    assert x[:, 44] == pytest.approx(floor_beats.ecg[:, :4].mean(axis=1), abs=1e-6)

    reference = floor_beats.reference
    assert reference is not None
    assert (features("logistic_ratios", floor_beats) == x[:, :8]).all()
    near = features("logistic_ratios_distances", floor_beats)
    assert (near == np.concatenate([x[:, :8], reference.distances], axis=1)).all()
    deviating = features("logistic_ratios_deviation", floor_beats)
    assert deviating[:, 8] == pytest.approx(reference.deviation[:, :4].mean(axis=1), abs=1e-5)
    assert deviating.shape == (len(x), 8 + 32)
    wanted = "need beats cut as beat/antialiased/record, got daeac/linear"
    with pytest.raises(DataError, match=wanted):
        features("logistic_ratios", small_beats)


def test_a_fold_is_predicted_by_other_patients(floor_beats: BeatSet, small_folds: Folds) -> None:
    """Changing one fold's beats changes what the other fold is told, by another model."""
    (_, first), (_, second) = small_folds.splits(floor_beats)
    before = out_of_fold("logistic_regression", floor_beats, small_folds)
    assert np.exp(before).sum(axis=2) == pytest.approx(1.0, abs=1e-5)
    ecg, rr = floor_beats.ecg.copy(), {name: v.copy() for name, v in floor_beats.rr.items()}
    for values in (ecg, *rr.values()):
        values[first] = values[first][::-1]
    swapped = replace(floor_beats, ecg=ecg, rr=rr)
    after = out_of_fold("logistic_regression", swapped, small_folds)
    # The first fold's model never saw its own beats: swapped beats swap their predictions.
    assert np.array_equal(after[:, first[::-1]], before[:, first])
    assert np.abs(after[:, second] - before[:, second]).max() > 1e-3


def test_prevalence_is_the_share_among_training_beats_and_no_beat_without_a_fold_has_one(
    floor_beats: BeatSet, small_folds: Folds
) -> None:
    one = replace(small_folds, validation=small_folds.validation[:1])
    ((training, validation),) = one.splits(floor_beats)
    log_probs = out_of_fold("prevalence", floor_beats, one)[0]
    share = np.bincount(floor_beats.label[training], minlength=4) / len(training)
    assert np.exp(log_probs[validation]) == pytest.approx(np.tile(share, (len(validation), 1)))
    assert np.isnan(np.delete(log_probs, validation, axis=0)).all()


def test_the_regression_is_the_weighted_optimum(floor_beats: BeatSet) -> None:
    """At the optimum the weighted residuals are orthogonal to a penalised model's features.

    The probabilities that it is fitted with are those that it gives, times the weights. For
    weights w, penalty 1/2 |coef|^2 and the unpenalised intercept, the gradient of the
    intercept is the weighted sum of p - y, class by class (Bishop 2006, eq. 4.109): zero.
    """
    x, label = features("logistic_regression", floor_beats), floor_beats.label
    weights = beat_weights(label)
    fitted = FITS["logistic_regression"](x, label, weights)
    seen = np.exp(fitted(x)) * weights
    residual = seen / seen.sum(axis=1, keepdims=True) - np.eye(4)[label]
    weighted = weights[label][:, None] * residual
    assert np.abs(weighted.sum(axis=0)).max() < 1e-3 * weights[label].sum()
    assert (fitted(x).argmax(axis=1) == label).mean() > 0.9


@pytest.mark.parametrize("trained_on", [(0, 2), (0,)])
def test_a_class_that_a_fold_has_not_to_train_on_is_improbable(
    floor_beats: BeatSet, small_folds: Folds, trained_on: tuple[int, ...]
) -> None:
    training, validation = small_folds.splits(floor_beats)[1]
    label = floor_beats.label.copy()
    label[training] = np.where(np.isin(label[training], trained_on), label[training], 0)
    beats = replace(floor_beats, label=label)
    probabilities = np.exp(out_of_fold("logistic_regression", beats, small_folds)[0, validation])
    absent = [c for c in range(4) if c not in trained_on]
    assert probabilities[:, absent] == pytest.approx(0.5 / len(training))
    assert probabilities[:, list(trained_on)].sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    if len(trained_on) > 1:
        right = (probabilities[:, V] > 0.5) == (floor_beats.label[validation] == V)
        assert right.mean() > 0.9


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
