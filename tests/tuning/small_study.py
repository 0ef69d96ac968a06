"""A study on disk with all of its records, driven without Ray: Optuna, MLflow, files."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import study
from study.data.fetch import sha256_of
from study.errors import TrackingError
from study.files import write_whole
from study.keys import EXPERIMENTS, Outcome
from study.store import trial_files
from study.store.floors import FOLDER, KEY
from study.store.folder import BEATS, SPACE_COPY, TRIALS, study_folder
from study.store.study import Places, Study
from study.store.trial_files import CHECKPOINT, PER_RECORD, PREDICTIONS, SCORES, WEIGHTS
from study.store.trials import CLOSED, TRACKER, trials_csv
from study.tracking.experiment import Experiment
from study.tracking.mirror import Mirror
from tests.builders import load_text, npz, space_toml, study_plan
from tests.command import here
from tests.driver import EPOCHS, Driver

NAME = "tiny"
TRIALS_WANTED = 5
SPACE = space_toml(
    {"fusion": ["concat_proj", "film"], "embed_dim": [8, 16, 32]},
    fixed={"epochs": EPOCHS},
    settings={"sampler": "grid", "trials": TRIALS_WANTED},
)
OBJECTIVE = "val_auprc_sv"
EXPERIMENT = EXPERIMENTS["synthetic"]

PLAN = study_plan(sampler="grid", trials=TRIALS_WANTED, epochs=EPOCHS)


def checkpoint(epoch: int, version: str = study.__version__) -> bytes:
    """Return a checkpoint, as a trial writes it."""
    with mock.patch.object(trial_files, "__version__", version):
        return trial_files.pack_checkpoint(epoch, torch_file(epoch))


def torch_file(epoch: int) -> bytes:
    """Return what torch makes of a training state, or of weights."""
    buffer = io.BytesIO()
    torch.save({"epoch": epoch, "members": [{"weight": torch.arange(300.0)}]}, buffer)
    return buffer.getvalue()


class Away(Experiment):
    """An experiment whose store cannot be reached."""

    def connect(self) -> tuple[Any, str]:
        raise TrackingError("tracking: no answer")


class Start(Driver):
    """One start of the study in a workspace, with its files; MLflow may be away all the while."""

    def __init__(self, workspace: Path, *, track: bool = True, away: bool = False) -> None:
        self._workspace, self._track, self._away = workspace, track, away
        self.mirror: Mirror | None = None
        folder = study_folder(workspace, NAME)
        PLAN.save(folder)
        (folder / BEATS).write_bytes(npz(beats=np.arange(3)))
        (folder / SPACE_COPY).write_text(SPACE)
        super().__init__(folder, load_text(workspace, SPACE, NAME), plan=PLAN)

    def opened(self) -> Callable[[str], None]:
        """Settle what the start before left, and begin to mirror the study."""
        self.ledger.note(CLOSED, False)
        self.ledger.begin_start({"device": "cpu"})
        changed = super().opened()
        if not self._track:
            return changed
        kind = Away if self._away else Experiment
        experiment = kind(tracking_uri=None, name=EXPERIMENT, workspace=self._workspace)
        self.ledger.note(TRACKER, experiment.store.name)
        self.mirror = Mirror(experiment, self.read)
        return self.mirror.trial_changed

    def read(self) -> Study:
        places, trials = Places(folder=self.folder), self.ledger.trials()
        return Study(places=places, plan=PLAN, held=True, trials=trials)

    def epoch(self, key: str, epoch: int, value: float, *, save: bool = False) -> bool:
        """Report an epoch and leave what a trial leaves; return whether it was stopped there."""
        metrics = {OBJECTIVE: value, "val_loss": 1 - value, "val_auprc_F": float("nan")}
        if epoch == EPOCHS:
            metrics["val_patient_auprc_S"] = value / 2
            files = self.storage.folder(self.digest(key))
            files.write(PREDICTIONS, npz(log_probs=np.zeros((1, 3, 4), np.float32)))
            files.write(PER_RECORD, b"record,auprc_S\n101,0.5\n")
            files.write(SCORES, json.dumps({"metrics": metrics}).encode())
            files.write(WEIGHTS, torch_file(EPOCHS))
        stopped = self.report(key, epoch, metrics)
        if save and not stopped:
            self.storage.folder(self.digest(key)).write(CHECKPOINT, checkpoint(epoch))
        return stopped

    def end(self, cause: str = "") -> None:
        """End in order: by a cause, or because all is done."""
        if cause:
            self.conductor.stop(cause)
        rows = self.rows()
        write_whole(self.folder / TRIALS, trials_csv(rows))
        floor = self.folder / FOLDER / "prevalence"
        floor.mkdir(parents=True, exist_ok=True)
        (floor / SCORES).write_text(json.dumps({KEY: "floor", "metrics": {OBJECTIVE: 0.1}}))
        outcome = Outcome.STOPPED if cause else Outcome.COMPLETE
        self.ledger.end_start(outcome, {"trials_complete": float(len(rows))})
        self.ledger.note(CLOSED, True)
        self.leave()

    def leave(self) -> None:
        """End as a killed driver does, once the tracker has what it was told."""
        if self.mirror:
            self.mirror.finish(0.05 if self._away else 30)
        self.ledger.release()


def make(workspace: Path) -> None:
    """Make a study of which two trials are complete, one is pruned, one failed and one is owed."""
    start = Start(workspace)
    for key, value in (("0", 0.9), ("1", 0.8), ("2", 0.1)):
        start.begin(key)
        start.train(key, value)
    start.begin("3")
    start.fail("3", "ValueError: bad")
    start.begin("4")
    start.epoch("4", 1, 0.95, save=True)
    start.end("SIGINT received")


def status(*words: str, option: str = "--status") -> tuple[int, list[str]]:
    """Return exit code and lines of an option that only names the study, in this folder."""
    ended = here(Path.cwd(), [option, NAME, *words])
    assert ended.err == "" or option == "--repair", ended
    return ended.code, ended.out.splitlines()


def contents(folder: Path) -> dict[str, str]:
    """Return a checksum of every file, but those that SQLite's readers make and take away.

    These are its shared memory, and a write-ahead log without content.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    empty = {path for path in files if path.suffix == ".db-wal" and not path.stat().st_size}
    kept = [path for path in files if path.suffix != ".db-shm" and path not in empty]
    return {str(path): sha256_of(path) for path in kept}


def change(database: Path, statement: str, *values: object) -> None:
    """Change a SQLite database behind everybody's back."""
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0
