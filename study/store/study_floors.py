"""The floors of one study: computed once, kept in its folder in the form of a trial's files.

What is there is read without torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.config import digest_of
from study.errors import StudyError
from study.store.storage import Storage
from study.store.trial_files import (
    METRICS,
    PER_RECORD,
    PREDICTIONS,
    SCORES,
    as_csv,
    as_json,
    pack_predictions,
)
from study.training.results import TrialResult
from study.training.scores import score

if TYPE_CHECKING:
    from study.data.beat_set import BeatSet
    from study.data.folds import Folds

FOLDER = "floors"
"""Folder of the floors in a study's folder; each has one of its name in there."""

KEY, SETTINGS = "key", "settings"
"""In a floor's file of scores: identity of what it was computed from; how it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFloor:
    """A floor as a study's table and tracker see it.

    Args:
        name: As in `study.store.floors.FLOORS`.
        digest: Identity of what it was computed from.
        metrics: By the names of `study.keys`; empty where it could not be computed.
        files: Its predictions and scores.
        settings: How it was made.
        at_s: When it was written, seconds since 1970.
        missing: Why it could not be computed.
        seconds: Time that this start spent on it, s; 0 where it was there already.
    """

    name: str
    digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    at_s: float = 0.0
    missing: str = ""
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """How a table calls it."""
        return f"floor: {self.name.replace('_', ' ')}"


def study_floors(beats: BeatSet, folds: Folds, folder: Path) -> list[StudyFloor]:
    """Return the floors of a study, those from its folder that are there.

    Args:
        beats: Cut as `study.store.floors.FLOOR_CUT` says.
        folds: Those of the trials.
        folder: The study's folder.
    """
    from study.store import floors

    return [_floor(name, beats, folds, folder / FOLDER / name) for name in floors.FLOORS]


def _floor(name: str, beats: BeatSet, folds: Folds, folder: Path) -> StudyFloor:
    from study.store import floors

    began = time.perf_counter()
    storage = Storage.at(folder)
    digest = digest_of([name, _code(), beats.fingerprint, folds.fingerprint])
    stored = stored_floor(folder)
    if stored is not None and stored.digest == digest:
        return stored
    try:
        result = _scored(floors.out_of_fold(name, beats, folds), beats, folds)
    except StudyError as error:
        return StudyFloor(name=name, digest=digest, missing=str(error))
    storage.write(PREDICTIONS, pack_predictions(result))
    storage.write(PER_RECORD, as_csv(result.per_record))
    # Last: where it stands, the others do too.
    scores = {KEY: digest, SETTINGS: floors.SETTINGS, **json.loads(as_json(result))}
    storage.write(SCORES, json.dumps(scores, indent=1).encode())
    stored = stored_floor(folder)
    assert stored is not None
    return replace(stored, seconds=time.perf_counter() - began)


def _scored(log_probs: NDArray[np.float32], beats: BeatSet, folds: Folds) -> TrialResult:
    """Score a floor's predictions as a trial's are, in the form that a trial's have."""
    fold = folds.of_beats(beats)
    scores = score(log_probs, beats.label, beats.record, fold, record_names=beats.record_names)
    return TrialResult(
        log_probs=log_probs,
        metrics=scores.values,
        undefined=scores.undefined,
        per_fold=scores.per_fold,
        per_record=scores.per_record,
        confusion=scores.confusion,
        gates=None,
        inspection=None,
        weights=[],
        seconds_reliance=0.0,
    )


def _code() -> str:
    from study.store import floors

    return hashlib.sha256(Path(floors.__file__).read_bytes()).hexdigest()


def stored_floors(study: Path) -> list[StudyFloor]:
    """Return the floors in a study's folder, by name."""
    folder = study / FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    floors = (stored_floor(folder / name) for name in names)
    return [floor for floor in floors if floor is not None]


def stored_floor(folder: Path) -> StudyFloor | None:
    """Return the floor in a folder, or None where it is not whole."""
    content = Storage.at(folder).read(SCORES)
    stored = json.loads(content or b"{}")
    if KEY not in stored:
        return None
    return StudyFloor(
        name=folder.name,
        digest=str(stored[KEY]),
        metrics={name: math.nan if v is None else v for name, v in stored[METRICS].items()},
        files=tuple(folder / name for name in (PREDICTIONS, PER_RECORD, SCORES)),
        settings=stored.get(SETTINGS, {}),
        at_s=round((folder / SCORES).stat().st_mtime, 3),
    )


def stored_metrics(study: Path, name: str) -> dict[str, float]:
    """Return what the folder of a study has of a floor; nothing where it has none."""
    floor = stored_floor(study / FOLDER / name)
    return dict(floor.metrics) if floor else {}
