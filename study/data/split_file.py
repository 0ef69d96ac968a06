"""The split file: it names the own WFDB records that a study uses (see `FORM`)."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.data.catalogue import ANNOTATIONS, LEADS
from study.errors import ConfigError, MissingDataError, listed, unknown
from study.keys import SYMBOLS
from study.wording import listing

if TYPE_CHECKING:
    from study.data.wfdb_record import ReadingRules

_SYMBOLS = "\n".join(
    f"  {name if name != 'Q' else 'left out':<9} {' '.join(symbols)}"
    for name, symbols in SYMBOLS.items()
)

FORM = f"""\
A split file is TOML:
  name = "mydata"                          names the data set; letters, digits, - and _
  development = ["a01", "a02", "p7/b01"]   record names without suffix, relative to --records
  test = ["a03"]                           optional; records that only a sealed test reads
  lead = "II"                              optional; default MLII, else V1, V2, V4, V5
  [patients]                               optional; default: each record is a patient
  a01 = "p1"                               records of one patient always share a fold
  a02 = "p1"
Each record needs a header (.hea), its signal file and beat annotations: the first of
{listing(ANNOTATIONS)} that is there. A record of several segments (WFDB's multi-segment records)
is one record, and its segments are not named. Sampling rates from 100 Hz to 10 kHz will do:
signals are resampled to 360 Hz, R peaks with them.

Beats by the symbol of their annotation; all other symbols are no beats:
{_SYMBOLS}
A .ecg or .qrs file that has only N or | is a detector's: it names no classes and cannot be used.
"""
"""Description of a split file for users."""

_KEYS = ("name", "development", "test", "patients", "lead")
# The name becomes a folder of the cache, where MIT-BIH already uses these.
_RESERVED = ("DS1", "DS2")
_SLUG = re.compile(r"[A-Za-z0-9_-]+")
RECORD_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
"""What a split file can name."""

_ADVICE = """\
# The records of a folder that a study can use. Each counts as a patient: name those of one person
# under [patients], as in  a01 = "p1". Records for a sealed test alone go under  test = ["a03"].
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The content of a split file."""

    name: str
    development: tuple[str, ...] = ()  # record names, sorted
    test: tuple[str, ...] = ()  # records that only a sealed test reads, sorted
    patients: Mapping[str, str] = field(default_factory=dict)  # patient of each record
    leads: tuple[str, ...] = ()  # the lead that the file names, if any

    @property
    def rules(self) -> ReadingRules:
        """What a study accepts: the leads, at any sampling rate, each beat once."""
        # Imported here: a command's help shows `FORM`, and should not load arrays.
        from study.data.wfdb_record import ReadingRules
        from study.data.windows import SHORTEST_RR_S

        return ReadingRules(
            leads=self.leads or LEADS, sampling_rate_hz=None, shortest_rr_s=SHORTEST_RR_S
        )


def write_split(path: Path, split: Split) -> None:
    """Write a split file of records for development, each a patient, with advice.

    Raises:
        FileExistsError: If there is a file already.
    """
    lines = [f"name = {json.dumps(split.name)}"]
    lines.append(f"development = {json.dumps(split.development, indent=2)}")
    lines += [f"lead = {json.dumps(lead)}" for lead in split.leads]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(_ADVICE + "\n".join(lines) + "\n")


def load_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        MissingDataError: If it is not there.
        ConfigError: If it is no TOML, or breaks a rule; all faults together.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(
            "no such split file; `python -m study.data --records DIR` says how to write one", path
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise ConfigError(f"{path}: cannot be read as TOML: {reason}") from error
    faults = [unknown("key", key, _KEYS) for key in values if key not in _KEYS]
    faults += [*_name_faults(values), *_record_faults(values, "development")]
    faults += _record_faults(values, "test") if "test" in values else []
    faults += [*_patient_faults(values), *_lead_faults(values)]
    faults = faults or _shared_faults(values)
    if faults:
        raise ConfigError(listed(str(path), faults))
    development, test = tuple(sorted(values["development"])), tuple(sorted(values.get("test", ())))
    patients = values.get("patients", {})
    return Split(
        name=values["name"],
        development=development,
        test=test,
        patients={name: patients.get(name, name) for name in (*development, *test)},
        leads=(values["lead"],) if "lead" in values else (),
    )


def _name_faults(values: Mapping[str, Any]) -> list[str]:
    name = values.get("name")
    if not isinstance(name, str) or not _SLUG.fullmatch(name):
        return [f"name: must be a word of letters, digits, - and _, got {name!r}"]
    return [f"name: {name} is MIT-BIH's; choose another"] if name in _RESERVED else []


def _record_faults(values: Mapping[str, Any], key: str) -> list[str]:
    names = values.get(key)
    if not isinstance(names, list) or not names:
        return [f"{key}: must be a list of one or more record names, got {names!r}"]
    faults = [
        f"{key}: must hold record names such as 'a01' or 'p1/a01', got {name!r}"
        for name in names
        if not isinstance(name, str) or not RECORD_NAME.fullmatch(name)
    ]
    repeated = sorted({name for name in names if isinstance(name, str) and names.count(name) > 1})
    return faults + [f"{key}: '{name}' is listed more than once" for name in repeated]


def _shared_faults(values: Mapping[str, Any]) -> list[str]:
    """Return the test records that are of a patient of the development records."""
    patients = values.get("patients", {})
    known = {patients.get(name, name): name for name in values["development"]}
    return [
        f"test: '{name}' is of the patient of '{known[patient]}', a development record"
        for name in values.get("test", ())
        if (patient := patients.get(name, name)) in known
    ]


def _patient_faults(values: Mapping[str, Any]) -> list[str]:
    patients = values.get("patients", {})
    if not isinstance(patients, dict):
        return [f"patients: must be a table of record = patient, got {patients!r}"]
    lists = [values.get(key) for key in ("development", "test")]
    names = [name for listed_ in lists if isinstance(listed_, list) for name in listed_]
    known = [name for name in names if isinstance(name, str)]
    faults = [f"patients: {unknown('record', n, known)}" for n in patients if n not in known]
    return faults + [
        f"patients: {name}: must be a text that is not empty, got {patient!r}"
        for name, patient in patients.items()
        if not isinstance(patient, str) or not patient
    ]


def _lead_faults(values: Mapping[str, Any]) -> list[str]:
    lead = values.get("lead", "MLII")
    if isinstance(lead, str) and lead:
        return []
    return [f"lead: must be the name of a lead, got {lead!r}"]
