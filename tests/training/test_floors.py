"""The floors: what they are fitted on, and that a fold is predicted by the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import DataError
from study.keys import CLASSES
from study.training.floors import FITS, beat_weights, features, out_of_fold

V = CLASSES.index("V")


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
