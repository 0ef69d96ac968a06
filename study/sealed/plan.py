"""The plan of a sealed test: a compare space with a `[test]` table, known by its hash.

A plan written by `--write-plan` names the study that its arms come from: that study must not have
changed since.

`study.spaces.sealed_plan` shows the table. A plan of the previous version has all settings at its
top level; it can still be read, and its hash is unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from study.config import Cut, TrialConfig, cut_text, digest_of, digest_text
from study.data.beat_set import BeatSet
from study.data.folds import ALL
from study.errors import PlanError, SpaceError, listed
from study.models import rules
from study.models.plugins.plugin import Plugin, load_all
from study.reporting.arms import look_ahead
from study.sealed.records import Records
from study.spaces import toml_file
from study.spaces.load import checked_space
from study.spaces.sealed_plan import DEFAULTS, MIN_SEEDS, Origin, SealedTest
from study.spaces.space import Space
from study.spaces.toml_text import toml_text_of
from study.store.folder import PLUGINS, study_folder, study_names
from study.store.openings import plan_title
from study.store.plan import StudyPlan
from study.training.seeding import FRESH_SEED

_LATER = ("floor", "development")
"""Settings that older plans do not have; their default values do not enter the hash."""

_NO_ADJUSTMENT = ("logit_adjustment", "none")
"""Parameter and value that every plan of the previous version implies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A named configuration."""

    name: str
    config: TrialConfig

    @property
    def cut(self) -> Cut:
        """Segmentation, resampling and, if any, template of its beats."""
        return self.config.signal.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPlan:
    """The arms that a sealed test trains, and its contrasts."""

    test: SealedTest
    seeds: int
    arms: tuple[Arm, ...]

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's content, with every active parameter.

        Comments, the order of keys, the form of the file, and default values make no difference.
        Without a logit adjustment an arm has the hash that it had before there was one.
        """
        test, origin = self.test, self.test.origin
        settings = {name: getattr(test, name) for name in ("name", *DEFAULTS)}
        for name in _LATER:
            if settings[name] == DEFAULTS[name]:
                del settings[name]
        content = {
            **settings,
            "seeds": self.seeds,
            "study": None
            if origin is None
            else [origin.name, origin.fingerprint, dict(origin.data)],
            "arms": [
                [arm.name, _stated(arm.config), *self._other_records(arm).values()]
                for arm in self.arms
            ],
        }
        return hashlib.sha256(digest_text(content).encode()).hexdigest()

    @property
    def developments(self) -> dict[str, tuple[Arm, ...]]:
        """The arms by the records that they train on."""
        arms: dict[str, tuple[Arm, ...]] = {}
        for arm in self.arms:
            development = self.test.development_of(arm.name)
            arms[development] = (*arms.get(development, ()), arm)
        return arms

    @property
    def floors(self) -> tuple[str, ...]:
        """Names of all floors: those of every study, fitted on what arms train on."""
        return tuple(
            name
            for development in self.developments
            for name in self.test.floors_on(development).values()
        )

    def floor_of(self, arm: Arm) -> str:
        """Return the floor that an arm is compared with: it trains on the same records."""
        return self.test.floors_on(self.test.development_of(arm.name))[self.test.floor]

    @property
    def caution(self) -> str:
        """Warning that the plan now trains other models than before; empty if it does not."""
        trains = [arm.config.train for arm in self.arms]
        if any(train.logit_adjustment != "none" for train in trains) or all(
            train.class_weights == "none" for train in trains
        ):
            return ""
        return (
            f"plan {self.title} has the hash that it had before there was a logit_adjustment, but "
            "now trains other models: class_weights follow the classes' frequencies in an epoch, "
            "and not, as before, those in all of DS1"
        )

    @property
    def seed_indices(self) -> range:
        """Indices of its seeds."""
        return range(FRESH_SEED, FRESH_SEED + self.seeds)

    @property
    def label(self) -> str:
        """Name and start of the hash: the label of its folder and of the study that trains it."""
        return f"{self.test.name}-{self.hash[:12]}"

    @property
    def title(self) -> str:
        """Name and start of the hash, for display."""
        return plan_title(self.test.name, self.hash)

    def text(self, comments: str = "") -> str:
        """Return the plan as TOML, after comments; inactive parameters are left out.

        Above each arm stands how far it looks ahead.
        """
        remarks = {arm.name: f"look-ahead: {look_ahead(arm.config)}" for arm in self.arms}
        return toml_text_of(self._tables(), comments=comments, remarks=remarks)

    def space(self, development: str) -> Space:
        """Return the space that trains the arms of some records.

        It is equal for all files with the same content.
        """
        arms = self.developments[development]
        plan = self
        if len(arms) < len(self.arms):
            # A contrast may name an arm that trains on other records.
            test = replace(
                self.test, contrasts=(), development=development, developments={}, origin=None
            )
            plan = replace(self, arms=arms, test=test)
        tables = plan._tables()
        return checked_space(tables, Path(f"{self.test.name}.toml"), toml_text_of(tables))

    def _other_records(self, arm: Arm) -> dict[str, str]:
        """Return what an arm trains on, where the plan's other arms do not."""
        other = self.test.developments.get(arm.name)
        return {} if other is None else {"development": other}

    def _tables(self) -> dict[str, Any]:
        test, origin = self.test, self.test.origin
        settings = {name: getattr(test, name) for name in ("name", *DEFAULTS)}
        settings |= {"metrics": list(test.metrics), "contrasts": [list(p) for p in test.contrasts]}
        if origin is not None:
            settings["study"] = asdict(origin)
        return {
            "description": f"Sealed test {test.name}: each arm trained on all records",
            "compare": {"draws": 1, "folds": ALL, "seeds": self.seeds},
            "test": settings,
            "arms": [
                {"name": table.pop("name"), **self._other_records(arm), **table}
                for arm, table in zip(self.arms, arm_tables(self.arms), strict=True)
            ],
        }


def _stated(config: TrialConfig) -> dict[str, Any]:
    """Return the active parameters that enter the hash."""
    active = rules.active_parameters(config)
    return {name: value for name, value in active.items() if (name, value) != _NO_ADJUSTMENT}


def arm_tables(arms: Iterable[Arm]) -> list[dict[str, Any]]:
    """Return arms as the tables of a space."""
    return [{"name": arm.name, **rules.active_parameters(arm.config)} for arm in arms]


def load_plan(
    path: Path, plugins: Iterable[Path] = (), workspace: Path | None = None
) -> SealedPlan:
    """Read and check a plan, after loading files of plug-ins and those of the plan's study.

    Raises:
        PlanError: If it cannot be read or breaks a rule; all faults together.
        PluginError: If a plug-in cannot be used.
        StudyStateError: If a plug-in differs from the one that the study began with.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PlanError(
            f"{path}: there is no such plan; `--write-plan STUDY` writes one from a study"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise PlanError(f"{path}: cannot be read as TOML: {reason}") from error
    given = [Plugin.at(file) for file in plugins]
    if folder := workspace and _study_with_plugins(text, workspace):
        StudyPlan.load(folder).load_plugins(folder, given)
    load_all(given)
    return parse_plan(text, path)


def _study_with_plugins(text: str, workspace: Path) -> Path | None:
    """Return the folder of the study that a plan names, if it is there and keeps plug-ins."""
    tables, _ = toml_file.read_tables(text)
    test = _in_tables(tables).get("test")
    study = test.get("study") if isinstance(test, Mapping) else None
    name = study.get("name") if isinstance(study, Mapping) else None
    if name not in study_names(workspace):
        return None
    folder = study_folder(workspace, name)
    return folder if (folder / PLUGINS).is_dir() else None


def parse_plan(text: str, path: Path) -> SealedPlan:
    """Build a plan from TOML; errors as in `load_plan`."""
    tables, faults = toml_file.read_tables(text)
    if faults:
        raise PlanError(listed(str(path), faults))
    try:
        space = checked_space(_in_tables(tables), path, text)
    except SpaceError as error:
        raise PlanError(str(error)) from error
    if space.test is None:
        raise PlanError(
            f"{path}: is a space without [test], not the plan of a sealed test; `--write-plan "
            "STUDY` writes one from a study"
        )
    # Normalised as in `SealedPlan.space`, so that an arm's beats are those of its space.
    arms = [
        Arm(name=point.arm, config=rules.normalised(point.config)) for point in space.comparisons()
    ]
    return SealedPlan(test=space.test, seeds=space.seeds, arms=tuple(arms))


def _in_tables(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a plan of the previous version in the present form, and any other unchanged."""
    if {"compare", "search", "test"} & plan.keys() or not {"name", "arms"} & plan.keys():
        return plan
    return {
        "description": "A plan of the version before",
        "compare": {"draws": 1, "folds": ALL, "seeds": plan.get("seeds", MIN_SEEDS)},
        "test": {key: value for key, value in plan.items() if key not in ("seeds", "arms")},
        "fixed": dict([_NO_ADJUSTMENT]),
        "arms": plan.get("arms", []),
    }


def origin_of(plan: StudyPlan, name: str) -> Origin:
    """Return the identity of a study, by the name of its folder."""
    return Origin(
        name=name, fingerprint=digest_of(plan.identity()), data=dict(plan.data_fingerprints)
    )


def check_origin(plan: SealedPlan, records: Records, workspace: Path) -> bool:
    """Check the study that a plan comes from; a plan written by hand has none.

    Returns:
        Whether arms train on records of the kind that the study had. Where synthetic records
        rehearse the plan of a study on real ones, they do not.

    Raises:
        UsageError: If the study is not there.
        PlanError: If it has changed since the plan was written, or was run on other records.
    """
    origin = plan.test.origin
    if origin is None:
        return True
    stored = StudyPlan.load(study_folder(workspace, origin.name))
    now = origin_of(stored, origin.name)
    if now.fingerprint != origin.fingerprint:
        raise PlanError(
            f"plan {plan.title}: study '{origin.name}' was {origin.fingerprint} when "
            f"the plan was written and is {now.fingerprint} now: it was run again, or its plan "
            "was edited. Write the plan anew"
        )
    trained_on = records.developments.get(plan.test.development)
    if trained_on is None:
        return False
    alike = stored.data_source == trained_on.kind
    if not alike and not trained_on.synthetic:
        raise PlanError(
            f"plan {plan.title}: study '{origin.name}' ran on {stored.data_source} "
            f"records, and test.development has {trained_on.kind} ones; --synthetic rehearses the "
            "plan"
        )
    return alike


def check_data(plan: SealedPlan, beats: Mapping[Cut, BeatSet]) -> None:
    """Check that the records that train are the same as in the plan's study.

    Raises:
        PlanError: If they differ (the message names every difference), or if the plan has no
            fingerprint to compare.
    """
    origin = plan.test.origin
    if origin is None:
        return
    now = {cut_text(cut): beat_set.fingerprint for cut, beat_set in beats.items()}
    if not now.keys() & origin.data.keys():
        raise PlanError(
            f"plan {plan.title}: has no fingerprint of study '{origin.name}' for "
            f"{', '.join(now)}, so that nothing shows that {plan.test.development} is what that "
            "study saw; write the plan anew with an arm that sees an ECG, or leave its "
            "[test.study] out"
        )
    faults = [
        f"{window}: the study had {then}, today's records and code give {now.get(window)}"
        for window, then in origin.data.items()
        if now.get(window, then) != then
    ]
    if faults:
        development = plan.test.development
        heading = f"plan {plan.title}: {development} is not what study '{origin.name}' saw"
        raise PlanError(
            listed(heading, faults) + "\nRun the study again with today's records and code"
        )
