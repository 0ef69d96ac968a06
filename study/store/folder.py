"""A study's folder in the workspace: its name, the names of its files, and its leftovers."""

from __future__ import annotations

from pathlib import Path

from study.errors import UsageError

STUDIES = "studies"
PLAN_FILE = "plan.json"
SPACE_COPY = "space.toml"
"""The space that a study runs, the command line's changes included."""
COMMAND = "command.txt"
"""The command that started a study, in a line."""
TRIALS = "trials.csv"
"""One row for each trial."""
BEATS = "beats.npz"
"""Labels and records of the beats that every trial predicts."""
PLUGINS = "plugins"
"""Folder with copies of the plug-ins that the study uses."""
CLAIM = "study_id"
"""File beside the trials' folders, with the identity of the study that they belong to."""
PAIRS, RECORDS = "pairs.csv", "records.csv"
"""The results of a comparison: one row for each pair of arms, one row for each record."""

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
    """Return the files that a killed process left half written; nothing reads them.

    `trials` is where the trials' files are; an object store has no half files.
    """
    roots = {folder, *([] if "://" in trials else [Path(trials)])}
    return sorted({path for root in roots for path in root.rglob("*.part")})


def has_trials(folder: Path) -> bool:
    """Say whether a folder has files that a start writes only after its plan."""
    return any((folder / name).exists() for name in ("trials", BEATS))


def study_names(workspace: Path) -> list[str]:
    """Return the names of a workspace's studies, in order, without reading the studies."""
    return sorted(path.parent.name for path in (workspace / STUDIES).glob(f"*/{PLAN_FILE}"))
