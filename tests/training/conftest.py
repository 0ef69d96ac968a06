"""A small beat set whose classes can be told by shape and by RR, in three folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.config import N_SAMPLES
from study.data.beat_set import BeatSet, Reliance
from study.data.folds import Folds
from study.data.rr import reliance_sample

_RECORDS = tuple("abcdef")
_BEATS_PER_RECORD = np.array([22, 6, 7, 5])  # N, S, V, F


@pytest.fixture(scope="session")
def tiny_beats() -> BeatSet:
    """240 beats of 6 records; RR of class c is around c, the shape a sine of frequency c + 1."""
    rng = np.random.default_rng(0)
    label = np.concatenate(
        [rng.permutation(np.repeat(np.arange(4), _BEATS_PER_RECORD)) for _ in _RECORDS]
    )
    record = np.repeat(np.arange(len(_RECORDS)), _BEATS_PER_RECORD.sum())
    time = np.linspace(0, 2 * np.pi, N_SAMPLES)
    ecg = np.sin((label[:, None] + 1) * time) + rng.normal(size=(len(label), N_SAMPLES))

    def rr(n_features: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        values = label[:, None] + 0.3 * rng.normal(size=(len(label), n_features))
        return values.astype(np.float32)

    beats, donors = reliance_sample(record, label, 0)
    donors = donors[:2]  # for speed
    windows = ecg[beats] + rng.normal(size=(len(donors), len(beats), N_SAMPLES))
    return BeatSet(
        dataset="DS1",
        source="synthetic",
        segmentation="daeac",
        resampling="linear",
        record_names=_RECORDS,
        record=record,
        r_peak_sample=300 * np.arange(len(label)),
        label=label,
        ecg=ecg.astype(np.float32),
        rr={"seed7": rr(7), "causal": rr(6), "ratio2_so_far": rr(2), "ratio2_record": rr(2)},
        reliance=Reliance(beats=beats, donors=donors, windows=windows.astype(np.float32)),
        dropped={},
        fingerprint="tiny",
    )


@pytest.fixture(scope="session")
def tiny_folds() -> Folds:
    """Three folds of two records each."""
    return Folds(name="tiny", validation=(("a", "b"), ("c", "d"), ("e", "f")), fingerprint="abc")


@pytest.fixture(scope="session")
def few_beats(tiny_beats: BeatSet) -> BeatSet:
    """The first three records of these: for what shows in a few steps. Its sample is not cut."""
    of_three = tiny_beats.record < 3
    return replace(
        tiny_beats,
        record_names=_RECORDS[:3],
        record=tiny_beats.record[of_three],
        r_peak_sample=tiny_beats.r_peak_sample[of_three],
        label=tiny_beats.label[of_three],
        ecg=tiny_beats.ecg[of_three],
        rr={name: rows[of_three] for name, rows in tiny_beats.rr.items()},
        fingerprint="few",
    )


@pytest.fixture(scope="session")
def few_folds() -> Folds:
    """Three folds of one record each."""
    return Folds(name="few", validation=(("a",), ("b",), ("c",)), fingerprint="abc")
