"""The file of a plan: read and checked in full before anything else is done.

It is TOML; what is not given has the value shown:

    name = "film_or_not"
    metrics = ["auprc_sv", "auroc_sv"]             # the first is the primary one
    contrasts = [["film", "film_placebo"]]         # tested, first minus second
    seeds = 10                                     # of each arm, 10 or more
    study_seed = 0                                 # root of all random streams
    resamples = 2000                               # of patients and seeds, for intervals
    permutations = 10000                           # of records between arms, for p
    precision = "auto"                             # of training: auto, fp32 or bf16

    [study]                                        # optional: where the arms come from
    name = "fusion_compare"
    fingerprint = "0123456789ab"                   # of its plan
    data = { "beat/antialiased" = "ab0123456789" } # of its beats, by window

    [[arms]]                                       # one or more
    name = "film"
    fusion = "film"                                # and any other parameter of a configuration
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.config import PARAMETERS, TrialConfig, value_faults
from study.errors import ConfigError, PlanError, listed, unknown
from study.keys import PRECISIONS
from study.models import rules
from study.sealed.plan import FLOOR, METRICS, MIN_SEEDS, SETTINGS, Arm, Origin, SealedPlan

_KEYS = ("name", *SETTINGS, "study", "arms")
_STUDY_KEYS = ("name", "fingerprint", "data")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NAME_RULE = "letters, digits, '-', '_' and '.', at most 100, beginning with a letter or digit"
_NUMBERS = {
    "seeds": (MIN_SEEDS, 1000),
    "study_seed": (0, 2**31 - 1),
    "resamples": (100, 100_000),
    "permutations": (100, 1_000_000),
}


def load_plan(path: Path) -> SealedPlan:
    """Read and check a plan.

    Raises:
        PlanError: If it cannot be read or breaks a rule; all faults together.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PlanError(
            f"{path}: there is no such plan; `--write-plan STUDY` writes one from a study"
        ) from error
    except (OSError, ValueError) as error:
        raise PlanError(f"{path}: cannot be read as TOML: {error}") from error
    return parse_plan(values, str(path))


def parse_plan(values: Mapping[str, Any], where: str) -> SealedPlan:
    """Build a plan from parsed TOML; arguments and errors as in `load_plan`."""
    reader = _Reader(values)
    plan = reader.plan()
    if reader.faults:
        raise PlanError(listed(where, reader.faults))
    return plan


class _Reader:
    """Reads a plan key by key and collects what is wrong."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.faults = [unknown("key", key, _KEYS) for key in values if key not in _KEYS]

    def plan(self) -> SealedPlan:
        arms = self._arms()
        name = self._values.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.faults.append(f"name: must be {_NAME_RULE}, got {name!r}")
        return SealedPlan(
            name=str(name),
            metrics=self._metrics(),
            contrasts=self._contrasts([*(arm.name for arm in arms), FLOOR]),
            seeds=self._number("seeds"),
            study_seed=self._number("study_seed"),
            resamples=self._number("resamples"),
            permutations=self._number("permutations"),
            precision=self._precision(),
            origin=self._origin(),
            arms=tuple(arms),
        )

    def _get(self, name: str) -> Any:
        return self._values.get(name, SETTINGS[name])

    def _number(self, name: str) -> int:
        value, (low, high) = self._get(name), _NUMBERS[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.faults.append(f"{name}: must be a whole number in [{low}, {high}], got {value!r}")
            return low
        return value

    def _precision(self) -> str:
        value = self._get("precision")
        if value not in PRECISIONS:
            self.faults.append(f"precision: {unknown('value', str(value), PRECISIONS)}")
        return str(value)

    def _metrics(self) -> tuple[str, ...]:
        given = self._get("metrics")
        if not isinstance(given, list) or not given:
            self.faults.append(f"metrics: must be a list of one or more names, got {given!r}")
            return ()
        wrong = [str(name) for name in given if name not in METRICS]
        self.faults += [f"metrics: {unknown('metric', name, METRICS)}" for name in wrong]
        self.faults += [
            f"metrics: '{name}' is listed more than once"
            for name in sorted({str(name) for name in given if given.count(name) > 1})
        ]
        return tuple(map(str, given))

    def _contrasts(self, names: list[str]) -> tuple[tuple[str, str], ...]:
        given = self._get("contrasts")
        if not isinstance(given, list):
            self.faults.append(f"contrasts: must be a list of pairs of arms, got {given!r}")
            return ()
        pairs: list[tuple[str, str]] = []
        for number, pair in enumerate(given, start=1):
            where = f"contrasts[{number}]"
            if not isinstance(pair, list) or [type(name) for name in pair] != [str, str]:
                self.faults.append(f'{where}: must be a pair of arms ["a", "b"], got {pair!r}')
                continue
            self.faults += [
                f"{where}: {unknown('arm', name, names)}" for name in pair if name not in names
            ]
            if pair[0] == pair[1]:
                self.faults.append(f"{where}: '{pair[0]}' is compared with itself")
            elif tuple(pair) in pairs or tuple(reversed(pair)) in pairs:
                self.faults.append(f"{where}: {pair[0]} and {pair[1]} are compared already")
            pairs.append((pair[0], pair[1]))
        return tuple(pairs)

    def _origin(self) -> Origin | None:
        given = self._values.get("study")
        if given is None:
            return None
        if not isinstance(given, Mapping):
            self.faults.append(f"study: must be a table [study], got {given!r}")
            return None
        self.faults += [
            f"study.{key}: {unknown('key', key, _STUDY_KEYS)}"
            for key in given
            if key not in _STUDY_KEYS
        ]
        for key in ("name", "fingerprint"):
            if not isinstance(given.get(key), str) or not given[key]:
                self.faults.append(f"study.{key}: must be a text, got {given.get(key)!r}")
        data = given.get("data", {})
        if not isinstance(data, Mapping) or any(not isinstance(v, str) for v in data.values()):
            self.faults.append(f"study.data: must be a table of window = digest, got {data!r}")
            data = {}
        return Origin(
            name=str(given.get("name")), fingerprint=str(given.get("fingerprint")), data=data
        )

    def _arms(self) -> list[Arm]:
        given = self._values.get("arms")
        if not isinstance(given, list) or not given:
            self.faults.append("arms: a plan needs one or more [[arms]]")
            return []
        arms = []
        for number, entry in enumerate(given, start=1):
            arm = self._arm(f"arms[{number}]", entry)
            if arm is not None:
                arms.append(arm)
        names, digests = [arm.name for arm in arms], dict[str, str]()
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.faults.append(f"arms: the name '{name}' is used more than once")
        for arm in arms:
            digest = rules.digest(arm.config)
            if digest in digests:
                self.faults.append(
                    f"arms.{arm.name}: is the same configuration as {digests[digest]}"
                )
            digests.setdefault(digest, arm.name)
        return arms

    def _arm(self, where: str, entry: Any) -> Arm | None:
        if not isinstance(entry, Mapping):
            self.faults.append(f"{where}: must be a table [[arms]], got {entry!r}")
            return None
        name = entry.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.faults.append(f"{where}: name must be {_NAME_RULE}, got {name!r}")
            return None
        if name == FLOOR:
            self.faults.append(
                f"{where}: '{FLOOR}' is the logistic floor, which every plan includes; "
                "choose another name"
            )
        values = {key: value for key, value in entry.items() if key != "name"}
        found = [
            fault
            for key, value in values.items()
            for fault in (
                value_faults(key, value, PARAMETERS[key])
                if key in PARAMETERS
                else [unknown("parameter", key, PARAMETERS)]
            )
        ]
        self.faults += [f"arms.{name}: {fault}" for fault in found]
        if found:
            return None
        config = TrialConfig.from_flat(values)
        try:
            rules.check_combination(config.signal, config.model)
        except ConfigError as error:
            self.faults.append(f"arms.{name}: {error}")
            return None
        return Arm(name=name, config=config)
