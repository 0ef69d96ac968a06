"""The plan of a study: everything that shapes its results, recorded before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from study import __version__
from study.data.catalogue import CATALOGUE
from study.errors import StudyStateError, UsageError, did_you_mean
from study.files import write_whole
from study.keys import current_word
from study.models.plugins.plugin import Plugin, is_loaded
from study.store.folder import PLAN_FILE, PLUGINS, has_trials, study_names
from study.wording import listing

FORM = 2
"""Version of the form of a study's records; raise it when the form changes.

Studies begun before this number existed have none.
"""

GROWS = "trials"
"""The only part of a search's plan that a resume may change."""

_OPTIONS = {
    "n_seeds": " (--seeds)",
    "folds": " (--folds, --partitions, --partition-seed)",
    "epochs": " (--epochs)",
    "trials": " (--trials)",
    "study_seed": " (--seed)",
    "data_source": " (--data, --records)",
    "sampler": " (--sampler)",
    "scheduler": " (--scheduler)",
    "objective": " (--objective)",
    "start_from": " (--start-from)",
    "plugins": " (--plugin)",
}
"""The options that set parts of a plan."""

_FOLLOWS = {
    # Otherwise another seed would look as if the records had changed.
    "study_seed": {"data_fingerprints"},
    "data_source": {"data_fingerprints", "folds", "fold_fingerprint"},
    "folds": {"fold_fingerprint", "n_folds", "n_partitions", "space_digest"},
    **{
        key: {"space_digest"}
        for key in ("n_seeds", "epochs", "sampler", "scheduler", "objective", "kind")
    },
}
"""The parts of a plan that differ because another does."""


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
    trials: int  # trials to run; for a screening, those that screen plus those in full
    epochs: int  # full budget of a trial
    folds: str
    fold_fingerprint: str  # digest of which records each fold validates on
    n_folds: int  # folds of a partition
    n_seeds: int  # seeds of each fold; with several partitions, shared out over them
    study_seed: int  # root of all random streams
    engine: str  # precision of the arithmetic, and whether it is compiled
    data_source: str  # databases joined by +, as in `mitdb+svdb`; or `records` or `synthetic`
    data_fingerprints: Mapping[str, str]  # digest of each beat set, by its cut
    n_partitions: int = 1  # partitions into folds: seed s has those of s mod their number
    # Digest of the text of each plug-in that its networks are from, by name
    plugins: Mapping[str, str] = field(default_factory=dict)
    version: str = __version__  # version of the study package
    torch: str = ""  # version of PyTorch; empty in plans from before it was recorded
    start_from: str = ""  # study whose trials inform the sampler; empty for none

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", current_word(self.space))

    @property
    def has_sealed_test(self) -> bool:
        """Whether test patients are set aside: those of MIT-BIH are, DS2."""
        return "mitdb" in self.databases

    @property
    def databases(self) -> tuple[str, ...]:
        """Names of the databases that the records are of; none for one's own or synthetic ones."""
        return tuple(name for name in self.data_source.split("+") if name in CATALOGUE)

    @property
    def selection_sees(self) -> str:
        """What training and selection see, in words."""
        if self.databases:
            return listing(CATALOGUE[name].names[0] for name in self.databases)
        synthetic = self.data_source == "synthetic"
        return "the synthetic records" if synthetic else "the records of this study"

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the plan of a study that exists.

        Raises:
            UsageError: If there is no such study.
            StudyStateError: If its plan is lost, or cannot be read, or is of another version.
        """
        plan = cls.find(folder)
        if plan is None:
            names = study_names(folder.parent.parent)
            known = f"studies there: {', '.join(names)}" if names else "no study was begun there"
            raise UsageError(
                f"there is no study '{folder.name}' in {folder.parent}; {known}."
                f"{did_you_mean(folder.name, names)}"
            )
        return plan

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Return the plan in a study's folder; None where no study was begun there.

        Raises:
            StudyStateError: If its plan is lost, or cannot be read, or is of another version.
        """
        path = folder / PLAN_FILE
        if not path.exists():
            if not has_trials(folder):
                return None
            raise StudyStateError(
                f"{path}: is missing, and the folder has trials of a study; bring it back from a "
                "copy (MLflow has one among the files of the study's run), or take another --name"
            )
        try:
            stored = json.loads(path.read_text())
            if not isinstance(stored, dict):
                raise TypeError("must be an object with the parts of a plan")
            form = stored.pop("form", None)
            if form == FORM:
                return cls(**stored)
        except (ValueError, AttributeError, TypeError) as error:
            raise StudyStateError(
                f"{path}: is not a plan ({error}); move the folder away, or take another --name"
            ) from error
        version = "an earlier version" if form is None else f"another version (form {form})"
        raise StudyStateError(
            f"{path}: study '{folder.name}' was begun by {version} of this tool, and this one "
            f"(form {FORM}) cannot read its records: show or resume it with the version that "
            "began it, or begin it again under another --name"
        )

    def refuse_renamed(self, folder: Path) -> None:
        """Refuse to read a study whose folder has another name than the study (`StudyStateError`).

        Its storage, its files and MLflow know it by its own name.
        """
        if folder.name != self.name:
            raise StudyStateError(
                f"{folder}: is the folder of study '{self.name}', renamed: rename it back to "
                f"{self.name}"
            )

    def load_plugins(self, folder: Path, given: Iterable[Plugin] = ()) -> None:
        """Load its plug-ins: those that are given, the others from the study's folder.

        Raises:
            StudyStateError: If the content of one differs from what the study began with.
            PluginError: If one is missing or cannot be used.
        """
        by_name = {plugin.name: plugin for plugin in given}
        for name, digest in self.plugins.items():
            if is_loaded(name, digest):
                continue
            path = folder / PLUGINS / f"{name}.py"
            plugin = by_name[name] if name in by_name else Plugin.at(path)
            if plugin.digest != digest:
                where, mend = f"{path}", "bring it back from a copy"
                if name in by_name:
                    where, mend = "--plugin", "leave it out, or give this study another --name"
                raise StudyStateError(
                    f"{where}: {plugin.file} is not the plug-in that study '{self.name}' began "
                    f"with (digest {digest}, now {plugin.digest}): {mend}"
                )
            plugin.load()

    @property
    def precision(self) -> str:
        """The precision of its arithmetic: the first part of its engine."""
        return self.engine.partition(",")[0]

    @property
    def members(self) -> int:
        """Members of one trial."""
        return self.n_folds * self.n_seeds

    def identity(self) -> dict[str, Any]:
        """Return the plan in JSON's types; older plans have no `torch`."""
        plan = dict(json.loads(json.dumps(asdict(self))))
        if not self.torch:
            del plan["torch"]
        return plan

    def save(self, folder: Path) -> None:
        """Write the plan into the study's folder; it is on disk before any other file of it."""
        content = {**self.identity(), "form": FORM}
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        path = folder / PLAN_FILE
        if not path.exists() or path.read_text() != text:
            write_whole(path, text, durable=True)

    def differences(self, other: StudyPlan) -> dict[str, str]:
        """Return a line on each difference from a stored plan, by its name in the plan.

        Differences that only follow from another one are left out.
        """
        planned, stored = self.identity(), other.identity()
        differing = {key for key in planned.keys() & stored if planned[key] != stored[key]}
        for key, following in _FOLLOWS.items():
            if key in differing:
                differing -= following
        return {
            key: f"{key}{_OPTIONS.get(key, '')}: was {stored[key]!r}, now {planned[key]!r}"
            for key in sorted(differing)
        }


def torch_version() -> str:
    """Return the version of PyTorch, without the build for a CPU or a CUDA.

    Another version may compute other last digits; another build is another device's.
    """
    return metadata.version("torch").partition("+")[0]
