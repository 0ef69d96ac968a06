"""A folder of WFDB records that trained models are tested on: another database, one's own.

Every record with beat annotations is taken, at any sampling rate from 100 Hz to 10 kHz, and goes
through the preparation that MIT-BIH goes through: signal and R peaks at 360 Hz, the same filter,
windows, RR features and reasons to leave a beat out. What such folders have beside is found here:
other lead names, beats annotated twice, classes that no or hardly any patient has.

MIT-BIH's own records are refused, told by their content: models train on DS1, and DS2 is sealed.
Excerpts of them in other databases (records sel1xx and sel2xx of the QT database, the noise
stress test) cannot be told; leave them out by a split file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.data.annotations import read_annotations
from study.data.beats import SHORTEST_RR_S
from study.data.checksums import published_among, require_records_folder
from study.data.doubled import Doubled
from study.data.records import DS1, LEADS
from study.data.source import Source
from study.data.split_file import load_split, record_checksums
from study.data.synthetic import MANIFEST
from study.data.wfdb_header import read_header
from study.data.wfdb_record import ReadingRules, check_rate, choose_lead
from study.errors import DataError, MissingDataError, NoBeatsError, listed

EXTERNAL_LEADS = ("MLII", "II", *LEADS[1:])
"""Leads taken where none is named, best first: II is what MLII modifies for long recordings."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class External:
    """The records of a folder that models can be tested on.

    Args:
        source: The records, as `study.data.prepare` takes them.
        leads: The lead read of each record.
        rates_hz: The sampling rate of each record's files.
        doubled: Beats annotated more than once, of each record that has some.
        without_beats: Records left out because they have no annotations.
    """

    source: Source
    leads: Mapping[str, str]
    rates_hz: Mapping[str, float]
    doubled: Mapping[str, tuple[Doubled, ...]]
    without_beats: tuple[str, ...]


def external_rules(leads: Sequence[str] = ()) -> ReadingRules:
    """Return what a record that is no study's must be like; leads as in `find_external`."""
    return ReadingRules(
        leads=tuple(leads) or EXTERNAL_LEADS, sampling_rate_hz=None, shortest_rr_s=SHORTEST_RR_S
    )


def find_external(
    folder: Path, *, leads: Sequence[str] = (), split_file: Path | None = None
) -> External:
    """Find the records of a folder, or those of a split file, and check what is cheap to check.

    Args:
        folder: Where they are, in subfolders too.
        leads: Accepted leads, best first; `EXTERNAL_LEADS` if empty and no split file names one.
        split_file: Which records, and whose (see `study.data.split_file`); None takes all that
            have annotations, each a patient of its own.

    Raises:
        MissingDataError: If the folder or the split file is not there, or holds no records with
            annotations.
        ConfigError: If the split file breaks a rule.
        DataError: If a record's header, rate, leads or annotations cannot be used, or it is one
            of MIT-BIH's DS1 or DS2; all together.
    """
    require_records_folder(folder)
    split = load_split(split_file) if split_file is not None else None
    rules = external_rules(leads or (split.leads if split else ()))
    found: dict[str, _Found] = {}
    without, faults = [], []
    for name in split.development if split else _names(folder):
        try:
            found[name] = _examine(folder, name, rules)
        except DataError as err:
            # Of a folder the records with beats are meant; of a split file all that it names.
            if split is None and _has_no_beats(err, folder, name):
                without.append(name)
            else:
                faults.append(str(err))
    if faults:
        raise DataError(listed(f"--records {folder}", faults))
    if not found:
        raise MissingDataError(
            f"--records {folder}: none of {len(without)} records has beat annotations (.atr)"
        )
    synthetic = (folder / MANIFEST).exists()
    title = split.name if split else _slug(folder)
    source = Source(
        kind="synthetic" if synthetic else "records",
        dataset=title,
        folder=folder,
        development=tuple(sorted(found)),
        patients=split.patients if split else {name: name for name in found},
        rules=rules,
        checksums={file: sum_ for one in found.values() for file, sum_ in one.checksums.items()},
        verified=False,
        description=f"{'SYNTHETIC' if synthetic else 'external'} records '{title}' in {folder}",
    )
    return External(
        source=source,
        leads={name: one.lead for name, one in found.items()},
        rates_hz={name: one.rate_hz for name, one in found.items()},
        doubled={name: one.doubled for name, one in found.items() if one.doubled},
        without_beats=tuple(without),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    lead: str
    rate_hz: float
    doubled: tuple[Doubled, ...]
    checksums: Mapping[str, str]


def _names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.hea")
    )


def _has_no_beats(err: DataError, folder: Path, name: str) -> bool:
    return isinstance(err, NoBeatsError) or not (folder / f"{name}.atr").exists()


def _examine(folder: Path, name: str, rules: ReadingRules) -> _Found:
    checksums = record_checksums(folder, name)
    known = published_among(checksums, DS1)
    if known is not None:
        raise DataError(
            f"{folder / known.file}: is {known.published} of MIT-BIH's DS1, which models are "
            "trained on: it can test none"
        )
    header = read_header(folder, name)
    check_rate(header, rules)
    lead = header.leads[choose_lead(header, rules)]
    annotations = read_annotations(
        folder,
        name,
        sampling_rate_hz=header.sampling_rate_hz,
        shortest_rr_s=rules.shortest_rr_s,
    )
    return _Found(
        lead=lead,
        rate_hz=header.sampling_rate_hz,
        doubled=annotations.doubled,
        checksums=checksums,
    )


def _slug(folder: Path) -> str:
    """Name a data set by its folder; the names of MIT-BIH's are taken."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "records"
    return f"{name}-external" if name in ("DS1", "DS2") else name
