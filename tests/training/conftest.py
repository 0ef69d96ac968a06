"""A small beat set whose classes can be told by shape and by RR, in three folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.config import N_SAMPLES
from study.data.beat_set import BeatSet, Reference, Reliance
from study.data.folds import Folds
from study.data.rr import reliance_sample
from tests.builders import bare_beats

TEMPLATED = {"template": "record", "morphology": "both", "late_shape": "distances"}
"""What a configuration may take from the template of `beside_template`."""

_BEATS_PER_RECORD = (22, 6, 7, 5)  # N, S, V, F


def _beats_of(record_names: str) -> BeatSet:
    """40 beats a record; RR of class c is around c, the shape a sine of frequency c + 1."""
    rng = np.random.default_rng(0)
    bare = bare_beats([_BEATS_PER_RECORD] * len(record_names), record_names)
    label = rng.permuted(bare.label.reshape(len(record_names), -1), axis=1).ravel()
    time = np.linspace(0, 2 * np.pi, N_SAMPLES)
    ecg = np.sin((label[:, None] + 1) * time) + rng.normal(size=(len(label), N_SAMPLES))

    def rr(n_features: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        values = label[:, None] + 0.3 * rng.normal(size=(len(label), n_features))
        return values.astype(np.float32)

    beats, donors = reliance_sample(bare.record, label, 0)
    donors = donors[:2]  # for speed
    windows = ecg[beats] + rng.normal(size=(len(donors), len(beats), N_SAMPLES))
    return replace(
        bare,
        label=label,
        ecg=ecg.astype(np.float32),
        rr={"published7": rr(7), "causal": rr(6), "ratio2_so_far": rr(2), "ratio2_record": rr(2)},
        reliance=Reliance(beats=beats, donors=donors, windows=windows.astype(np.float32)),
        fingerprint="tiny",
    )


def beside_template(beats: BeatSet) -> BeatSet:
    """Return beats with deviations from a template, which tell the classes too."""
    rng = np.random.default_rng(1)
    windows = beats.reliance.windows
    return replace(
        beats,
        reference=Reference(
            template="record",
            deviation=beats.ecg + rng.normal(size=beats.ecg.shape).astype(np.float32),
            distances=rng.normal(size=(len(beats.label), 2)).astype(np.float32),
            recut=None if windows is None else windows[..., ::-1].copy(),
        ),
    )


@pytest.fixture(scope="session")
def tiny_beats() -> BeatSet:
    """240 beats of 6 records."""
    return _beats_of("abcdef")


@pytest.fixture(scope="session")
def tiny_folds() -> Folds:
    return Folds(name="tiny", validation=(("a", "b"), ("c", "d"), ("e", "f")), fingerprint="abc")


@pytest.fixture(scope="session")
def few_beats() -> BeatSet:
    """120 beats of 3 records: for what shows in a few steps."""
    return _beats_of("abc")


@pytest.fixture(scope="session")
def few_folds() -> Folds:
    return Folds(name="few", validation=(("a",), ("b",), ("c",)), fingerprint="abc")
