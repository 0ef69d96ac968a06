"""Beats with their labels and records, and what can be scored, for data, training and statistics.

This module exists because statistics must not import the others (docs/architecture.md).

Shapes: N beats, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.keys import CLASSES, MIN_CLASS_BEATS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledBeats:
    """Beats in record and time order."""

    label: NDArray[np.int64]  # [N] index into `CLASSES`
    record: NDArray[np.int64]  # [N] index into `record_names`
    record_names: tuple[str, ...]  # names of the records

    @property
    def counts(self) -> NDArray[np.int64]:
        """Beats per record and class, [records, C]."""
        shape = len(self.record_names), len(CLASSES)
        cells = np.bincount(self.record * shape[1] + self.label, minlength=shape[0] * shape[1])
        return cells.reshape(shape)


def scorable(
    counts: NDArray[np.int64] | NDArray[np.float64], least: int = MIN_CLASS_BEATS
) -> NDArray[np.bool_]:
    """Return which classes can be scored, from counts of beats [..., C].

    A class needs at least `least` beats, and beats of other classes beside it.
    """
    return np.asarray(
        (counts >= least) & (counts < counts.sum(axis=-1, keepdims=True)), dtype=bool
    )


def counts_of_patients(
    record_names: Sequence[str], counts: NDArray[np.int64], patients: Mapping[str, str]
) -> NDArray[np.int64]:
    """Return beats by patient and class [patients, C], from those of records [records, C]."""
    unit = np.unique([patients[name] for name in record_names], return_inverse=True)[1]
    of_patients = np.zeros((int(unit.max()) + 1, counts.shape[1]), dtype=np.int64)
    np.add.at(of_patients, unit, counts)
    return of_patients


def effective_patients(weights: Sequence[float]) -> float:
    """Return (sum w)^2 / sum w^2, the number of equal patients that weigh as much as these.

    Kish 1965, Survey Sampling, 11.7.
    """
    w = np.asarray(weights, dtype=np.float64)
    return float(w.sum() ** 2 / np.sum(w**2)) if w.any() else 0.0


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Return part / whole; NaN, the value of an undefined score, where whole is 0."""
    quotient = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan)
    np.divide(part, whole, out=quotient, where=np.greater(whole, 0))
    return quotient


def mean_of_defined(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the mean over an axis of the values that are defined; NaN where none is."""
    return ratio(np.nansum(values, axis=axis), np.isfinite(values).sum(axis=axis))
