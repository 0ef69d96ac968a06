"""The patient's own beat as reference: templates, and how far each beat is from its template.

A template is a median of a record's beats, made without labels. The beats that make it are those
that fit every window, whatever their class: those that `study.predict` would classify. They are
mean-free, but not scaled one by one. A beat's deviation is

    (beat - template) / sd(template), clipped to +-8,

sample by sample, the sd taken over the template's samples. Its two distances are logarithms of
rms deviations from the template: over the window from R - 0.25 s to R + 0.28 s, and over R - 0.08
s to R + 0.08 s. They use these windows under every segmentation, so that no RR enters through
the cut.

- `record`: the median of all beats of the record. It needs the whole record.
- `trailing`: the median of the 64 beats before this one, or of all where there are fewer. It is
  causal. The record's first beat has none before it and is its own template: its deviation is
  0. Where a gap in the beats or another rhythm lies between, the beats before it still count.
- `learning`: the median of the beats of the first five minutes, counted from the first of these
  beats (the learning period of ANSI/AAMI EC57). Beats of these minutes are compared with it too,
  and scored like all others, so that arms share one list of beats; EC57 leaves them out.

Shapes: F beats of one record that fit every window, N beats of all records, T samples (128).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.config import N_SAMPLES, SAMPLING_RATE_HZ
from study.data.reference.trailing import trailing_median
from study.data.windows import SEGMENTATIONS, Causality, in_samples

Windows = NDArray[np.float32]

LARGEST_DEVIATION = 8.0

SHAPE_CUT = ("beat", "antialiased")
"""Segmentation and resampling of the window that distances are taken over: it hides RR best."""

LEARNING_S = 300.0

QRS_S = 0.08
"""The second distance is over this much before and after R, s."""

_SMALLEST_DISTANCE = 1 / 64


@dataclass(frozen=True, slots=True)
class Template:
    """A way to make templates."""

    # From mean-free windows [F, T] and R peaks [F] of one record in time order to templates [F, T]
    make: Callable[[Windows, NDArray[np.int64]], Windows]
    causality: Causality
    meaning: str  # in words, for plans


def _of_record(windows: Windows, r_peak: NDArray[np.int64]) -> Windows:
    return np.tile(np.median(windows, axis=0), (len(windows), 1))


def _trailing(windows: Windows, r_peak: NDArray[np.int64]) -> Windows:
    return np.concatenate([windows[:1], trailing_median(windows[:-1])])


def _learnt(windows: Windows, r_peak: NDArray[np.int64]) -> Windows:
    learning = r_peak < r_peak[0] + LEARNING_S * SAMPLING_RATE_HZ
    return np.tile(np.median(windows[learning], axis=0), (len(windows), 1))


TEMPLATES: dict[str, Template] = {
    "record": Template(_of_record, Causality.RECORD, "median beat of the record"),
    "trailing": Template(_trailing, Causality.CAUSAL, "median of up to 64 beats before"),
    "learning": Template(_learnt, Causality.LEARNING, "median beat of the first five minutes"),
}
"""Templates by name; `none` is not among them."""


def template_text(name: str) -> str:
    """Say what a template is made of and what it needs, in a line for plans and tables."""
    template = TEMPLATES[name]
    return f"{name}: {template.meaning}, {template.causality}"


def make_templates(
    name: str, windows: Windows, r_peak: NDArray[np.int64], record: NDArray[np.int64]
) -> Windows:
    """Return each beat's template, [N, T], from mean-free windows [N, T] of all records.

    R peaks and records are [N]; beats are in the order of records, and of time within a record.
    """
    templates = np.empty_like(windows)
    for number in np.unique(record):
        own = record == number
        templates[own] = TEMPLATES[name].make(windows[own], r_peak[own])
    return templates


def deviations(windows: Windows, templates: Windows) -> Windows:
    """Return deviations of windows [..., T] from templates [..., T]."""
    sd = templates.std(axis=-1, keepdims=True)
    # A median of beats of opposite signs may be flat.
    sd = np.where(sd > 0, sd, 1.0)
    clipped = np.clip((windows - templates) / sd, -LARGEST_DEVIATION, LARGEST_DEVIATION)
    return np.asarray(clipped, dtype=np.float32)


def distances(deviation: Windows) -> Windows:
    """Return both distances [N, 2] of deviations [N, T] that were cut as `SHAPE_CUT` says."""
    cut = SEGMENTATIONS[SHAPE_CUT[0]]
    # The last sample of a window is the one before its end.
    ends = in_samples(cut.start_s), in_samples(cut.stop_s) - 1
    from_r_s = np.linspace(*ends, N_SAMPLES) / SAMPLING_RATE_HZ
    parts = (deviation, deviation[:, np.abs(from_r_s) <= QRS_S])
    rms = [np.sqrt(np.square(part, dtype=np.float64).mean(axis=1)) for part in parts]
    logs = np.log(np.maximum(np.column_stack(rms), _SMALLEST_DISTANCE))
    return np.asarray(logs, dtype=np.float32)
