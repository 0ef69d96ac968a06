"""Labels and records of a study's beats: what cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from study.errors import StudyStateError
from study.store.beats_file import read_beats
from tests.builders import bare_beats, refused, stored_beats


def test_unusable_beats_are_refused(tmp_path: Path) -> None:
    path, beats = tmp_path / "beats.npz", bare_beats([[1, 1, 0, 0]] * 2)
    assert "is gone" in refused(StudyStateError, read_beats, path)
    mislabelled = bare_beats([[1, 1, 0, 0]] * 2, label=np.array([0, 4, 0, 1]))
    unknown = bare_beats([[1, 1, 0, 0]] * 2, record=np.array([0, 0, 1, -1]))
    for content, fault in (
        (stored_beats(beats)[:-30], "is damaged (BadZipFile: File is not a zip file)"),
        (stored_beats(mislabelled), "label: must be in [0, 3], got 0 to 4"),
        (stored_beats(unknown), "record: must be in [0, 1], got -1 to 1"),
    ):
        path.write_bytes(content)
        said = refused(StudyStateError, read_beats, path)
        assert said.startswith(f"{path}: ") and fault in said
        assert "; bring it back from a copy; the study" in said
