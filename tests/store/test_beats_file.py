"""Labels and records of a study's beats: what cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.errors import StudyStateError
from study.store.beats_file import read_beats
from tests.builders import npz

FEW = {
    "label": np.array([0, 1]),
    "record": np.array([0, 1]),
    "record_names": np.array(["101", "106"]),
    "fold_of_record": np.array([0, 1]),
    "patient_of_record": np.array(["101", "106"]),
}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"label": np.array([0, 4])}, "label: must be in [0, 3], got 0 to 4"),
        ({"label": np.array([0, 1, 2])}, "label and record must both be [N], got (3,) and (2,)"),
        ({"label": np.array([0.0, 1.0])}, "'label' must have 1 dimensions and a type of kind i"),
        ({"record": np.array([0, -1])}, "record: must be in [0, 1], got -1 to 0"),
        ({"fold_of_record": np.array([0, 10**9])}, "fold_of_record: must be in [-1, 1], got ["),
        ({"fold_of_record": np.array(0)}, "'fold_of_record' must have 1 dimensions"),
        ({"record_names": np.array([], dtype="U3")}, "record_names: must name at least one"),
    ],
)
def test_beats_that_do_not_agree_are_refused(
    tmp_path: Path, changed: dict[str, Any], fault: str
) -> None:
    path = tmp_path / "beats.npz"
    path.write_bytes(npz(**{**FEW, **changed}))
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert fault in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; bring it back from a copy")


def test_beats_that_are_damaged_or_gone_are_named(tmp_path: Path) -> None:
    path = tmp_path / "beats.npz"
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert str(caught.value) == f"{path}: is gone; bring it back from a copy"
    path.write_bytes(npz(**FEW)[:-30])
    with pytest.raises(StudyStateError) as caught:
        read_beats(path)
    assert str(caught.value) == (
        f"{path}: is damaged (BadZipFile: File is not a zip file); bring it back from a copy"
    )
