"""The TOML form of a search space: from text to the fields of a space, every fault collected.

Faults that need the whole space, such as illegal combinations, are found by
`study.spaces.checks`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from study.config import GROUPS, PARAMETERS, PLACEBO_SUFFIX
from study.data.folds import ALL
from study.errors import unknown
from study.keys import UNRANKED, current_word
from study.spaces.draws import Exclusion
from study.spaces.entries import (
    ValueCheck,
    cast,
    in_order,
    parameter,
    values_faults,
    with_condition,
)
from study.spaces.parameter import ArmSpec, Categorical, Parameter, Value
from study.spaces.sealed_plan import MIN_SEEDS, read_test
from study.spaces.settings import KINDS, SETTINGS, setting_faults

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""What the name of a space or an arm is made of."""

_NUMBERS_OF_TRAINING = {
    name for name in GROUPS["train"].__annotations__ if PARAMETERS[name] is not str
}
"""Parameters that make no combination illegal and no other parameter idle."""

_T = TypeVar("_T")

_SECTIONS = ("description", *KINDS, "fixed", "params", "arms", "exclude", "test")
_OF_ARMS = ("reference", "contrasts")
_OF_TEST = ("draws", "folds", "seeds")
"""Settings of `[compare]` beside a `[test]` table."""


def read_tables(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of a TOML file, or why it has none."""
    try:
        tables = tomllib.loads(text)
        repr(tables)  # a fault quotes what it is about, which Python must be able to print
        return _with_words_of_today(tables), []
    except ValueError as error:  # also of a number of more than 4300 digits
        return {}, [f"is not TOML: {error}"]
    except RecursionError:
        return {}, ["is not TOML that can be read: it is nested too deeply"]


def _with_words_of_today(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_words_of_today(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_words_of_today(entry) for entry in value]
    return current_word(value)


def parse_tables(
    tables: Mapping[str, Any], check: ValueCheck = values_faults
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of `study.spaces.space.Space` and all faults, each with its key.

    There are no fields if faults hide some combinations.
    """
    reader = _Reader(tables, check)
    fields = reader.fields()
    return fields if reader.combinations_known else {}, reader.faults


class _Reader:
    """Reads the sections one by one and collects what is wrong with them."""

    def __init__(self, data: Mapping[str, Any], check: ValueCheck) -> None:
        self.faults: list[str] = []
        self._data = data
        self._check = check
        # Whether every section that decides the combinations was read without a fault
        self.combinations_known = True
        kinds = [kind for kind in KINDS if kind in data]
        self._kind = kinds[0] if kinds else "search"
        if len(kinds) != 1:
            got = "both" if kinds else "none"
            self.faults.append(f"needs exactly one of [search] and [compare], but got {got}")
        for key in data:
            if key not in _SECTIONS:
                self.faults.append(unknown("key", key, _SECTIONS))
        self._tests = "test" in data and self._kind == "compare"
        self._developments: dict[str, Any] = {}  # what arms of a test train on, if they say so
        for key in ("params", "exclude") if self._tests else ():
            if key in data:
                self.faults.append(f"[{key}] means nothing beside [test]: an arm says every value")
        self.combinations_known = not self.faults

    def _deciding(self, read: Callable[[], _T]) -> _T:
        """Read a section that decides the combinations."""
        before = len(self.faults)
        section = read()
        self.combinations_known &= len(self.faults) == before
        return section

    def fields(self) -> dict[str, Any]:
        known = self._kind in self._data
        fields: dict[str, Any] = {"kind": self._kind, "description": self._description()}
        fields |= self._settings() if known else {}
        fields |= {"fixed": self._deciding(self._fixed), "params": self._params()}
        if known:
            fields |= self._compare(fields) if self._kind == "compare" else self._search(fields)
        return fields

    def _compare(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        if "exclude" in self._data:
            self.faults.append("[[exclude]] means nothing in a compare space")
        draws = fields["draws"] or 1  # None where it has a fault itself
        if not self._data.get("params") and draws > 1:
            self.faults.append(
                f"compare.draws: must be 1, as [params] has nothing to draw; got {draws}"
            )
        arms = self._deciding(self._arms)
        trials = len(arms) * draws
        pairs = self._test if self._tests else self._pairs
        return {"arms": arms, "trials": trials, **pairs({arm.name: arm for arm in arms})}

    def _search(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        for key, table in (("arms", "[[arms]]"), ("test", "[test]")):
            if key in self._data:
                self.faults.append(f"{table} means nothing in a search space")
        if not self._data.get("params"):
            self.faults.append("params: nothing to search; give at least one [params.NAME]")
        return {"exclude": self._deciding(lambda: self._exclude(fields["params"]))}

    def _description(self) -> str:
        text = self._data.get("description")
        if isinstance(text, str) and text.strip():
            return text.strip()
        self.faults.append(f"description: must be a line of text, got {text!r}")
        return ""

    def _settings(self) -> dict[str, Any]:
        given = self._table(self._kind, self._data.get(self._kind, {}))
        compare = self._kind == "compare"
        known = [name for name in SETTINGS if self._kind in SETTINGS[name].kinds]
        known += _OF_ARMS if compare else ()
        known = list(_OF_TEST) if self._tests else known
        for name in given:
            if name not in known:
                self.faults.append(f"{self._kind}.{name}: {unknown('setting', name, known)}")
        settings: dict[str, Any] = {"sampler": "draws", "scheduler": "none"} if compare else {}
        settings |= {"reduction_factor": 3, "trials": 0, "draws": 0}
        for name in known:
            if name not in _OF_ARMS and not (self._tests and name == "folds"):
                settings[name] = self._setting(name, given)
        return {**settings, **self._of_test(given, settings)} if self._tests else settings

    def _of_test(self, given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `[test]` decides: every record trains, so that nothing is scored."""
        if given.get("folds") != ALL:
            self.faults.append(
                f"compare.folds: must be '{ALL}' beside [test], got {given.get('folds')!r}"
            )
        if (seeds := settings["seeds"]) < MIN_SEEDS:
            self.faults.append(
                f"compare.seeds: must be {MIN_SEEDS} or more beside [test], got {seeds}"
            )
        return {"folds": ALL, "objective": UNRANKED}

    def _setting(self, name: str, given: Mapping[str, Any]) -> Any:
        default = SETTINGS[name].default
        if name in given:
            faults = setting_faults(self._kind, name, given[name])
            self.faults += [f"{self._kind}.{fault}" for fault in faults]
            return default if faults else given[name]
        by_grid = name == "trials" and given.get("sampler") == "grid"
        if default is None and not by_grid:
            self.faults.append(f"{self._kind}.{name}: is missing")
        return 0 if default is None else default

    def _fixed(self) -> dict[str, Value]:
        fixed = {}
        searched = self._table("params", self._data.get("params", {}))
        for name, value in self._table("fixed", self._data.get("fixed", {})).items():
            faults = self._check(name, value)
            if not faults and name in searched:
                faults = [f"{name}: is also in [params]; leave one of them out"]
            self.faults += [f"fixed: {fault}" for fault in faults]
            if not faults:
                fixed[name] = cast(name, value)
        return fixed

    def _params(self) -> tuple[Parameter, ...]:
        specs = self._table("params", self._data.get("params", {}))
        built: dict[str, Parameter] = {}
        for name, spec in specs.items():
            param, faults = parameter(name, spec, self._check)
            self.faults += [f"params.{fault}" for fault in faults]
            if param is not None:
                built[name] = param
        self.combinations_known &= specs.keys() - built.keys() <= _NUMBERS_OF_TRAINING
        return self._deciding(lambda: self._with_conditions(specs, built))

    def _with_conditions(
        self, specs: Mapping[str, Any], built: dict[str, Parameter]
    ) -> tuple[Parameter, ...]:
        lost = specs.keys() - built.keys()
        compare = self._kind == "compare"
        for name in [name for name in built if "when" in specs[name]]:
            when = specs[name]["when"]
            if isinstance(when, Mapping) and lost & when.keys():
                # A condition on a parameter that has faults itself cannot be judged.
                self.combinations_known = False
                continue
            built[name], faults = with_condition(
                built[name], when, built, self._check, free=compare
            )
            self.faults += [f"params.{fault}" for fault in faults]
        ordered, faults = in_order(built.values())
        self.faults += [f"params.{fault}" for fault in faults]
        return tuple(ordered)

    def _arms(self) -> tuple[ArmSpec, ...]:
        arms: list[ArmSpec] = []
        for number, entry in enumerate(self._tables("arms"), start=1):
            name = entry.get("name")
            if not isinstance(name, str) or not NAME.fullmatch(name):
                self.faults.append(
                    f"arms[{number}]: name must be letters, digits, - and _, at most 100, "
                    f"got {name!r}"
                )
                continue
            arms += self._arm(name, entry)
        times = Counter(arm.name for arm in arms)
        for name in sorted(name for name, n in times.items() if n > 1):
            self.faults.append(f"arms.{name}: the name is used more than once")
        if not arms:
            self.faults.append("arms: a compare space needs at least one [[arms]]")
        return tuple(arms)

    def _arm(self, name: str, entry: Mapping[str, Any]) -> list[ArmSpec]:
        placebo, values = entry.get("placebo", False), {}
        drawn = self._table("params", self._data.get("params", {}))
        faults = []
        for key, value in entry.items():
            if key in ("name", "placebo"):
                continue
            if key == "development" and self._tests:
                self._developments |= {name: value}
                continue
            own = self._check(key, value)
            if not own and key in drawn:
                own = [f"{key}: is drawn for every arm by [params]; an arm cannot set it"]
            faults += own
            if not own:
                values[key] = cast(key, value)
        if not isinstance(placebo, bool):
            faults.append(f"placebo: must be true or false, got {placebo!r}")
        elif placebo and values.get("rr") == "placebo":
            faults.append('placebo: the arm has rr = "placebo" already')
        self.faults += [f"arms.{name}: {fault}" for fault in faults]
        arms = [ArmSpec(name=name, values=values)]
        if placebo is True:
            arms.append(ArmSpec(name=name + PLACEBO_SUFFIX, values={**values, "rr": "placebo"}))
            if name in self._developments:
                self._developments[name + PLACEBO_SUFFIX] = self._developments[name]
        return arms

    def _pairs(self, arms: Mapping[str, ArmSpec]) -> dict[str, Any]:
        given = self._table("compare", self._data.get("compare", {}))
        reference = given.get("reference")
        if reference is None:
            self.faults.append(
                f"compare.reference: is missing; arms: {', '.join(sorted(arms)) or 'none yet'}"
            )
        elif not isinstance(reference, str):
            self.faults.append(f"compare.reference: must be the name of an arm, got {reference!r}")
        elif reference not in arms and arms:
            self.faults.append(f"compare.reference: {unknown('arm', reference, arms)}")
        contrasts = self._contrasts("compare.contrasts", given.get("contrasts", []), set(arms))
        return {"reference": str(reference), "contrasts": contrasts}

    def _test(self, arms: Mapping[str, ArmSpec]) -> dict[str, Any]:
        table = self._table("test", self._data["test"])
        test, faults = read_test(table, self._developments)
        self.faults += faults
        used = {test.development_of(arm) for arm in arms} if test else set()
        floors = {name for of in used for name in test.floors_on(of).values()} if test else set()
        self.faults += [
            f"arms.{name}: is the name of a floor, which every sealed test scores; choose another"
            for name in sorted(floors & {*arms})
        ]
        names = {*arms, *floors} if test else set()
        contrasts = self._contrasts("test.contrasts", table.get("contrasts", []), names)
        test = test and replace(test, contrasts=contrasts)
        return {"reference": next(iter(arms), ""), "test": test}

    def _contrasts(self, key: str, pairs: Any, arms: set[str]) -> tuple[tuple[str, str], ...]:
        if not isinstance(pairs, list):
            self.faults.append(f"{key}: must be a list of pairs of arms, got {pairs!r}")
            return ()
        contrasts: list[tuple[str, str]] = []
        for number, pair in enumerate(pairs, start=1):
            faults = _pair_faults(pair, contrasts, arms)
            self.faults += [f"{key}[{number}]: {fault}" for fault in faults]
            if isinstance(pair, list) and len(pair) == 2:
                contrasts.append((pair[0], pair[1]))
        return tuple(contrasts)

    def _exclude(self, params: tuple[Parameter, ...]) -> tuple[Exclusion, ...]:
        lists = {param.name: param for param in params if isinstance(param, Categorical)}
        entries = []
        for number, entry in enumerate(self._tables("exclude"), start=1):
            where, combination = f"exclude[{number}]", {}
            for name, given in entry.items():
                values = given if isinstance(given, list) else [given]
                if name not in lists:
                    known = unknown("searched parameter with values", name, lists)
                    self.faults.append(f"{where}: {known}")
                    continue
                param = lists[name]
                self.faults += [
                    f"{where}: {name}: {unknown('value', str(value), map(str, param.values))}"
                    for value in values
                    if not param.contains(value)
                ]
                combination[name] = tuple(
                    param.snap(value) for value in values if param.contains(value)
                )
            if not entry:
                self.faults.append(f"{where}: is empty and would leave out everything")
            entries.append(combination)
        return tuple(entries)

    def _table(self, name: str, value: Any) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        fault = f"{name}: must be a table [{name}], got {value!r}"
        if fault not in self.faults:
            self.faults.append(fault)
        return {}

    def _tables(self, name: str) -> list[Mapping[str, Any]]:
        value = self._data.get(name, [])
        if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
            return value
        self.faults.append(f"{name}: must be a list of tables [[{name}]], got {value!r}")
        return []


def _pair_faults(pair: object, before: Sequence[tuple[str, str]], arms: set[str]) -> list[str]:
    """Return what is wrong with one pair of arms, given those that stand before it."""
    if not isinstance(pair, list) or [type(name) for name in pair] != [str, str]:
        return [f'must be a pair of arms ["a", "b"], got {pair!r}']
    faults = [unknown("arm", name, arms) for name in pair if arms and name not in arms]
    if pair[0] == pair[1]:
        faults.append(f"'{pair[0]}' is compared with itself")
    elif tuple(pair) in before or tuple(reversed(pair)) in before:
        faults.append(f"{pair[0]} and {pair[1]} are compared already")
    return faults
