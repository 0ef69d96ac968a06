"""The decision thresholds of each arm, fixed before a test set is opened, and their use.

They come from out-of-fold predictions: no model predicted a beat that it was trained on. A
threshold belongs to one class against all others: a beat is called S if its probability of S
reaches the threshold of S, whatever its other probabilities are.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.files import to_json
from study.keys import CLASSES
from study.models import rules
from study.sealed.plan import Arm
from study.store.beats_file import read_beats
from study.store.folder import BEATS
from study.store.study import Places
from study.store.trial_files import read_predictions
from study.training.metrics import DECISIONS, threshold_counts

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds:
    """The decision thresholds of one arm."""

    single: NDArray[np.float64]  # [C] for single models: seeds taken together
    ensemble: NDArray[np.float64]  # [C] for the mean probability of all seeds
    source: str  # origin of the predictions, for tables

    def as_json(self) -> dict[str, object]:
        """Return them by class, for JSON."""
        return {
            "single": to_json(dict(zip(CLASSES, self.single, strict=True))),
            "ensemble": to_json(dict(zip(CLASSES, self.ensemble, strict=True))),
            "source": self.source,
        }


def thresholds_from(
    log_probs: NDArray[np.float32], label: NDArray[np.int64], source: str
) -> Thresholds:
    """Choose an arm's thresholds from log-probabilities [S, N, C]; beats in no fold are NaN."""
    held_out = np.isfinite(log_probs).all(axis=(0, 2))
    log_probs, label = log_probs[:, held_out], label[held_out]
    return Thresholds(
        single=best_f1_thresholds(log_probs, label),
        ensemble=best_f1_thresholds(ensemble_of(log_probs), label),
        source=source,
    )


def ensemble_of(log_probs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logarithm of the mean probability over seeds, [1, N, C]."""
    mean: NDArray[np.float64] = np.exp(log_probs.astype(np.float64)).mean(axis=0, keepdims=True)
    # A class to which every model gives probability 0 must still be ranked.
    return np.log(np.maximum(mean, np.finfo(np.float64).tiny))


def stored_predictions(places: Places, arm: Arm, beats: BeatSet) -> NDArray[np.float32] | None:
    """Return a study's out-of-fold predictions of an arm, [S, N, C].

    None where it has none of exactly its configuration, or only predictions of other beats than
    these, the present beats of the records that train.

    Raises:
        StudyStateError: If its beats or these predictions are damaged.
    """
    file = places.folder / BEATS
    if not file.exists():
        return None
    stored = read_beats(file)
    same = (
        stored.record_names == beats.record_names
        and np.array_equal(stored.label, beats.label)
        and np.array_equal(stored.record, beats.record)
    )
    if not same:
        return None
    arrays = read_predictions(places.files, rules.digest(arm.config), n_beats=len(beats.label))
    return None if arrays is None else arrays["log_probs"]


def best_f1_thresholds(log_probs: NDArray[np.floating], label: NDArray[np.int64]) -> Float:
    """Return the probability [C] at which F1 of each class is highest, seeds taken together.

    The log-probabilities [S, N, C] must be of beats that their models did not train on. A
    threshold lies halfway to the next lower probability; a class without beats, or without
    others, has NaN.
    """
    probs = np.exp(log_probs.astype(np.float64))
    thresholds = np.full(len(CLASSES), np.nan)
    for c in range(len(CLASSES)):
        positive = np.tile(label == c, len(probs))
        if positive.any() and not positive.all():
            thresholds[c] = _best(probs[:, :, c].ravel(), positive)
    return thresholds


def _best(score: Float, positive: NDArray[np.bool_]) -> float:
    true, false = threshold_counts(score, positive)
    best = int(np.argmax(2 * true / (true + false + positive.sum())))
    # Halfway, so that rounding does not decide about the beat at the threshold.
    levels = np.unique(score)[::-1]
    return float(levels[best : best + 2].mean())


def decisions_at(
    log_probs: NDArray[np.floating], label: NDArray[np.int64], thresholds: Float
) -> dict[str, Float]:
    """Return every metric of `DECISIONS` at given thresholds, [S, C]; NaN where undefined.

    Thresholds [C] are probabilities, chosen on other predictions than these [S, N, C].
    """
    called = np.exp(log_probs.astype(np.float64)) >= thresholds
    positive = label[:, None] == np.arange(len(CLASSES))
    # Rows: others, the class; columns: not called, called.
    confusion = np.stack(
        [
            np.stack([(rows & ~called).sum(axis=1), (rows & called).sum(axis=1)], axis=-1)
            for rows in (~positive, positive)
        ],
        axis=-2,
    )
    undefined = np.isnan(thresholds)
    decisions = {}
    for name, metric in DECISIONS.items():
        values = metric(confusion)[..., 1]
        decisions[name] = np.where(undefined, np.nan, values)
    return decisions
