"""Labels and records of a study's beats: what cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.errors import StudyStateError
from study.store.beats_file import read_beats
from tests.builders import npz, refused


def beats_file(**changed: Any) -> bytes:
    few: dict[str, Any] = {
        **dict.fromkeys(("label", "record"), np.array([0, 1])),
        "folds_of_record": np.array([[0, 1]]),
        **dict.fromkeys(("record_names", "patient_of_record"), np.array(["101", "106"])),
    }
    return npz(**few | changed)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "is gone"),
        (beats_file()[:-30], "is damaged (BadZipFile: File is not a zip file)"),
        (beats_file(label=np.array([0, 4])), "label: must be in [0, 3], got 0 to 4"),
        (beats_file(label=np.arange(3)), "label and record must both be [N], got (3,) and (2,)"),
        (beats_file(record=np.array([0, -1])), "record: must be in [0, 1], got -1 to 0"),
        (beats_file(folds_of_record=np.array([[0, 10**9]])), "folds_of_record: must be in [-1,"),
    ],
)
def test_unusable_beats_are_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "beats.npz"
    if content is not None:
        path.write_bytes(content)
    said = refused(StudyStateError, read_beats, path)
    assert said.startswith(f"{path}: ") and fault in said
    assert said.endswith("; bring it back from a copy")
