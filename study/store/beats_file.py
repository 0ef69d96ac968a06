"""The beats that a study's trials predict, and counts of excluded beats.

Each study writes both once, into its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.reference.means import TemplateMeans
from study.data.windows import DROP_REASONS
from study.errors import ArchiveError, ComparisonError, StudyStateError
from study.files import pack_arrays, read_arrays, write_whole
from study.statistics.predictions import Beats

EXCLUSIONS = "exclusions.json"
"""File with the number of beats that no arm of a study sees, by reason."""

TEMPLATE_MEANS = "template_means.npz"
"""File with means of beats and of their templates, for the page."""

_MEANS = {
    "cut": ("U", 1),
    "n": ("i", 2),
    "deviation": ("f", 3),
    "spread": ("f", 3),
    "record": ("U", 1),
    "n_of_record": ("i", 2),
    "beat": ("f", 3),
    "template": ("f", 2),
}
"""Arrays of `template_means.npz`, with kind and dimensions."""

_ARRAYS = {
    "label": ("i", 1),
    "record": ("i", 1),
    "record_names": ("U", 1),
    "folds_of_record": ("i", 2),
    "patient_of_record": ("U", 1),
}
"""Arrays of `beats.npz` that are read, with kind and dimensions."""

_MEND = "bring it back from a copy; the study's own command with --resume writes it again too"


def write_beats(path: Path, beats: BeatSet, folds: Folds, patient_of: Mapping[str, str]) -> None:
    """Write a study's `beats.npz`: labels and records, which are the same in all its beat sets.

    A record that no fold validates on has fold -1. `patient_of` has the records that share their
    patient with another.
    """
    fold_of = [
        {name: fold for fold, names in enumerate(part) for name in names}
        for part in folds.partitions
    ]
    names = beats.record_names
    arrays = {
        "label": beats.label,
        "record": beats.record,
        "record_names": names,
        "r_peak_sample": beats.r_peak_sample,
        "folds_of_record": [[part.get(name, -1) for name in names] for part in fold_of],
        "patient_of_record": [patient_of.get(name, name) for name in names],
    }
    write_whole(path, pack_arrays(arrays))


def read_beats(path: Path) -> Beats:
    """Return the beats that every trial of a study predicts, from its `beats.npz`.

    Raises:
        StudyStateError: If the file is gone or damaged, or its arrays do not fit each other.
    """
    try:
        arrays = read_arrays(path.read_bytes(), _ARRAYS)
        return Beats(
            label=arrays["label"],
            record=arrays["record"],
            record_names=_texts(arrays["record_names"]),
            patient_of_record=_texts(arrays["patient_of_record"]),
            folds_of_record=tuple(tuple(map(int, row)) for row in arrays["folds_of_record"]),
        )
    except FileNotFoundError:
        raise StudyStateError(f"{path}: is gone; {_MEND}") from None
    except (ArchiveError, ComparisonError) as error:
        raise StudyStateError(f"{path}: {error}; {_MEND}") from error


def _texts(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, array))


def write_template_means(folder: Path, means: Sequence[TemplateMeans]) -> None:
    """Write the means that a page draws of templates into a study's folder."""
    arrays = {name: [getattr(of_cut, name) for of_cut in means] for name in _MEANS}
    write_whole(folder / TEMPLATE_MEANS, pack_arrays(arrays))


def read_template_means(folder: Path) -> list[TemplateMeans]:
    """Return the means that a page draws of templates; an empty list where the file is missing.

    Raises:
        StudyStateError: If the file is damaged.
    """
    path = folder / TEMPLATE_MEANS
    if not path.exists():
        return []
    try:
        arrays = read_arrays(path.read_bytes(), _MEANS)
        if len({len(arrays[name]) for name in _MEANS}) > 1:
            raise ArchiveError("has arrays that do not fit each other")
    except ArchiveError as error:
        raise StudyStateError(f"{path}: {error}; delete it: the next start writes it") from error
    return [
        TemplateMeans(
            **{name: arrays[name][k] for name in _MEANS}
            | {name: str(arrays[name][k]) for name in ("cut", "record")}
        )
        for k in range(len(arrays["cut"]))
    ]


def write_exclusions(folder: Path, beats: BeatSet) -> None:
    """Write how many beats were left out, by reason, into a study's folder."""
    counts = {reason: beats.left_out[reason] for reason in DROP_REASONS}
    write_whole(folder / EXCLUSIONS, json.dumps(counts, indent=1))


def read_exclusions(folder: Path) -> dict[str, int] | None:
    """Return the number of beats left out, by reason; None where the file is missing."""
    path = folder / EXCLUSIONS
    if not path.exists():
        return None
    return {str(reason): int(n) for reason, n in json.loads(path.read_text()).items()}
