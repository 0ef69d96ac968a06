"""Labels and records of all beats, once per study: what every trial's predictions refer to."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import ArchiveError, ComparisonError, StudyStateError
from study.files import read_arrays, write_whole
from study.statistics.predictions import Beats

_ARRAYS = {
    **{"label": ("i", 1), "record": ("i", 1)},
    **{"record_names": ("U", 1), "fold_of_record": ("i", 1)},
}


def write_beats(path: Path, beats: BeatSet, folds: Folds, patient_of: Mapping[str, str]) -> None:
    """Write a study's `beats.npz`.

    Args:
        path: The file.
        beats: One of the study's beat sets: labels and records are the same in all.
        folds: Its folds; a record that none validates on has fold -1.
        patient_of: Patient of each record that is not one of its own.
    """
    fold_of = {name: fold for fold, names in enumerate(folds.validation) for name in names}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        label=beats.label,
        record=beats.record,
        record_names=np.asarray(beats.record_names),
        r_peak_sample=beats.r_peak_sample,
        fold_of_record=np.asarray([fold_of.get(name, -1) for name in beats.record_names]),
        patient_of_record=np.asarray([patient_of.get(name, name) for name in beats.record_names]),
    )
    write_whole(path, buffer.getvalue())


def read_beats(path: Path) -> Beats:
    """Return the beats that every trial of a study predicts, from its `beats.npz`.

    Raises:
        StudyStateError: If the file is gone or damaged, or what it holds does not agree.
    """
    try:
        arrays = read_arrays(path.read_bytes(), _ARRAYS, {"patient_of_record": ("U", 1)})
        return Beats(
            label=arrays["label"],
            record=arrays["record"],
            record_names=_texts(arrays["record_names"]),
            patient_of_record=_texts(arrays.get("patient_of_record", arrays["record_names"])),
            fold_of_record=tuple(map(int, arrays["fold_of_record"])),
        )
    except FileNotFoundError:
        raise StudyStateError(f"{path}: is gone; bring it back from a copy") from None
    except (ArchiveError, ComparisonError) as error:
        raise StudyStateError(f"{path}: {error}; bring it back from a copy") from error


def _texts(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, array))
