"""Whether a trial's files are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from study.errors import StudyStateError
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, SCORES, WEIGHTS, file_fault, read_predictions
from tests.builders import npz, refused

PACKED = npz(log_probs=np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32))
DAMAGED = "{path}/d/predictions.npz is damaged ("


def of_shape(*shape: int) -> bytes:
    return npz(log_probs=np.zeros(shape))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (PACKED[:300] + bytes([PACKED[300] ^ 1]) + PACKED[301:], DAMAGED),
        (of_shape(1, 49, 4), "must hold log_probs of [seeds, 50, 4], got [1, 49"),
        (of_shape(0, 50, 4), "must hold log_probs of [seeds, 50, 4], got [0, 50"),
        (npz(probs=np.zeros((1, 50, 4))), "has no 'log_probs'"),
        (npz(log_probs=np.zeros((1, 50, 4)), gates=np.array("x")), "'gates' must have 2 dim"),
    ],
)
def test_damaged_predictions_and_those_of_something_else_are_refused(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    storage = Storage.at(tmp_path)
    storage.folder("d").write(PREDICTIONS, content)
    said = refused(StudyStateError, read_predictions, storage, "d", n_beats=50)
    assert fault.format(path=tmp_path) in said
    assert said.endswith("; bring it back from a copy, or move it away")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (PREDICTIONS, PACKED, ""),
        (WEIGHTS, None, "is missing"),
        (WEIGHTS, b"no", "is damaged (BadZipFile: File is not a zip file)"),
        (SCORES, b"{", "is damaged (Expecting property name"),
        ("per_record.csv", b"", "is empty"),
    ],
)
def test_each_kind_of_file_is_judged(name: str, content: bytes | None, fault: str) -> None:
    assert file_fault(name, content)[: len(fault) or None] == fault
