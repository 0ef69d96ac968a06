"""The databases that a study can use, by name: their facts are in `catalogue.toml`.

To add a database, write its entry there. Names of records must differ from those of all other
databases, so that a study of several needs no prefixes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from study.errors import UsageError, listed, unknown

FILE_SUFFIXES = (".hea", ".dat", ".atr")
"""Files of one record of a database: header, signals, reference annotations."""

ANNOTATIONS = (".atr", ".ecg", ".qrs")
"""Suffixes of beat annotations: of a record the first that is there is read."""

CHECKSUMS_LIST = "SHA256SUMS.txt"
"""Name of PhysioNet's list of checksums, among a database's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A published database; the fields are keys of `catalogue.toml`."""

    name: str  # also its slug at PhysioNet
    title: str
    version: str
    licence: str
    citation: str
    doi: str
    sampling_rate_hz: float
    leads: tuple[str, ...]  # accepted leads, best first
    names: tuple[str, str]  # names of its development and of its test set
    development: tuple[str, ...]  # records that a study trains and selects on
    test_records: tuple[str, ...]  # records that only a sealed test reads
    left_out: tuple[str, ...]  # records that are not studied
    patient_of: Mapping[str, str]  # patient of each of these records
    beats_once: bool  # whether no beat is annotated twice
    list_sha256: str  # SHA-256 of PhysioNet's list of checksums; empty where it is not known
    unknown: str  # what it does not tell, such as patients

    @property
    def has_split(self) -> bool:
        """Whether its test records are others than those for development."""
        return not set(self.development) & set(self.test_records)

    @property
    def records(self) -> tuple[str, ...]:
        """All of its records, sorted."""
        return tuple(sorted({*self.development, *self.test_records, *self.left_out}))

    @property
    def variable(self) -> str:
        """Environment variable that names its folder."""
        return f"{self.name.upper()}_DIR"

    def checksums(self) -> Mapping[str, str]:
        """Return the published SHA-256 of every file of its records, empty if not in this package.

        The list is then fetched with the records (`study.data.fetch`).
        """
        return _packaged_checksums(self.name)


@cache
def _packaged_checksums(name: str) -> Mapping[str, str]:
    path = files("study.data") / f"{name}_sha256.txt"
    return parsed_checksums(path.read_text(encoding="ascii") if path.is_file() else "")


def parsed_checksums(text: str) -> Mapping[str, str]:
    """Return the SHA-256 of each file that a list of checksums names, a line `SHA-256 file`."""
    return MappingProxyType({name: digest for digest, name in map(str.split, text.splitlines())})


def _database(name: str, entry: Mapping[str, Any]) -> Database:
    development = tuple(entry["development"].split())
    test_records = tuple(entry.get("test", "").split()) or development
    left_out = tuple(entry.get("left_out", "").split())
    patient_of = {record: record for record in (*development, *test_records, *left_out)}
    for group in map(str.split, entry.get("same_patient", ())):
        patient_of |= dict.fromkeys(group, group[0])
    return Database(
        name=name,
        **{key: entry[key].strip() for key in ("title", "version", "licence", "citation", "doi")},
        sampling_rate_hz=entry["sampling_rate_hz"],
        leads=tuple(entry["leads"]),
        names=tuple(entry.get("names", (name, name))),
        development=development,
        test_records=test_records,
        left_out=left_out,
        patient_of=MappingProxyType(patient_of),
        beats_once=entry.get("beats_once", False),
        list_sha256=entry.get("list_sha256", ""),
        unknown=entry.get("unknown", "").strip(),
    )


def _catalogue() -> Mapping[str, Database]:
    text = (files("study.data") / "catalogue.toml").read_text(encoding="utf-8")
    return MappingProxyType(
        {name: _database(name, entry) for name, entry in tomllib.loads(text).items()}
    )


CATALOGUE = _catalogue()
"""Every database, by name."""

MITDB = CATALOGUE["mitdb"]

DS1, DS2 = MITDB.development, MITDB.test_records
"""MIT-BIH's records for development, which a study uses, and its sealed test records."""

PUBLISHED_VALIDATION = ("114", "124", "205", "207", "220")
"""Validation records of the published 17/5 hold-out of DS1."""

PATIENT_OF = MITDB.patient_of
"""Patient of each record of MIT-BIH: 201 (DS1) and 202 (DS2) are one person."""

LEADS = MITDB.leads
"""Leads of MIT-BIH, best first."""

EXTERNAL_LEADS = ("MLII", "II", *LEADS[1:], *CATALOGUE["ltdb"].leads)
"""Leads read of records that models are only tested on or used for, best first.

MLII is lead II modified for long recordings. The last are the unnamed leads of `svdb` and `ltdb`.
"""


def databases_of(text: str) -> tuple[Database, ...]:
    """Return the databases that `--data` names, joined by +, in the order of the catalogue.

    Raises:
        UsageError: If one is not in the catalogue, or named twice.
    """
    if faults := database_faults(text):
        raise UsageError(listed(f"--data {text}", faults))
    names = text.split("+")
    return tuple(database for name, database in CATALOGUE.items() if name in names)


def database_faults(text: str) -> list[str]:
    """Return why `databases_of` refuses a text."""
    names = text.split("+")
    faults = [unknown("database", name, CATALOGUE) for name in names if name not in CATALOGUE]
    return faults + [
        f"{name} is named twice" for name in sorted({*names}) if names.count(name) > 1
    ]
