"""What a start looks at, and leaves in the study's folder, before its first trial."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from study.addresses import shown
from study.errors import StudyStateError
from study.files import write_whole
from study.keys import Outcome
from study.store.folder import BEATS, CLAIM, has_trials
from study.store.ledger import Ledger
from study.store.owner import elsewhere, here
from study.store.plan import load_plan
from study.store.storage import Storage
from study.store.trial_files import RESULTS
from study.store.trials import PLACE, PLAN, TRACKED, TrialRow
from study.tuning.setup import Setup

_logger = logging.getLogger(__name__)

SHOWN = 5
"""Missing files, or trials, that are named."""


def admit_storage(setup: Setup, ledger: Ledger, folder: Path) -> None:
    """Refuse a study of this name that another workspace keeps in the same Optuna storage.

    Raises:
        StudyStateError: If there is one.
    """
    if ledger.noted(PLAN) is None and has_trials(folder):
        raise StudyStateError(
            f"the Optuna storage holds nothing of study '{setup.plan.name}', and {folder} has "
            "results of its trials: bring the storage back from a copy, give --study-storage as "
            "the study was started with, or start another under another --name"
        )
    if ledger.noted(PLAN) is not None and load_plan(folder) is None:
        raise StudyStateError(
            f"the Optuna storage holds a study '{setup.plan.name}' that is not of this workspace; "
            "give this one another --name, or start it where it was started"
        )


def admit_place(ledger: Ledger, folder: Path, name: str) -> None:
    """Refuse a study that a process runs from a copy of this folder, and write down who runs it.

    A lock guards one folder. A storage that is elsewhere, such as PostgreSQL, can have two.

    Raises:
        StudyStateError: If such a process runs.
    """
    # A start that was closed, or was of this folder, whose lock is ours, runs no more.
    other = None if ledger.noted(TRACKED) else elsewhere(ledger.noted(PLACE), folder)
    if other is not None:
        owner, place = other
        running = owner.runs()
        if running:
            raise StudyStateError(
                f"study '{name}': {owner} runs it in {place}, with this Optuna storage: wait for "
                "it, stop it, or give this one another --name"
            )
        if running is None:
            _logger.warning(
                "study '%s': its last start, %s in %s, did not close it; if it runs still, stop "
                "one of the two",
                *(name, owner, place),
            )
    ledger.note(PLACE, here(folder))


def claim(storage: Storage, study_id: str, name: str) -> None:
    """Say whose results a storage has; they are found by name and configuration alone.

    Raises:
        StudyStateError: If they are of another study of this name.
    """
    claimed = storage.read(CLAIM)
    if claimed is None:
        storage.write(CLAIM, study_id.encode())
    elif claimed.decode(errors="replace") != study_id:
        raise StudyStateError(
            f"{shown(storage.root)}: has the results of another study '{name}', which these would "
            "overwrite; give this one another --name or --storage"
        )


def name_lost_results(rows: Sequence[TrialRow], storage: Storage, study: str) -> None:
    """Warn of complete trials whose results are gone: tables would leave them out."""
    lost = [
        f"trial {row.number}: {name}"
        for row in rows
        if row.outcome is Outcome.COMPLETE
        for name in RESULTS
        if not storage.folder(row.digest).holds(name)
    ]
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        _logger.warning(
            "results are missing (%s); `--status %s` says more, and after `--repair %s` these "
            "trials are run again",
            *(", ".join(lost[:SHOWN]) + more, study, study),
        )


def keep_labels(setup: Setup, folder: Path) -> None:
    """Keep labels and records once per study: what every trial's predictions refer to."""
    beats = setup.beats
    fold_of = {
        name: fold for fold, names in enumerate(setup.job.folds.validation) for name in names
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        label=beats.label,
        record=beats.record,
        record_names=np.asarray(beats.record_names),
        r_peak_sample=beats.r_peak_sample,
        fold_of_record=np.asarray([fold_of.get(name, -1) for name in beats.record_names]),
        patient_of_record=np.asarray(
            [setup.source.patients.get(name, name) for name in beats.record_names]
        ),
    )
    write_whole(folder / BEATS, buffer.getvalue())
