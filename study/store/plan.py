"""The plan of a study: all that shapes its results, written down before anything runs."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from study import __version__
from study.errors import StudyStateError
from study.files import write_whole

PLAN_FILE = "plan.json"

GROWS = "trials"
"""The only part of a search's plan that a resume may change; of a screening none may."""

_OPTIONS = {
    "n_seeds": " (--seeds)",
    "folds": " (--folds, --partition-seed)",
    "epochs": " (--epochs)",
    "trials": " (--trials)",
    "study_seed": " (--seed)",
    "sampler": " (--sampler)",
    "scheduler": " (--scheduler)",
    "objective": " (--objective)",
}
"""The options by which parts of a plan are given."""

_FOLLOWS = {
    # Seed and digests are part of other digests, which would look as if the records had changed.
    "study_seed": {"data_fingerprints"},
    "folds": {"fold_fingerprint", "n_folds", "space_digest"},
    **{
        key: {"space_digest"}
        for key in ("n_seeds", "epochs", "sampler", "scheduler", "objective", "kind")
    },
}
"""What differs by itself where a part of a plan does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study will do; two starts with equal plans are the same study."""

    name: str
    space: str
    space_digest: str  # digest of the space's content, overrides included
    kind: str  # `search` or `compare`
    objective: str  # metric that is searched for
    sampler: str  # what proposes
    scheduler: str  # `asha`, `screening` or `none`
    reduction_factor: int  # one in how many trials asha keeps at each rung
    trials: int  # trials to run; of a screening, those that screen and those in full
    epochs: int  # full budget of a trial
    folds: str
    fold_fingerprint: str  # digest of which records each fold validates on
    n_folds: int
    n_seeds: int  # seeds per fold
    study_seed: int  # root of all random streams
    engine: str  # precision of the arithmetic, and whether it is compiled
    data_source: str  # `mitdb`, `records` or `synthetic`
    data_fingerprints: Mapping[str, str]  # digest of each beat set, by segmentation and resampling
    version: str = __version__  # version of the study package

    @property
    def members(self) -> int:
        """Members of one trial."""
        return self.n_folds * self.n_seeds

    def identity(self) -> dict[str, Any]:
        """Return the plan as JSON has it."""
        return dict(json.loads(json.dumps(asdict(self))))

    def save(self, folder: Path) -> None:
        """Write the plan into the study's folder, where it is not there yet, and onto its disk.

        Without a plan no other file of the study means anything.
        """
        text = json.dumps(self.identity(), indent=2, sort_keys=True) + "\n"
        path = folder / PLAN_FILE
        if not path.exists() or path.read_text() != text:
            write_whole(path, text, durable=True)

    def differences(self, stored: Mapping[str, Any]) -> dict[str, str]:
        """Return what differs from a stored plan, a line each, by its name in the plan.

        A difference that only follows from another is not named beside it.
        """
        planned = self.identity()
        differing = {
            key for key in planned.keys() | stored.keys() if planned.get(key) != stored.get(key)
        }
        for key, following in _FOLLOWS.items():
            if key in differing:
                differing -= following
        return {
            key: f"{key}{_OPTIONS.get(key, '')}: was {stored.get(key)!r}, now {planned.get(key)!r}"
            for key in sorted(differing)
        }


def load_plan(folder: Path) -> dict[str, Any] | None:
    """Return the stored plan of a study folder, or None where there is none.

    Raises:
        StudyStateError: If the file is not a plan.
    """
    path = folder / PLAN_FILE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StudyStateError(
            f"{path}: is not a plan ({error}); move the folder away, or take another --name"
        ) from error
    if not isinstance(stored, dict):
        raise StudyStateError(f"{path}: is not a plan; move the folder away")
    return stored


def provenance(device: str) -> dict[str, str]:
    """Return git commit, versions and device for the tracker's tags."""
    packages = ("torch", "ray", "optuna", "mlflow", "numpy", "wfdb")
    return {
        "git_commit": git_commit(),
        "device": device,
        "host_python": platform.python_version(),
        **{f"version_{name}": metadata.version(name) for name in packages},
        "version_study": __version__,
    }


def git_commit() -> str:
    """Return the commit of this checkout, with +dirty where files differ from it."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    # Fixed words, no shell; which git it is, is the user's PATH's business.
    done = subprocess.run(  # nosec B603 B607
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
