"""A study's folder in the workspace: its name, its files, and the others beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.errors import StudyStateError, UsageError, did_you_mean
from study.store.plan import PLAN_FILE, load_plan

STUDIES = "studies"
SPACE_COPY = "space.toml"
"""The space as a study was started with it."""
TRIALS = "trials.csv"
"""A row a trial."""
BEATS = "beats.npz"
"""What every trial's predictions refer to."""
CLAIM = "study_id"
"""Beside a study's trials: whose they are."""
PAIRS, RECORDS = "pairs.csv", "records.csv"
"""What a comparison says of every pair of arms, and of every record."""

_ALLOWED = "letters, digits, '-', '_' and '.', not starting with '.'"


def study_folder(workspace: Path, name: str) -> Path:
    """Return the folder of a study.

    Raises:
        UsageError: If the name could lead out of the workspace.
    """
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or not plain.isascii() or name.startswith(".") or len(name) > 100:
        raise UsageError(f"study {name!r}: a study's name has {_ALLOWED}")
    return workspace / STUDIES / name


def leftovers(folder: Path, trials: str) -> list[Path]:
    """Return the files that a killed process had half written; nothing reads them.

    Args:
        folder: The study's folder.
        trials: Where its trials' files are; an object store has no half files.
    """
    roots = {folder, *([] if "://" in trials else [Path(trials)])}
    return sorted({path for root in roots for path in root.rglob("*.part")})


def has_trials(folder: Path) -> bool:
    """Say whether a folder has what only a start leaves that had a plan."""
    return any((folder / name).exists() for name in ("trials", BEATS))


def check_plan_is_there(folder: Path) -> None:
    """Notice a plan that was lost.

    Raises:
        StudyStateError: If a folder has trials and no plan.
    """
    if load_plan(folder) is None and has_trials(folder):
        raise StudyStateError(
            f"{folder / PLAN_FILE}: is missing, and the folder has trials of a study; bring it "
            "back from a copy (MLflow has one among the files of the study's run), or take "
            "another --name"
        )


def existing_plan(folder: Path) -> dict[str, Any]:
    """Return the plan of a study that exists.

    Raises:
        UsageError: If there is no such study.
        StudyStateError: If its plan is lost, or cannot be read.
    """
    check_plan_is_there(folder)
    plan = load_plan(folder)
    if plan is None:
        names = [str(known["name"]) for known in studies(folder.parent.parent)]
        raise UsageError(
            f"there is no study '{folder.name}' in {folder.parent}; there is: "
            f"{', '.join(names) or 'none'}.{did_you_mean(folder.name, names)}"
        )
    return plan


def expect(folder: Path, *, resume: bool) -> None:
    """Refuse to resume what is not there, before anything is written.

    Raises:
        StudyStateError: If `--resume` was given for a study that does not exist, or its plan is
            lost.
    """
    check_plan_is_there(folder)
    if resume and load_plan(folder) is None:
        names = [str(plan["name"]) for plan in studies(folder.parent.parent)]
        raise StudyStateError(
            f"--resume: there is no study '{folder.name}' in {folder.parent}; "
            f"there is: {', '.join(names) or 'none'}. Leave --resume out to start one"
        )


def studies(workspace: Path) -> list[dict[str, object]]:
    """Return the stored plans of a workspace's studies, by name."""
    plans = []
    for path in sorted((workspace / STUDIES).glob("*/plan.json")):
        try:
            plans.append({"name": path.parent.name, **(load_plan(path.parent) or {})})
        except StudyStateError:
            plans.append({"name": path.parent.name, "kind": "unreadable plan"})
    return plans
