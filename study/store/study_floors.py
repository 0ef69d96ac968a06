"""The floors of one study: computed once, kept in its folder in the form of a trial's files."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import digest_of
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import StudyError
from study.store import floors
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

FOLDER = "floors"
"""Folder of the floors in a study's folder; each has one of its name in there."""

_KEY = "key"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFloor:
    """A floor as a study's table and tracker see it.

    Args:
        name: As in `study.store.floors.FLOORS`.
        digest: Identity of what it was computed from.
        metrics: By the names of `study.keys`; empty where it could not be computed.
        files: Its predictions and scores.
        missing: Why it could not be computed.
        seconds: Time that this start spent on it, s; 0 where it was there already.
    """

    name: str
    digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
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
    return [_floor(name, beats, folds, folder / FOLDER / name) for name in floors.FLOORS]


def stored_metrics(folder: Path, name: str) -> dict[str, float]:
    """Return what the folder of a study has of a floor; nothing where it has none."""
    stored = json.loads(Storage.at(folder / FOLDER / name).read(SCORES) or b"{}")
    return _values(stored)


def _values(stored: Mapping[str, Any]) -> dict[str, float]:
    return {k: math.nan if v is None else v for k, v in stored.get(METRICS, {}).items()}


def _floor(name: str, beats: BeatSet, folds: Folds, folder: Path) -> StudyFloor:
    began = time.perf_counter()
    storage = Storage.at(folder)
    files = tuple(folder / file for file in (PREDICTIONS, PER_RECORD, SCORES))
    digest = digest_of([name, _code(), beats.fingerprint, folds.fingerprint])
    stored = json.loads(storage.read(SCORES) or b"{}")
    if stored.get(_KEY) == digest:
        return StudyFloor(name=name, digest=digest, metrics=_values(stored), files=files)
    try:
        result = _scored(floors.out_of_fold(name, beats, folds), beats, folds)
    except StudyError as error:
        return StudyFloor(name=name, digest=digest, missing=str(error))
    storage.write(PREDICTIONS, pack_predictions(result))
    storage.write(PER_RECORD, as_csv(result.per_record))
    # Last: where it stands, the others do too.
    scores = {_KEY: digest, **json.loads(as_json(result))}
    storage.write(SCORES, json.dumps(scores, indent=1).encode())
    return StudyFloor(
        name=name,
        digest=digest,
        metrics=result.metrics,
        files=files,
        seconds=time.perf_counter() - began,
    )


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
    return hashlib.sha256(Path(floors.__file__).read_bytes()).hexdigest()
