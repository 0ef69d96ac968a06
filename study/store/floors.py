"""The floors of a study, in its folder and in the cache; `study.training.floors` computes them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import DiskError, StudyError
from study.files import from_json, rows_csv
from study.keys import FLOORS
from study.store.history import METRICS
from study.store.storage import Storage
from study.store.trial_files import (
    PER_RECORD,
    PREDICTIONS,
    SCORES,
    pack_predictions,
    scores_json,
)
from study.training.floors import SETTINGS, identity, scored

FOLDER = "floors"
"""Folder of the floors in a study's folder; each floor has a subfolder of its name."""

KEY, MADE_BY = "key", "settings"
"""In a floor's file of scores: a digest of what it was computed from, and its settings."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFloor:
    """A floor as tables and the tracker read it."""

    name: str  # as in `FLOORS`
    digest: str  # identity of what it was computed from
    # Its scores, by the names of `study.keys`; empty where it could not be computed
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()  # its predictions and scores
    settings: Mapping[str, Any] = field(default_factory=dict)  # how it was made
    at_s: float = 0.0  # when it was written, seconds since 1970
    missing: str = ""  # why it could not be computed
    seconds: float = 0.0  # time that this start spent on it, s; 0 where it was already stored

    @property
    def words(self) -> str:
        """Its name in words, for tables of floors."""
        return self.name.replace("_", " ")

    @property
    def label(self) -> str:
        """Its label among runs and arms."""
        return f"floor: {self.words}"


def study_floors(
    beats: BeatSet,
    folds: Folds,
    folder: Path,
    cache_dir: Path,
    say: Callable[[str], object] = lambda text: None,
) -> list[StudyFloor]:
    """Return the floors of a study: from its folder, else from the cache, else computed.

    Args:
        beats: Cut as `FLOOR_CUT` says.
        folds: Those of the trials.
        folder: The study's folder.
        cache_dir: Folder where floors are kept for other studies of these beats and folds.
        say: Called with a message before each floor is computed.
    """
    return [
        _floor(name, beats, folds, folder / FOLDER, cache_dir / FOLDER, say) for name in FLOORS
    ]


def _floor(
    name: str,
    beats: BeatSet,
    folds: Folds,
    folder: Path,
    cache: Path,
    say: Callable[[str], object],
) -> StudyFloor:
    began = time.perf_counter()
    digest = identity(name, beats, folds)
    place, kept = folder / name, cache / digest / name
    stored = stored_floor(place)
    if stored is not None and stored.digest == digest:
        return stored
    if stored_floor(kept) is not None:
        return _copied(kept, place)
    storage = Storage.at(place)
    say(f"fitting floor: {name.replace('_', ' ')}")
    try:
        result = scored(name, beats, folds)
    except StudyError as error:
        return StudyFloor(name=name, digest=digest, missing=str(error))
    storage.write(PREDICTIONS, pack_predictions(result))
    storage.write(PER_RECORD, rows_csv(result.per_record).encode())
    # Written last: where this file exists, the others do too.
    storage.write(SCORES, scores_json(result, **{KEY: digest, MADE_BY: SETTINGS}))
    stored = stored_floor(place)
    assert stored is not None
    try:
        _copied(place, kept)
    except DiskError as error:
        _logger.warning("%s; the floor is not cached", error)
    return replace(stored, seconds=time.perf_counter() - began)


def _copied(source: Path, target: Path) -> StudyFloor:
    """Copy a floor's files; return the copy."""
    for name in (PREDICTIONS, PER_RECORD, SCORES):  # the scores last, as when it is computed
        content = Storage.at(source).read(name)
        assert content is not None
        Storage.at(target).write(name, content)
    copied = stored_floor(target)
    assert copied is not None
    return copied


def stored_floors(study: Path) -> list[StudyFloor]:
    """Return the floors in a study's folder, in the order of `FLOORS`."""
    floors = (stored_floor(study / FOLDER / name) for name in FLOORS)
    return [floor for floor in floors if floor is not None]


def highest_floor(floors: Iterable[StudyFloor], metric: str) -> StudyFloor | None:
    """Return the floor with the highest finite value of a metric; None where none has one."""
    known = [floor for floor in floors if math.isfinite(floor.metrics.get(metric, math.nan))]
    return max(known, key=lambda floor: floor.metrics[metric], default=None)


def stored_floor(folder: Path) -> StudyFloor | None:
    """Return the floor in a folder, or None where it is not whole."""
    content = Storage.at(folder).read(SCORES)
    stored = json.loads(content or b"{}")
    if KEY not in stored:
        return None
    return StudyFloor(
        name=folder.name,
        digest=str(stored[KEY]),
        metrics=from_json(stored[METRICS]),
        files=tuple(folder / name for name in (PREDICTIONS, PER_RECORD, SCORES)),
        settings=stored.get(MADE_BY, {}),
        at_s=round((folder / SCORES).stat().st_mtime, 3),
    )
