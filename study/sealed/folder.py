"""Where a sealed test keeps what it does: models, thresholds, and a result for each opening.

    evaluations/NAME-HASH/
      plan.toml                 the plan, as it was understood
      models/ARM/seed_1000.pt   a model each, kept as soon as it is trained
      ensembles/ARM.pt          all seeds of an arm in one file (study.models.seed_ensemble)
      thresholds.json           decision thresholds, fixed on DS1
      opening_1/                what that opening gave: tables.txt, result.json, per_record.csv,
                                predictions.npz
      external/NAME/            the same of other records

A rehearsal lies under `rehearsals/`, its openings included: nothing of it is near the real log.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import StudyStateError
from study.files import write_whole
from study.sealed.plan import SealedPlan
from study.tracking.openings import OPENINGS, Opening, OpeningsLog

EVALUATIONS, REHEARSALS = "evaluations", "rehearsals"
TABLES, RESULT, PER_RECORD, PREDICTIONS = (
    "tables.txt",
    "result.json",
    "per_record.csv",
    "predictions.npz",
)
EXTERNAL = "external"
"""Folder of results on other records; also their key in `result.json` and their `stage`."""

_TRACKED = "tracked"


@dataclass(frozen=True, slots=True)
class EvaluationFolder:
    """The folder of one plan."""

    root: Path  # the folder

    @classmethod
    def of(cls, workspace: Path, plan: SealedPlan, *, rehearsal: bool) -> EvaluationFolder:
        """Return the folder of a plan; nothing is made."""
        kind = REHEARSALS if rehearsal else EVALUATIONS
        return cls(workspace / kind / f"{plan.name}-{plan.hash[:12]}")

    @property
    def is_rehearsal(self) -> bool:
        """Whether it is that of a rehearsal on synthetic records."""
        return self.root.parent.name == REHEARSALS

    @property
    def models(self) -> Path:
        """Folder of the trained models."""
        return self.root / "models"

    def ensemble(self, arm: str) -> Path:
        """Return the file of an arm's seed ensemble."""
        return self.root / "ensembles" / f"{arm}.pt"

    def opening(self, opening: Opening) -> Path:
        """Return the folder of an opening's result."""
        return self.root / f"opening_{opening.number}"

    def external(self, name: str) -> Path:
        """Return the folder of a result on other records."""
        return self.root / EXTERNAL / name

    def has_result(self, opening: Opening) -> bool:
        """Say whether an opening has left its result."""
        return (self.opening(opening) / RESULT).exists()

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file below the folder, whole or not at all."""
        path = self.root / name
        write_whole(path, content)
        return path

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write JSON below the folder; NaN as null."""
        return self.write(name, json.dumps(_nullable(content), indent=1) + "\n")

    def is_tracked(self, place: Path) -> bool:
        """Say whether the result in a folder is in the tracker."""
        return (place / _TRACKED).exists()

    def note_tracked(self, place: Path) -> None:
        """Remember that it is."""
        (place / _TRACKED).touch()

    def forget_tracked(self, place: Path) -> None:
        """Forget it, as the result is about to be another."""
        (place / _TRACKED).unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            StudyStateError: If another process holds it, or it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            opened = (self.root / "lock").open("a")
        except OSError as error:
            raise StudyStateError(f"{self.root}: cannot be written ({error.strerror})") from error
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyStateError(
                    f"{self.root}: another process is evaluating this plan; wait for it"
                ) from None
            yield


def openings_log(workspace: Path, *, rehearsal: bool) -> OpeningsLog:
    """Return the log of openings: the workspace's, or that of its rehearsals."""
    folder = workspace / REHEARSALS if rehearsal else workspace
    return OpeningsLog(folder / OPENINGS)


def unlogged_results(workspace: Path, log: OpeningsLog, *, rehearsal: bool) -> list[str]:
    """Return the results of openings that the log does not have: somebody took a line away."""
    known = {opening.digest for opening in log.read()}
    kind = REHEARSALS if rehearsal else EVALUATIONS
    found = []
    for path in sorted((workspace / kind).glob(f"*/opening_*/{RESULT}")):
        try:
            digest = json.loads(path.read_text())["opening"]["digest"]
        except (ValueError, KeyError, TypeError):
            digest = None
        if digest not in known:
            found.append(f"{path}: is the result of an opening that {log.path.name} does not have")
    return found


def _nullable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _nullable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nullable(item) for item in value]
    if hasattr(value, "tolist"):
        return _nullable(value.tolist())
    return None if isinstance(value, float) and value != value else value
