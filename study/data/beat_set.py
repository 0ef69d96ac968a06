"""The arrays that everything after data preparation works on.

Shapes: N beats, T samples (128), R RR features, P permutations, M sampled beats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.config import SignalSpec
from study.keys import CLASSES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliance:
    """Permuted RR, to measure how much a trained model relies on it (`study.training.reliance`).

    Args:
        beats: [M] indices of the sampled beats: all S, V, F and a fixed sample of N.
        donors: [P, M] index of the beat of the same record whose RR each sampled beat gets.
        windows: [P, M, T] the sampled beats re-cut with their donor's RR; None where the
            window does not depend on RR (every segmentation but daeac).
    """

    beats: NDArray[np.int64]
    donors: NDArray[np.int64]
    windows: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeatSet:
    """All beats of one data set under one segmentation, in record and time order.

    Args:
        dataset: `DS1`, `DS2`, or the name of one's own set.
        source: `mitdb`, `records` (one's own) or `synthetic`.
        segmentation: How windows were cut.
        resampling: How they were brought to 128 samples: `linear` or `antialiased`.
        record_names: Names of the records, sorted.
        record: [N] index into `record_names`.
        r_peak_sample: [N] sample index of the R peak at 360 Hz.
        label: [N] index into `CLASSES`.
        ecg: [N, T] windows, each with zero mean and unit variance.
        rr: RR feature sets by name, each [N, R]: seed7, causal, ratio2_so_far, ratio2_record.
        reliance: Permuted RR for the reliance measurement.
        dropped: Beats left out, by record and reason.
        fingerprint: Digest of source checksums, preparation code version and parameters.
    """

    dataset: str
    source: str
    segmentation: str
    resampling: str
    record_names: tuple[str, ...]
    record: NDArray[np.int64]
    r_peak_sample: NDArray[np.int64]
    label: NDArray[np.int64]
    ecg: NDArray[np.float32]
    rr: Mapping[str, NDArray[np.float32]]
    reliance: Reliance
    dropped: Mapping[str, Mapping[str, int]]
    fingerprint: str

    def early_rr(self, spec: SignalSpec) -> NDArray[np.float32] | None:
        """Return the two early ratios [N, 2] of a configuration, or None without early RR."""
        return self.rr[f"ratio2_{spec.ratio_mean}"] if spec.option.early_rr else None

    def late_rr(self, spec: SignalSpec) -> NDArray[np.float32] | None:
        """Return the late RR vectors [N, R] of a configuration, or None without a late vector."""
        if not spec.option.late_rr:
            return None
        return self.rr[f"ratio2_{spec.ratio_mean}" if spec.late_rr == "ratio2" else spec.late_rr]

    def counts(self) -> NDArray[np.int64]:
        """Return beats per record and class, [records, C]."""
        table = np.zeros((len(self.record_names), len(CLASSES)), dtype=np.int64)
        np.add.at(table, (self.record, self.label), 1)
        return table
