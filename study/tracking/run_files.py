"""The files that MLflow keeps with the runs of a study, gathered when they are sent."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from study.config import TrialConfig
from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.store.floors import stored_floors
from study.store.folder import PLAN_FILE, SPACE_COPY, TRIALS
from study.store.history import TRACEBACK
from study.store.study import Study
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES, WEIGHTS, read_predictions
from study.store.trials import CONFIG
from study.tracking.run_facts import FLOOR, STUDY
from study.tracking.study_runs import ShownStudy

BEST_WEIGHTS = 3
"""Trials whose weights are recorded; those of all trials stay in the study's storage."""

_logger = logging.getLogger(__name__)


def files_of(shown: ShownStudy, kind: str, digest: str, folder: Path) -> list[Path]:
    """Return the files of a run that has ended.

    Args:
        shown: The study.
        kind: `study`, `trial` or `floor`.
        digest: The run's.
        folder: An empty one, for those that have to be made.
    """
    if kind == STUDY:
        return [
            *files_of_plan(shown),
            *_there([shown.study.folder / TRIALS]),
            *_best_weights(shown.study, folder),
        ]
    if kind == FLOOR:
        floors = stored_floors(shown.study.folder)
        return _there([file for floor in floors if floor.digest == digest for file in floor.files])
    return _of_trial(shown, digest, folder)


def files_of_plan(shown: ShownStudy) -> list[Path]:
    """Return what the study's own run has from its beginning."""
    return _there([shown.study.folder / name for name in (PLAN_FILE, SPACE_COPY)])


def _there(files: list[Path]) -> list[Path]:
    for file in files:
        if not file.exists():
            _logger.warning("tracking: %s is not there any more", file)
    return [file for file in files if file.exists()]


def _best_weights(study: Study, folder: Path) -> list[Path]:
    objective = study.objective
    ranked = sorted(
        (row for row in study.rows if row.ranks(objective)), key=lambda row: -row.metric(objective)
    )
    weights = []
    for row in ranked[:BEST_WEIGHTS]:
        content = study.files.folder(row.digest).read(WEIGHTS)
        if content is not None:
            weights.append(folder / f"weights_{row.number:03d}_{row.digest}.pt")
            weights[-1].write_bytes(content)
    return weights


def _of_trial(shown: ShownStudy, digest: str, folder: Path) -> list[Path]:
    attrs = shown.attempts[digest][-1].user_attrs
    files = [folder / "configuration.json"]
    files[0].write_text(json.dumps(TrialConfig.from_flat(attrs[CONFIG]).flat(), indent=1))
    if attrs.get(TRACEBACK):
        files.append(folder / "traceback.txt")
        files[-1].write_text(attrs[TRACEBACK])
    if attrs.get(Tag.OUTCOME) != Outcome.COMPLETE:
        return files
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        content = shown.study.files.folder(digest).read(name)
        if content is None:
            _logger.warning("trial %s left no %s in its storage", digest, name)
            continue
        files.append(folder / name)
        files[-1].write_bytes(content)
        if name == PREDICTIONS:
            files += _pictures(shown.study, digest, folder)
    return files


def _pictures(study: Study, digest: str, folder: Path) -> list[Path]:
    # Half a second of matplotlib, which the start of a study does not wait for.
    from study.tracking.pictures import draw_trial

    try:
        beats = study.beats
        arrays = read_predictions(study.files, digest, n_beats=len(beats.label)) or {}
    except StudyStateError as error:
        _logger.warning("a trial without pictures: %s", error)
        return []
    return draw_trial(
        folder, label=beats.label, record=beats.record, log_probs=arrays["log_probs"]
    )
