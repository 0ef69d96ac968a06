"""Whether a trial's files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.errors import StudyStateError
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, SCORES, WEIGHTS, file_fault, read_predictions
from tests.builders import npz

PACKED = npz(log_probs=np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32))


def test_whole_predictions_are_read_and_absent_ones_are_none(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    assert read_predictions(storage, "d", n_beats=50) is None
    storage.folder("d").write(PREDICTIONS, PACKED)
    arrays = read_predictions(storage, "d", n_beats=50)
    assert arrays is not None
    assert arrays["log_probs"].shape == (2, 50, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:],
    ],
    ids=["truncated", "altered"],
)
def test_damaged_predictions_are_refused_by_name(tmp_path: Path, damage: Any) -> None:
    storage = Storage.at(tmp_path)
    storage.folder("d").write(PREDICTIONS, damage(PACKED))
    with pytest.raises(StudyStateError) as caught:
        read_predictions(storage, "d", n_beats=50)
    assert str(caught.value).startswith(f"{tmp_path}/d/predictions.npz is damaged (")
    assert str(caught.value).endswith("; bring it back from a copy, or move it away")


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"log_probs": np.zeros((1, 49, 4))}, "must hold log_probs of [seeds, 50, 4], got [1, 49"),
        ({"log_probs": np.zeros((1, 50, 3))}, "must hold log_probs of [seeds, 50, 4], got [1, 50"),
        ({"log_probs": np.zeros((0, 50, 4))}, "must hold log_probs of [seeds, 50, 4], got [0, 50"),
        ({"log_probs": np.zeros(4)}, "'log_probs' must have 3 dimensions"),
        ({"probs": np.zeros((1, 50, 4))}, "has no 'log_probs'"),
        ({"log_probs": np.zeros((1, 50, 4)), "gates": np.array("x")}, "'gates' must have 2 dim"),
    ],
)
def test_predictions_of_something_else_are_refused(
    tmp_path: Path, arrays: dict[str, Any], fault: str
) -> None:
    storage = Storage.at(tmp_path)
    storage.folder("d").write(PREDICTIONS, npz(**arrays))
    with pytest.raises(StudyStateError) as caught:
        read_predictions(storage, "d", n_beats=50)
    assert fault in str(caught.value)


def test_each_kind_of_file_is_judged() -> None:
    assert file_fault(PREDICTIONS, PACKED) == ""
    assert file_fault(WEIGHTS, None) == "is missing"
    assert file_fault(WEIGHTS, b"no") == ("is damaged (BadZipFile: File is not a zip file)")
    assert file_fault(SCORES, b"{}") == ""
    assert file_fault(SCORES, b"{").startswith("is damaged (Expecting property name")
    assert file_fault("per_record.csv", b"") == "is empty"
