"""The `[test]` table of a compare space: the sealed test of arms trained on all records.

[compare]
draws = 1
folds = "all"                                  # every record trains, none validates
seeds = 10                                     # models of each arm, 10 or more

[test]                                         # what is not given has the value shown
name = "film_or_not"
metrics = ["auprc_sv", "auroc_sv"]             # the first is the primary one
contrasts = [["film", "film_placebo"]]         # tested, first minus second; default: none
floor = "logistic_regression"                  # every arm is held against it, in pairs
development = "mitdb"                          # what arms train on, as `--data` of a study
study_seed = 0                                 # root of all random streams
resamples = 2000                               # of patients and seeds, for intervals
permutations = 10000                           # of records between arms, for p
precision = "auto"                             # of training, as `--precision` of a study

[test.study]                                   # optional: where the arms come from
name = "fusion_compare"
fingerprint = "0123456789ab"                   # of its plan
data = { "beat/antialiased" = "ab0123456789" } # of its beats, by window

An arm may train on other records: `development = "mitdb+svdb"` in its table. `records` are one's
own, those of a split file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.data.catalogue import database_faults, databases_of
from study.errors import unknown
from study.keys import AGGREGATES, CLASSES, FLOORS, PRECISIONS

MIN_SEEDS = 10
"""Seeds of each arm: single seeds of one configuration differ by more than arms do."""

METRICS = tuple(f"{m}_{of}" for m in ("auprc", "auroc") for of in (*AGGREGATES, *CLASSES))
"""Metrics that a test may declare; all are reported, only declared ones are tested."""

DEFAULTS: dict[str, Any] = {
    "metrics": ["auprc_sv", "auroc_sv"],
    "contrasts": [],
    "floor": "logistic_regression",
    "development": "mitdb",
    "study_seed": 0,
    "resamples": 2000,
    "permutations": 10_000,
    "precision": "auto",
}
"""Every setting of a test, with its default."""

OWN = "records"
"""Stands for one's own records, those that a split file names for development."""

_STUDY_KEYS = ("name", "fingerprint", "data")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NAME_RULE = "letters, digits, '-', '_' and '.', at most 100, beginning with a letter or digit"
_RANGES = {
    "study_seed": (0, 2**31 - 1),
    "resamples": (100, 100_000),
    "permutations": (100, 1_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The study that a test's arms come from."""

    name: str
    fingerprint: str  # digest of its plan
    # Digest of its beats, by cut
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedTest:
    """The settings of a sealed test."""

    name: str
    metrics: tuple[str, ...]  # metrics whose contrasts are computed, the primary one first
    contrasts: tuple[tuple[str, str], ...]  # pairs of arms, first minus second: what is tested
    floor: str  # of `study.keys.FLOORS`: every arm is compared with it
    development: str  # records that arms train on: databases joined by +, or `records`
    # Other records that some arms train on, by arm
    developments: Mapping[str, str] = field(default_factory=dict)
    study_seed: int  # root of all random streams
    resamples: int  # resamples of patients and seeds behind every interval
    permutations: int  # swaps of records behind every p
    precision: str  # of training: `auto`, or one of the others of `study.keys.PRECISIONS`
    origin: Origin | None = None  # where the arms come from; None for a test by hand

    @property
    def contrasts_text(self) -> str:
        """The contrasts in words; empty without any."""
        return ", ".join(f"{first} - {second}" for first, second in self.contrasts)

    def development_of(self, arm: str) -> str:
        """Return what an arm trains on."""
        return self.developments.get(arm, self.development)

    def floors_on(self, development: str) -> dict[str, str]:
        """Return the floors that are fitted on some records: each one's name in this test."""
        return {
            floor: floor if development == self.development else name_on(floor, development)
            for floor in FLOORS
        }


def name_on(name: str, development: str) -> str:
    """Return the name of an arm or a floor that trains on other records than most of the test."""
    return f"{name}_on_{development.replace('+', '_')}"


def read_test(
    table: Mapping[str, Any], developments: Mapping[str, Any]
) -> tuple[SealedTest | None, list[str]]:
    """Return the test of a `[test]` table, without contrasts, and its faults; None if any.

    `developments` says what arms train on, where their tables do.
    """
    values = {**DEFAULTS, **table, "contrasts": ()}
    study = values.pop("study", None)
    faults = [f"test.{fault}" for fault in (*_setting_faults(values), *_study_faults(study))]
    faults += [
        f"arms.{arm}.{fault}" for arm, name in developments.items() for fault in _unusable(name)
    ]
    if faults:
        return None, faults
    values["metrics"] = tuple(values["metrics"])
    values["development"] = canonical(values["development"])
    others = {arm: canonical(name) for arm, name in developments.items()}
    values["developments"] = {
        a: name for a, name in others.items() if name != values["development"]
    }
    return SealedTest(**values, origin=None if study is None else Origin(**study)), []


def canonical(development: str) -> str:
    """Return the one name of training records: databases in the order of the catalogue.

    Raises:
        UsageError: If there is no such database, or one is named twice.
    """
    if development == OWN:
        return OWN
    return "+".join(database.name for database in databases_of(development))


def _unusable(development: Any) -> Iterator[str]:
    """Yield what is wrong with the name of training records."""
    if not isinstance(development, str):
        yield f"development: must be a text such as 'mitdb+svdb', got {development!r}"
    elif development != OWN:
        yield from (f"development: {fault}" for fault in database_faults(development))


def _setting_faults(values: Mapping[str, Any]) -> Iterator[str]:
    known = ("name", *DEFAULTS, "study")
    for key, value in values.items():
        if key not in known:
            yield f"{key}: {unknown('setting', key, known)}"
        elif key in _RANGES:
            low, high = _RANGES[key]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                yield f"{key}: must be a whole number in [{low}, {high}], got {value!r}"
    if (precision := values["precision"]) not in PRECISIONS:
        yield f"precision: {unknown('value', str(precision), PRECISIONS)}"
    yield from _unusable(values["development"])
    if (floor := values["floor"]) not in FLOORS:
        yield f"floor: {unknown('floor', str(floor), FLOORS)}"
    name = values.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f"name: must be {_NAME_RULE}, got {name!r}"
    yield from _metric_faults(values["metrics"])


def _metric_faults(metrics: Any) -> Iterator[str]:
    if not isinstance(metrics, list) or not metrics:
        yield f"metrics: must be a list of one or more names, got {metrics!r}"
        return
    for name in metrics:
        if name not in METRICS:
            yield f"metrics: {unknown('metric', str(name), METRICS)}"
    for name in sorted({str(name) for name in metrics if metrics.count(name) > 1}):
        yield f"metrics: '{name}' is listed more than once"


def _study_faults(study: Any) -> Iterator[str]:
    if study is None:
        return
    if not isinstance(study, Mapping):
        yield f"study: must be a table [test.study], got {study!r}"
        return
    for key in study:
        if key not in _STUDY_KEYS:
            yield f"study.{key}: {unknown('key', key, _STUDY_KEYS)}"
    for key in ("name", "fingerprint"):
        if not isinstance(study.get(key), str) or not study[key]:
            yield f"study.{key}: must be a text, got {study.get(key)!r}"
    data = study.get("data", {})
    if not isinstance(data, Mapping) or any(not isinstance(v, str) for v in data.values()):
        yield f"study.data: must be a table of window = digest, got {data!r}"
