"""Means of beats beside their templates, for a picture: no beat can be told from them.

Shapes: N beats, C classes, T samples (128).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.reference.templates import Windows
from study.keys import CLASSES, MIN_BEATS_OF_RECORD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TemplateMeans:
    """Means under one cut; a class of fewer than `MIN_BEATS_OF_RECORD` beats has none (NaN)."""

    cut: str  # segmentation, resampling and template
    n: NDArray[np.int64]  # [C] beats of all records
    deviation: NDArray[np.float32]  # [C, T] their mean deviation
    spread: NDArray[np.float32]  # [C, T] its standard deviation over beats
    record: str  # the record that is drawn
    n_of_record: NDArray[np.int64]  # [C] its beats
    beat: NDArray[np.float32]  # [C, T] their mean window, mean-free, mV
    template: NDArray[np.float32]  # [T] the mean of their templates, mV


def record_to_draw(beats: BeatSet) -> int:
    """Return the index of the record whose rarer class of S and V has most beats."""
    of_class = beats.counts[:, [CLASSES.index("S"), CLASSES.index("V")]]
    return int(np.lexsort((of_class.sum(axis=1), of_class.min(axis=1)))[-1])


def template_means(
    cut: str,
    beats: BeatSet,
    record: str,
    windows: Windows,
    templates: Windows,
    label: NDArray[np.int64],
) -> TemplateMeans:
    """Return the means of a beat set that has a template, and of one of its records.

    That has mean-free `windows` [n, T], their `templates` [n, T] and `label` [n].
    """
    assert beats.reference is not None
    deviation = beats.reference.deviation
    mean, spread, n = _by_class(deviation, beats.label)
    beat, _, n_of_record = _by_class(windows, label)
    return TemplateMeans(
        cut=cut,
        n=n,
        deviation=mean,
        spread=spread,
        record=record,
        n_of_record=n_of_record,
        beat=beat,
        template=templates.mean(axis=0),
    )


def _by_class(
    windows: Windows, label: NDArray[np.int64]
) -> tuple[Windows, Windows, NDArray[np.int64]]:
    """Return mean and standard deviation of the windows of each class [C, T], and their number."""
    n = np.bincount(label, minlength=len(CLASSES))
    mean, spread = np.full((2, len(CLASSES), windows.shape[1]), np.nan, dtype=np.float32)
    for c in np.flatnonzero(n >= MIN_BEATS_OF_RECORD):
        own = windows[label == c]
        mean[c], spread[c] = own.mean(axis=0), own.std(axis=0)
    return mean, spread, n
