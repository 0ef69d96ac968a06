"""A study on disk: every command that reads one opens it here.

`Study.open` finds the study's folder, its Optuna storage and its trials' files, and reads their
present content. It writes no file and no table; only a start opens a ledger. Reading needs neither
torch nor Ray.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from study.addresses import secrets_of, shown
from study.config import TrialConfig
from study.errors import StudyStateError, UsageError
from study.files import write_whole
from study.keys import UNRANKED, Outcome, Tag
from study.models.plugins.plugin import configuration_of
from study.statistics.findings import metric_name
from study.statistics.predictions import Beats
from study.store.beats_file import read_beats
from study.store.folder import BEATS, SPACE_COPY, study_folder
from study.store.history import Start, starts_of
from study.store.lock import Owner, elsewhere, holder
from study.store.optuna_storage import probe_optuna, read_optuna, sqlite_url
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, read_predictions
from study.store.trials import CLOSED, CONFIG, PLACE, TRACKER, TrialRow, Trials
from study.wording import plural, score_text

if TYPE_CHECKING:
    from study.spaces.space import Space

OPTUNA_FILE, TRIAL_FILES = "study.db", "trials"
"""Default names of its Optuna storage and of its trials' folder, both in the study's folder."""

PLACES = "places.json"
"""File in the study's folder with the `--study-storage` and `--storage` of its last start."""

_COMPLETE, _SECRET = "complete", "without its credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the records of a study are."""

    folder: Path  # the study's folder
    # SQLAlchemy URL of its Optuna storage, if an option or its last start named one; empty for the
    # one in its folder
    study_storage: str = ""
    # Folder or URI below which several studies have their trials' files; from the same sources
    storage: str = ""
    by_option: bool = False  # whether `--study-storage` itself was given

    @classmethod
    def of(
        cls,
        workspace: Path,
        name: str,
        *,
        study_storage: str | None = None,
        storage: str | None = None,
    ) -> Self:
        """Find the records of a study: by options, by its last start's notes, or in its folder.

        Raises:
            UsageError: If the name cannot be one, or its last start had an address with
                credentials, which no file keeps.
        """
        folder = study_folder(workspace, name)
        noted = _noted(folder)
        places = {"study_storage": study_storage, "storage": storage}
        for option, value in places.items():
            if not value and option in noted.get(_SECRET, {}):
                raise UsageError(
                    f"study '{name}' was started with --{option.replace('_', '-')} "
                    f"{noted[_SECRET][option]}, whose credentials are kept in no file: give the "
                    "option again"
                )
            places[option] = value or noted.get(_COMPLETE, {}).get(option, "")
        return cls(
            folder=folder,
            study_storage=places["study_storage"] or "",
            storage=places["storage"] or "",
            by_option=bool(study_storage),
        )

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the study's Optuna storage."""
        return self.study_storage or sqlite_url(self.folder / OPTUNA_FILE)

    @property
    def files(self) -> Storage:
        """Where the study's trials have their files."""
        if self.storage:
            return Storage.at(self.storage).folder(self.folder.name)
        return Storage.at(self.folder / TRIAL_FILES)

    def probe(self, *, new: bool) -> None:
        """Refuse places that cannot be written, before any long work.

        Raises:
            UsageError: If the trials' files cannot.
            StudyStateError: If the Optuna storage of a new study cannot be opened.
        """
        if self.storage:
            self.files.probe()
        if self.study_storage and new:
            probe_optuna(self.study_storage)

    def note(self) -> None:
        """Record the addresses given by options, for later readers of the study."""
        noted: dict[str, dict[str, str]] = {}
        for option in ("study_storage", "storage"):
            if address := getattr(self, option):
                kind = _SECRET if secrets_of(address) else _COMPLETE
                noted.setdefault(kind, {})[option] = shown(address)
        text = json.dumps(noted, indent=2) + "\n"
        path = self.folder / PLACES
        if noted != _noted(self.folder):
            write_whole(path, text)


def _noted(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / PLACES
    if not path.exists():
        return {}
    try:
        return {
            str(kind): dict(addresses) for kind, addresses in json.loads(path.read_text()).items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise StudyStateError(
            f"{path}: is damaged ({error}); delete it, and give --study-storage and --storage as "
            "the study was started with"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Study:
    """The content of a study's records when they were read."""

    places: Places  # where they are
    plan: StudyPlan
    owner: Owner | None = None  # process that holds its lock, or ended without releasing it
    held: bool = False  # whether it is being run
    # Process and folder of the last start, if it ran in a copy of this folder (which has its own
    # lock) and did not close the study
    copy: tuple[Owner, str] | None = None
    trials: Trials = Trials()  # its trials, from the Optuna storage
    unreadable: str = ""  # why its trials cannot be read; empty where they can

    @classmethod
    def open(
        cls,
        workspace: Path,
        name: str,
        *,
        study_storage: str | None = None,
        storage: str | None = None,
        locked_here: bool = False,
    ) -> Self:
        """Read an existing study in any state, even while it runs.

        Args:
            workspace: Folder with `studies/`.
            name: The study's name.
            study_storage: As `--study-storage` has it.
            storage: As `--storage` has it.
            locked_here: Whether this process has the study's lock but runs no trial.

        Raises:
            UsageError: If there is no such study, or the given storage does not have it.
            StudyStateError: If its plan cannot be read, or its folder was renamed.
        """
        places = Places.of(workspace, name, study_storage=study_storage, storage=storage)
        study = cls.at(places, locked_here=locked_here)
        study.plan.refuse_renamed(places.folder)
        if study.unreadable and places.by_option:
            raise UsageError(
                f"--study-storage: {study.unreadable}; give the address that study '{name}' was "
                "started with"
            )
        return study

    @classmethod
    def at(cls, places: Places, *, locked_here: bool = False) -> Self:
        """Read a study from its places; `unreadable` says why its storage cannot be read.

        Raises:
            UsageError: If there is no such study.
            StudyStateError: If its plan cannot be read, or a plug-in has changed.
            PluginError: If a plug-in is missing, or cannot be used.
        """
        folder, plan = places.folder, StudyPlan.load(places.folder)
        plan.load_plugins(folder)
        owner, held = (None, False) if locked_here else holder(folder)
        every, attrs, unreadable = read_optuna(places.url, plan.name)
        copy = None if attrs.get(CLOSED) else elsewhere(attrs.get(PLACE), folder)
        if copy is not None and copy[0].runs():
            owner, held = copy[0], True
        trials = Trials(all=every, attrs=attrs, epochs=plan.epochs, running=held)
        return cls(
            places=places,
            plan=plan,
            owner=owner,
            held=held,
            copy=copy,
            trials=trials,
            unreadable=unreadable,
        )

    def readable(self) -> Self:
        """Return this study, if its trials could be read.

        Raises:
            StudyStateError: If its storage could not be read.
        """
        if self.unreadable:
            raise StudyStateError(
                f"study '{self.name}': {self.unreadable}; give the Optuna storage that it was "
                "started with by --study-storage, or bring it back from a copy"
            )
        return self

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.places.folder

    @property
    def name(self) -> str:
        """The study's name."""
        return self.plan.name

    @property
    def files(self) -> Storage:
        """Where its trials' files are."""
        return self.places.files

    @property
    def study_id(self) -> str:
        """Its identity in trackers; empty before its first start."""
        return str(self.trials.attrs.get(Tag.STUDY_ID, ""))

    @property
    def objective(self) -> str:
        """The metric that a search optimises and a comparison ranks by."""
        return self.plan.objective

    @property
    def rows(self) -> tuple[TrialRow, ...]:
        """Its settled configurations, in order of number."""
        return self.trials.rows

    @property
    def not_proposed(self) -> int:
        """Configurations of the budget that are still to be proposed."""
        begun = len(self.trials.settled) + len(self.trials.unsettled)
        begun -= len(self.rows) - len(self.trials.counted)
        return 0 if self.trials.exhausted else max(0, self.plan.trials - begun)

    @property
    def unfinished(self) -> bool:
        """Whether a start would run something."""
        return not self.trials.exhausted and len(self.trials.counted) < self.plan.trials

    @cached_property
    def space(self) -> Space:
        """The space that it runs, the command line's changes included.

        Raises:
            StudyStateError: If it is not there.
        """
        from study.spaces.load import load_space, override  # a status needs no network

        path, plan = self.folder / SPACE_COPY, self.plan
        if not path.exists():
            raise StudyStateError(
                f"{self.folder}: has no {SPACE_COPY}; its own command with --resume writes it"
            )
        own: dict[str, int | str] = {"partitions": plan.n_partitions}
        if plan.kind == "search":
            own = {"sampler": plan.sampler, "scheduler": plan.scheduler}
        return override(load_space(path), epochs=plan.epochs, seeds=plan.n_seeds, **own)

    @cached_property
    def beats(self) -> Beats:
        """The beats that all of its trials predict.

        Raises:
            StudyStateError: If the file is gone or damaged.
        """
        return read_beats(self.folder / BEATS)

    @cached_property
    def configs(self) -> dict[int, TrialConfig]:
        """The configuration of each settled trial, by number; defaults where inactive."""
        return {t.number: configuration_of(t.user_attrs[CONFIG]) for t in self.trials.settled}

    @cached_property
    def arm_trials(self) -> dict[str, TrialRow]:
        """The trial that represents each arm: the first draw, or the best of a search."""
        chosen: dict[str, TrialRow] = {}
        for row in self.rows:
            if not row.ranks(self.objective):
                continue
            before = chosen.get(row.arm)
            if self.plan.kind == "compare":
                replaces = before is None or (row.draw or 0) < (before.draw or 0)
            else:
                replaces = before is None or row.metric(self.objective) > before.metric(
                    self.objective
                )
            if replaces:
                chosen[row.arm] = row
        return chosen

    @property
    def arm_scores(self) -> dict[str, float]:
        """The objective of the trial that represents each arm, the best first."""
        rows = sorted(self.arm_trials.values(), key=lambda row: row.number)
        scores = {row.arm: row.metric(self.objective) for row in rows}
        return dict(sorted(scores.items(), key=lambda item: -item[1]))

    def predictions(self, row: TrialRow) -> dict[str, NDArray[Any]]:
        """Return the arrays of a trial's predictions.

        Raises:
            StudyStateError: If its file is gone or damaged.
        """
        n_beats = len(self.beats.label)
        arrays = read_predictions(self.files, row.digest, n_beats=n_beats)
        if arrays is None:
            raise StudyStateError(
                f"trial {row.number}, {row.arm}: {shown(self.files.root)}/{row.digest} has no "
                f"{PREDICTIONS}; a study started with --storage keeps its files there"
            )
        return arrays

    @cached_property
    def starts(self) -> list[Start]:
        """Its starts, oldest first."""
        return starts_of(self.trials.attrs)

    @property
    def tracker(self) -> str:
        """The store of its MLflow runs, without credentials; empty for none."""
        return str(self.trials.attrs.get(TRACKER, ""))

    @property
    def state(self) -> str:
        """What is settled and owed, and the best score, in words."""
        if self.unreadable:
            return f"nothing is known of its trials: {self.unreadable}"
        failed = sum(row.outcome is Outcome.FAILED for row in self.rows)
        parts = [f"{len(self.trials.counted)} of {plural(self.plan.trials, 'trial')} settled"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{len(self.trials.owed)} interrupted"] if self.trials.owed else []
        scores = [row.metric(self.objective) for row in self.rows if row.ranks(self.objective)]
        if scores and self.objective != UNRANKED:
            parts.append(f"best {metric_name(self.objective)} {score_text(max(scores))}")
        now = "running" if self.held else "unfinished" if self.unfinished else "finished"
        return f"{now}: {', '.join(parts)}"

    @property
    def last_start(self) -> str:
        """How the last start ended, in words."""
        if not self.trials.all and not self.starts:
            return "nothing was started yet"
        if not self.trials.attrs.get(CLOSED):
            who = f", {self.owner}," if self.owner else ""
            return (
                f"the last start{who} did not close it: killed, out of disk, its Optuna storage "
                "away, or its machine down"
            )
        ended_s = self.starts[-1].ended_s if self.starts else None
        when = ""
        if ended_s is not None:
            moment = datetime.fromtimestamp(ended_s, UTC)
            when = f" at {moment.isoformat(sep=' ', timespec='seconds')}"
        stops = [
            trial.user_attrs[Tag.CAUSE]
            for trial in self.trials.unsettled
            if trial.user_attrs.get(Tag.OUTCOME) == Outcome.STOPPED
            and Tag.CAUSE in trial.user_attrs
        ]
        if stops:
            return f"the last start was stopped{when}: {stops[-1]}"
        # A start that was stopped while floors were computed has no trial that says so.
        stopped = bool(self.starts) and self.starts[-1].outcome == Outcome.STOPPED
        return f"the last start {'was stopped' if stopped else 'ended'}{when}"
