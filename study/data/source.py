"""Where records come from: a given folder, a download, one's own records, or synthetic ones.

A study takes the first of: one's own records (`--records`, `--split`), a given folder of MIT-BIH
(`--data-dir`, then the variable `MITDB_DIR`), `./data/mitdb`, a download from PhysioNet into it,
and without network synthetic records. A given folder that is bad is an error, never a reason to
fall back. Of MIT-BIH only the files of DS1 are looked at: DS2 is sealed and may be absent.

Models can be tested on the records of any other folder (`find_external`): another database, or
one's own. Every record with beat annotations is taken, at any sampling rate from 100 Hz to 10 kHz.
MIT-BIH's own records, recognised by their content, are refused there: models train on DS1, and DS2
is sealed. Excerpts of them in other databases (records sel1xx and sel2xx of the QT database, the
noise stress test) cannot be recognised; leave them out by a split file.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.data.annotations import Doubled, read_annotations
from study.data.fetch import (
    KnownRecordError,
    UnreachableError,
    download_records,
    files_of,
    published_among,
    record_checksums,
    verified_checksums,
)
from study.data.records import DS1, LEADS, PATIENT_OF
from study.data.split_file import load_split
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_header import read_header, require_folder
from study.data.wfdb_record import MITDB_RULES, ReadingRules, read_lead
from study.data.windows import SHORTEST_RR_S
from study.errors import (
    DataError,
    MissingDataError,
    NoBeatsError,
    UsageError,
    listed,
    read_all,
    together,
)

DATA_DIR_VARIABLE = "MITDB_DIR"

EXTERNAL_LEADS = ("MLII", "II", *LEADS[1:])
"""Leads used where none is named, best first: MLII is lead II modified for long recordings."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Records that may be read, with the digests of their files."""

    kind: str  # `mitdb`, `records` (one's own) or `synthetic`
    dataset: str  # `DS1`, or the name of one's own split
    folder: Path  # folder of the WFDB files
    development: tuple[str, ...]  # names of the records, sorted
    patients: Mapping[str, str]  # patient of each record
    rules: ReadingRules = MITDB_RULES  # requirements on the records; pass them to `read_record`
    checksums: Mapping[str, str]  # SHA-256 of every file of the records, by file name
    verified: bool  # whether the checksums are the published ones
    description: str  # one line on the records' origin, for plans and tables

    @property
    def synthetic(self) -> bool:
        """Whether the records are synthetic."""
        return self.kind == "synthetic"


def find_source(
    *,
    data_dir: Path | None = None,
    records_dir: Path | None = None,
    split_file: Path | None = None,
    workspace: Path,
) -> Source:
    """Find the records of a study and verify or hash every file that it will read.

    Downloaded and synthetic records go into `data/` of the workspace.

    Raises:
        UsageError: If options exclude each other or one lacks its partner.
        DataError: If a given folder, a file in it, or one's own records cannot be used.
        ConfigError: If the split file breaks a rule.
        DownloadError: If a download broke off.
    """
    check_options(data_dir, records_dir, split_file)
    if records_dir is not None and split_file is not None:
        return own_source(records_dir, split_file)
    folder, given_by = mitdb_folder(data_dir, workspace)
    # The workspace's own folder may hold a broken-off download, which is then completed.
    if given_by or all((folder / file).exists() for file in files_of(DS1)):
        return mitdb_source(folder, given_by=given_by or "found")
    try:
        download_records(folder, DS1)
    except UnreachableError as error:
        source = synthetic_source(workspace / "data" / "synthetic")
        _warn_of_synthetic(source.folder, error)
        return source
    return mitdb_source(folder, given_by="downloaded")


def check_options(data_dir: Path | None, records: Path | None, split: Path | None) -> None:
    """Check that the options for records fit together (`UsageError` if not)."""
    faults = []
    if data_dir is not None and records is not None:
        faults.append("--data-dir (MIT-BIH) and --records (one's own) exclude each other")
    if records is not None and split is None:
        faults.append("--records needs --split FILE, which says which records to use")
    if split is not None and records is None:
        faults.append("--split needs --records DIR, the folder of the records it names")
    if faults:
        raise UsageError(listed("data options", faults))


def mitdb_folder(data_dir: Path | None, workspace: Path) -> tuple[Path, str]:
    """Return the folder of MIT-BIH and what named it; an empty text for the workspace's own."""
    if data_dir is not None:
        return data_dir, "--data-dir"
    if variable := os.environ.get(DATA_DIR_VARIABLE):
        return Path(variable), DATA_DIR_VARIABLE
    return workspace / "data" / "mitdb", ""


def mitdb_source(folder: Path, *, given_by: str) -> Source:
    """Return the DS1 records of a MIT-BIH folder, every file verified.

    Errors begin with `given_by`, which named the folder.
    """
    try:
        checksums = verified_checksums(folder, DS1)
    except DataError as error:
        raise type(error)(f"{given_by}: {error}") from error
    return Source(
        kind="mitdb",
        dataset="DS1",
        folder=folder,
        development=DS1,
        patients={name: PATIENT_OF[name] for name in DS1},
        checksums=checksums,
        verified=True,
        description=f"MIT-BIH Arrhythmia Database 1.0.0, DS1, in {folder} ({given_by})",
    )


def synthetic_source(
    folder: Path, *, duration_s: float = 300.0, seed: int = 0, names: Sequence[str] = DS1
) -> Source:
    """Return synthetic records as a source; write them if absent."""
    checksums = write_records(folder, names=names, seed=seed, duration_s=duration_s)
    return Source(
        kind="synthetic",
        dataset="DS1",
        folder=folder,
        development=tuple(sorted(names)),
        patients={name: name for name in names},
        checksums=checksums,
        verified=False,
        description=f"SYNTHETIC records of {duration_s:g} s (seed {seed}) in {folder}",
    )


def own_source(folder: Path, split_file: Path) -> Source:
    """Return the records that a split file names."""
    split = load_split(split_file)
    require_folder(folder)
    checksums = read_all(
        split.development, lambda name: record_checksums(folder, name), folder=folder
    )
    return Source(
        kind="records",
        dataset=split.name,
        folder=folder,
        development=split.development,
        patients=split.patients,
        rules=split.rules,
        checksums={file: digest for sums in checksums.values() for file, digest in sums.items()},
        verified=False,
        description=f"own records '{split.name}' in {folder} ({split_file})",
    )


def _warn_of_synthetic(folder: Path, unreachable: UnreachableError) -> None:
    bar = "=" * 78
    _logger.warning(
        "%s",
        f"\n{bar}\nNOT MIT-BIH: THESE ARE SYNTHETIC RECORDS\n"
        f"Why: no folder was given, and PhysioNet cannot be reached ({unreachable}).\n"
        f"Records: {folder}\n"
        "Results on them say nothing about patients. For the real records give their folder by\n"
        f"--data-dir or {DATA_DIR_VARIABLE}, or run again with a network.\n{bar}",
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class External:
    """The records of a folder that models can be tested on."""

    source: Source  # the records, as input of `study.data.prepare`
    leads: Mapping[str, str]  # the lead read of each record
    rates_hz: Mapping[str, float]  # the sampling rate of each record's files
    # Beats annotated more than once, of each record that has some
    doubled: Mapping[str, tuple[Doubled, ...]]
    without_beats: tuple[str, ...]  # records left out because they have no annotations
    unusable: Mapping[str, str]  # records left out for a fault, and the fault


def external_rules(leads: Sequence[str] = ()) -> ReadingRules:
    """Return the requirements on a record used only for testing."""
    return ReadingRules(
        leads=tuple(leads) or EXTERNAL_LEADS, sampling_rate_hz=None, shortest_rr_s=SHORTEST_RR_S
    )


def find_external(
    folder: Path,
    *,
    leads: Sequence[str] = (),
    split_file: Path | None = None,
    strict: bool = False,
) -> External:
    """Find the records of a folder and its subfolders, and read each.

    Without a split file these are all that have annotations and can be used, each a patient of its
    own. The leads are accepted, best first; `EXTERNAL_LEADS` if neither they nor the split file
    name one.

    Raises:
        ConfigError: If the split file breaks a rule.
        DataError: If the folder has no records that can be used, or one of them is of MIT-BIH's
            DS1 or DS2; with `strict` or a split file, if any cannot be used. All faults together.
    """
    require_folder(folder)
    split = load_split(split_file) if split_file is not None else None
    rules = external_rules(leads or (split.leads if split else ()))
    names = split.development if split else _record_names(folder)
    examined: dict[str, _Examined | None] = {}
    errors: dict[str, DataError] = {}
    for name in names:
        try:
            # Of a folder the records with beats are meant; of a split file all that it names.
            examined[name] = _examine(folder, name, rules, must_have_beats=bool(split))
        except DataError as error:
            errors[name] = error
    for record in list(examined.values()):
        # What a record joins is no record of its own, unless a split file says so.
        for part in record.parts if record and not split else ():
            examined.pop(part, None)
            errors.pop(part, None)
    records = {name: record for name, record in examined.items() if record is not None}
    known = any(isinstance(error, KnownRecordError) for error in errors.values())
    if errors and (strict or split or known or not records):
        raise together(list(errors.values()), folder)
    if not records:
        raise MissingDataError(
            f"--records {folder}: none of {len(examined)} records has beat annotations (.atr)"
        )
    # A manifest marks synthetic records anywhere, so that their scores never look real.
    synthetic = (folder / MANIFEST).exists()
    title = split.name if split else _slug(folder)
    source = Source(
        kind="synthetic" if synthetic else "records",
        dataset=title,
        folder=folder,
        development=tuple(sorted(records)),
        patients=split.patients if split else {name: name for name in records},
        rules=rules,
        checksums={
            file: digest
            for record in records.values()
            for file, digest in record.checksums.items()
        },
        verified=False,
        description=f"{'SYNTHETIC' if synthetic else 'external'} records '{title}' in {folder}",
    )
    return External(
        source=source,
        leads={name: record.lead for name, record in records.items()},
        rates_hz={name: record.rate_hz for name, record in records.items()},
        doubled={name: record.doubled for name, record in records.items() if record.doubled},
        without_beats=tuple(name for name, record in examined.items() if record is None),
        unusable={name: _fault_of(name, error) for name, error in errors.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Examined:
    lead: str
    rate_hz: float
    doubled: tuple[Doubled, ...]
    checksums: Mapping[str, str]
    parts: tuple[str, ...]  # headers of what it joins and of its layout, by name


def _fault_of(name: str, error: DataError) -> str:
    """Return a record's fault, and the file that has it where its name is another."""
    file = Path(error.where)
    return error.fault if file.stem == Path(name).name else f"{file.name}: {error.fault}"


def _record_names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.hea")
    )


def _examine(
    folder: Path, name: str, rules: ReadingRules, *, must_have_beats: bool
) -> _Examined | None:
    """Examine one record; None if it has no beats and does not need any."""
    if not must_have_beats and not (folder / f"{name}.atr").exists():
        return None
    checksums = record_checksums(folder, name)
    known = published_among(checksums, DS1)
    if known is not None:
        raise KnownRecordError(
            f"is {known.published} of MIT-BIH's DS1, which models are trained on: it cannot test "
            "them",
            folder / known.name,
        )
    lead = read_lead(folder, name, rules=rules)
    try:
        annotations = read_annotations(
            folder,
            name,
            n_samples=len(lead.signal_mv),
            sampling_rate_hz=lead.sampling_rate_hz,
            frame_rate_hz=lead.frame_rate_hz,
            shortest_rr_s=rules.shortest_rr_s,
        )
    except NoBeatsError:
        if must_have_beats:
            raise
        return None
    header = read_header(folder, name)
    parts = [header.layout, *(part.header.path.stem for part in header.segments if part.header)]
    return _Examined(
        lead=lead.name,
        rate_hz=lead.sampling_rate_hz,
        doubled=annotations.doubled,
        checksums=checksums,
        parts=tuple((Path(name).parent / part).as_posix() for part in parts if part),
    )


def _slug(folder: Path) -> str:
    """Name a data set after its folder; MIT-BIH's names are reserved."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "records"
    return f"{name}-external" if name in ("DS1", "DS2") else name
