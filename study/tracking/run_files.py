"""Gathers the files that MLflow keeps with the runs of a study."""

from __future__ import annotations

import json
import logging
import shutil
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
from study.tracking.run_facts import FLOOR, STUDY, RunFacts, ShownStudy

BEST_WEIGHTS = 3
"""Trials whose weights are recorded; those of all trials stay in the study's storage."""

_logger = logging.getLogger(__name__)


def gather_files(shown: ShownStudy, facts: RunFacts, folder: Path) -> None:
    """Put a run's files into an empty folder; most of them exist only at the run's end."""
    own = shown.study.folder
    if facts.kind == STUDY:
        _copy([own / name for name in (PLAN_FILE, SPACE_COPY)], folder)
    if not facts.outcome:
        return
    if facts.kind == STUDY:
        _copy([own / TRIALS], folder)
        _best_weights(shown.study, folder)
    elif facts.kind == FLOOR:
        floors = [floor for floor in stored_floors(own) if floor.digest == facts.digest]
        _copy([file for floor in floors for file in floor.files], folder)
    else:
        _of_trial(shown, facts.digest, folder)


def _copy(files: list[Path], folder: Path) -> None:
    for file in files:
        if file.exists():
            shutil.copy(file, folder)
        else:
            _logger.warning("tracking: %s no longer exists", file)


def _best_weights(study: Study, folder: Path) -> None:
    objective = study.objective
    ranked = sorted(
        (row for row in study.rows if row.ranks(objective)), key=lambda row: -row.metric(objective)
    )
    for row in ranked[:BEST_WEIGHTS]:
        content = study.files.folder(row.digest).read(WEIGHTS)
        if content is not None:
            (folder / f"weights_{row.number:03d}_{row.digest}.pt").write_bytes(content)


def _of_trial(shown: ShownStudy, digest: str, folder: Path) -> None:
    attrs = shown.attempts[digest][-1].user_attrs
    config = TrialConfig.from_flat(attrs[CONFIG]).flat()
    (folder / "configuration.json").write_text(json.dumps(config, indent=1))
    if attrs.get(TRACEBACK):
        (folder / "traceback.txt").write_text(attrs[TRACEBACK])
    if attrs.get(Tag.OUTCOME) != Outcome.COMPLETE:
        return
    for name in (PREDICTIONS, PER_RECORD, SCORES):
        content = shown.study.files.folder(digest).read(name)
        if content is None:
            _logger.warning("trial %s left no %s in its storage", digest, name)
            continue
        (folder / name).write_bytes(content)
        if name == PREDICTIONS:
            _draw_pictures(shown.study, digest, folder)


def _draw_pictures(study: Study, digest: str, folder: Path) -> None:
    # Imported here: matplotlib takes half a second, and a start should not wait for it.
    from study.tracking.pictures import draw_trial

    try:
        beats = study.beats
        arrays = read_predictions(study.files, digest, n_beats=len(beats.label))
    except StudyStateError as error:
        _logger.warning("a trial without pictures: %s", error)
        return
    if arrays is None:  # they were there a moment ago
        _logger.warning("a trial without pictures: the %s of %s is gone", PREDICTIONS, digest)
        return
    draw_trial(folder, label=beats.label, record=beats.record, log_probs=arrays["log_probs"])
