"""Floors: simple classifiers that an arm has to beat, scored like trials.

`prevalence` gives every beat the classes' shares of the training beats. `logistic_regression` is
linear in log ratios of RR intervals, in products of these ratios, and in the beat's shape. The
others are linear in the ratios: `logistic_ratios` alone, `logistic_ratios_distances` with two
distances of the beat from its record's median beat, `logistic_ratios_deviation` with its deviation
from that. All use the trials' folds and beats. A regression has the class weights and the logit
adjustment of a trial with default settings. An epoch of such a trial shows only some normal beats;
in a regression all normal beats count, with a lower weight.

Some ratios look one beat ahead or need the whole record, as `published7` does; the median beat
needs the whole record too. The shape is cut from R - 0.25 s to R + 0.28 s in every study, so that
RR enters through the ratios alone.

Shapes: N and M beats, F features, C classes, R ratios, P partitions into folds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import TrainConfig, cut_text, digest_of
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.reference.templates import SHAPE_CUT
from study.errors import DataError, DivergedError
from study.keys import CLASSES, FLOORS
from study.training.results import TrialResult

_FORM = 3
"""Version of the computation: raise it when it changes, and stored floors are computed anew."""

FLOOR_CUT = (*SHAPE_CUT, "record")
"""Segmentation, resampling and template of the shape: the window that hides RR best."""

SHAPE_POINTS = 32
"""Points of the shape, each the mean of a few samples."""

L2_STRENGTH = 1.0

_DEFAULTS = TrainConfig()

SETTINGS = {
    "class_weights": _DEFAULTS.class_weights,
    "normal_beats_per_epoch": _DEFAULTS.normal_beats_per_epoch,
    "logit_adjustment": _DEFAULTS.logit_adjustment,
    "segmentation": FLOOR_CUT[0],
    "shape_points": SHAPE_POINTS,
    "l2_strength": L2_STRENGTH,
}
"""How floors are made, for a tracker to show."""

_MAX_ITERATIONS = 1000

Float = NDArray[np.float64]

Predictor = Callable[[Float], Float]
"""From features [M, F] to log-probabilities [M, C]."""


def features(name: str, beats: BeatSet) -> Float:
    """Return the features of all beats, cut as `FLOOR_CUT` says, for a floor of `FLOORS`, [N, F].

    Raises:
        DataError: If they are cut in another way.
    """
    reference = beats.reference
    if beats.cut != FLOOR_CUT or reference is None:
        raise DataError(
            f"floors: need beats cut as {cut_text(FLOOR_CUT)}, got {cut_text(beats.cut)}"
        )
    ratios = beats.rr["log8"].astype(np.float64)
    beside: list[NDArray[Any]] = []
    if name == "logistic_regression":
        first, second = np.triu_indices(ratios.shape[1])
        beside = [ratios[:, first] * ratios[:, second], _points(beats.ecg)]
    elif name == "logistic_ratios_distances":
        beside = [reference.distances]
    elif name == "logistic_ratios_deviation":
        beside = [_points(reference.deviation)]
    return np.concatenate([ratios, *beside], axis=1)


def _points(windows: NDArray[np.float32]) -> Float:
    """Average windows [N, T] to [N, SHAPE_POINTS]."""
    points = windows.reshape(len(windows), SHAPE_POINTS, -1).mean(axis=2, dtype=np.float64)
    return np.asarray(points)


def beat_weights(label: NDArray[np.int64]) -> Float:
    """Return the weight of a beat of each class, [C], from all labels [N] of a data set."""
    from study.training.losses import class_weights, times_shown  # needs torch

    normal_beats = _DEFAULTS.normal_beats_per_epoch
    weights = class_weights(label, _DEFAULTS.class_weights, normal_beats=normal_beats)
    return weights * times_shown(label, normal_beats=normal_beats)


def prevalence(x: Float, label: NDArray[np.int64], weights: Float) -> Predictor:
    """Return a predictor that gives every beat the classes' shares; arguments as for `FITS`."""
    counts = np.bincount(label, minlength=len(CLASSES))
    log_probs = np.log(np.maximum(counts, 0.5) / counts.sum())
    return lambda others: np.tile(log_probs, (len(others), 1))


def logistic_regression(x: Float, label: NDArray[np.int64], weights: Float) -> Predictor:
    """Fit a multinomial regression with an L2 penalty; arguments as for `FITS`.

    Its probabilities have the shares that classes have among the training beats. A class without
    beats to train on gets the probability of half a beat.

    Raises:
        DivergedError: If it does not converge.
    """
    # Imported here: most readers of floors fit none.
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    from study.training.losses import logit_adjustment

    if len(np.unique(label)) == 1:
        return prevalence(x, label, weights)
    mean, sd = x.mean(axis=0), x.std(axis=0)
    sd[sd == 0] = 1.0
    by_class = {c: float(weight) for c, weight in enumerate(weights)}

    def standardised(features: Float) -> NDArray[np.float32]:
        return np.asarray((features - mean) / sd, dtype=np.float32)  # twice as fast

    # The problem is convex: where Newton's method fails, the other solver finds the same minimum.
    for solver in ("newton-cholesky", "lbfgs"):
        model = LogisticRegression(
            C=1 / L2_STRENGTH, class_weight=by_class, solver=solver, max_iter=_MAX_ITERATIONS
        )
        try:
            # On a busy machine several threads of a BLAS wait for each other most of the time.
            with threadpool_limits(1), warnings.catch_warnings():
                for category in (ConvergenceWarning, LinAlgWarning):
                    warnings.simplefilter("error", category)
                model.fit(standardised(x), label)
        except (ConvergenceWarning, LinAlgWarning):
            continue
        shift = logit_adjustment(weights)
        return lambda others: _log_probs(model, standardised(others), shift, len(label))
    raise DivergedError(f"no convergence within {_MAX_ITERATIONS} iterations")


def _log_probs(
    model: Any, x: NDArray[np.float32], shift: NDArray[np.float32], n_trained_on: int
) -> Float:
    """Return a fitted regression's log-probabilities [M, C] from standardised features [M, F].

    `shift` [C] is added to the logits.
    """
    from scipy.special import log_softmax

    # Not `predict_log_proba`: where a probability underflows, its logarithm is infinite.
    logits = model.decision_function(x)
    if logits.ndim == 1:  # of two classes, the second against the first
        logits = np.column_stack([np.zeros_like(logits), logits])
    log_probs = np.full((len(x), len(CLASSES)), math.log(0.5 / n_trained_on))
    log_probs[:, model.classes_] = log_softmax(logits + shift[model.classes_], axis=1)
    return log_probs


FITS: dict[str, Callable[[Float, NDArray[np.int64], Float], Predictor]] = {
    **dict.fromkeys(FLOORS, logistic_regression),
    "prevalence": prevalence,
}
"""Functions that fit a floor: features [N, F], labels [N], `beat_weights` [C] to a `Predictor`."""


def out_of_fold(name: str, beats: BeatSet, folds: Folds) -> NDArray[np.float32]:
    """Return log-probabilities [P, N, C] of every beat from the folds that train without it.

    They are NaN for a beat in no validation fold. Beats are cut as `FLOOR_CUT` says.

    Raises:
        DivergedError: If a fit does not converge.
    """
    x, weights = features(name, beats), beat_weights(beats.label)
    log_probs = np.full((folds.n_partitions, len(x), len(CLASSES)), np.nan, dtype=np.float32)
    for number, (training, validation) in enumerate(folds.splits(beats)):
        partition, fold = divmod(number, len(folds))
        try:
            fitted = FITS[name](x[training], beats.label[training], weights)
        except DivergedError as error:
            where = f"fold {fold} of partition {partition}"
            raise DivergedError(f"floor {name}: {where}: {error}") from error
        log_probs[partition, validation] = fitted(x[validation])
    return log_probs


def fit(name: str, training: BeatSet) -> Callable[[BeatSet], NDArray[np.float32]]:
    """Fit a floor on a whole data set; return a predictor of log-probabilities [1, M, C].

    Beats to train on and to predict are cut as `FLOOR_CUT` says.

    Raises:
        DivergedError: If the fit does not converge.
    """
    fitted = FITS[name](features(name, training), training.label, beat_weights(training.label))
    return lambda others: fitted(features(name, others))[None].astype(np.float32)


def scored(name: str, beats: BeatSet, folds: Folds) -> TrialResult:
    """Return a floor's out-of-fold predictions, scored as a trial's are; see `out_of_fold`."""
    from study.training.scores import score

    log_probs = out_of_fold(name, beats, folds)
    scores = score(
        log_probs,
        beats.label,
        beats.record,
        folds.of_beats(beats),
        record_names=beats.record_names,
        databases=beats.databases,
    )
    return TrialResult.without_networks(log_probs, scores)


def identity(name: str, beats: BeatSet, folds: Folds) -> str:
    """Return the digest of what a floor's predictions are computed from, and how."""
    return digest_of([name, _FORM, SETTINGS, beats.fingerprint, folds.fingerprint])
