"""The tables of ANSI/AAMI EC57 for ventricular and supraventricular ectopic beats (VEB, SVEB).

As in section 3.5 of EC57:1998 and in PhysioNet's `bxb` (Moody, https://physionet.org/content/wfdb),
a VEB is a beat of class V and an SVEB one of class S, and calling an F beat V is neither right nor
wrong. The gross statistics take all beats of all records together; the average ones are the mean
over the records in which the statistic is defined. `bxb` has no false positive rate of SVEB and no
accuracy; here they are those of de Chazal et al. 2004 (doi:10.1109/TBME.2004.827359).

What differs from `bxb` is what is counted: Q beats are left out of the study altogether, records
are taken from their start, without a learning period of 5 minutes, and escape beats (e, j, n) are
N, not S (`study.sealed.bxb` counts them so).

Shapes: S seeds, G records, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.beats import mean_of_defined, ratio
from study.keys import CLASSES

Counts = NDArray[np.int64]
Float = NDArray[np.float64]

ECTOPIC = {"SVEB": "S", "VEB": "V"}
"""Beat types of the tables, and their classes."""

STATISTICS = {"se": "Se", "ppv": "+P", "fpr": "FPR", "accuracy": "accuracy"}
"""Columns of the tables, and their headings."""

_NOT_PENALISED = {"SVEB": (), "VEB": ("F",)}
"""Classes whose beats may be called so without a fault."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detection:
    """Right and wrong detections of one beat type."""

    true_positive: Counts  # [...] beats of the type that were called so
    false_negative: Counts  # [...] beats of the type that were called otherwise
    false_positive: Counts  # [...] other beats that were called so, unless that is not penalised
    true_negative: Counts  # [...] other beats that were called otherwise

    def statistics(self) -> dict[str, Float]:
        """Return Se, +P, FPR and accuracy, [...] each; NaN where there is nothing to divide by."""
        right = self.true_positive + self.true_negative
        wrong = self.false_positive + self.false_negative
        return {
            "se": ratio(self.true_positive, self.true_positive + self.false_negative),
            "ppv": ratio(self.true_positive, self.true_positive + self.false_positive),
            "fpr": ratio(self.false_positive, self.false_positive + self.true_negative),
            "accuracy": ratio(right, right + wrong),
        }


def detection(confusion: Counts, beat_type: str) -> Detection:
    """Return the detections of a beat type from confusion matrices [..., C, C], true by called."""
    of_type = CLASSES.index(ECTOPIC[beat_type])
    true_positive = confusion[..., of_type, of_type]
    missed = confusion[..., of_type, :].sum(axis=-1) - true_positive
    called = confusion[..., :, of_type].sum(axis=-1) - true_positive
    others = confusion.sum(axis=(-2, -1)) - true_positive - missed
    excused = [confusion[..., CLASSES.index(c), of_type] for c in _NOT_PENALISED[beat_type]]
    return Detection(
        true_positive=true_positive,
        false_negative=missed,
        false_positive=called - sum(excused, np.zeros_like(called)),
        true_negative=others - called,
    )


def gross_and_average(confusion: Counts) -> dict[str, Mapping[str, Mapping[str, Float]]]:
    """Return the statistics by beat type, `gross` and `average`, and name; [S] each.

    Confusion matrices are [S, G, C, C], of every seed and record.
    """
    tables: dict[str, Mapping[str, Mapping[str, Float]]] = {}
    for beat_type in ECTOPIC:
        by_record = detection(confusion, beat_type).statistics()
        tables[beat_type] = {
            "gross": detection(confusion.sum(axis=1), beat_type).statistics(),
            # Over the records that have a value.
            "average": {name: mean_of_defined(of, axis=1) for name, of in by_record.items()},
        }
    return tables
