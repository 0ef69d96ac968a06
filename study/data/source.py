"""Where records come from: a given folder, a download, one's own records, or synthetic ones.

Order: one's own records (`--records`, `--split`), a given folder (`--data-dir`, then the variable
`MITDB_DIR`), `./data/mitdb`, a download from PhysioNet into it, and without network synthetic
records. A given folder that is bad is an error, never a reason to fall back. Of MIT-BIH only the
files of DS1 are looked at: DS2 is sealed and may be absent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.data.checksums import files_of, published_checksums, verified_checksums
from study.data.fetch import PHYSIONET_URL, UnreachableError, download_records
from study.data.records import DS1, PATIENT_OF
from study.data.split_file import load_split, own_checksums
from study.data.synthetic import write_records
from study.data.wfdb_record import MITDB_RULES, ReadingRules
from study.errors import DataError, UsageError, listed

DATA_DIR_VARIABLE = "MITDB_DIR"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Records that a study may read, found and hashed.

    Args:
        kind: `mitdb`, `records` (one's own) or `synthetic`.
        dataset: `DS1`, or the name of one's own split.
        folder: Folder of the WFDB files.
        development: Names of the records a study works on, sorted.
        patients: Patient of each development record.
        rules: What the records must be like; hand them to `read_record`.
        checksums: SHA-256 of every file of the development records, by file name.
        verified: Whether the checksums are the published ones.
        description: One line on where the records come from, for plans and tables.
    """

    kind: str
    dataset: str
    folder: Path
    development: tuple[str, ...]
    patients: Mapping[str, str]
    rules: ReadingRules = MITDB_RULES
    checksums: Mapping[str, str]
    verified: bool
    description: str

    @property
    def synthetic(self) -> bool:
        """Whether the records are made up."""
        return self.kind == "synthetic"


def find_source(
    *,
    data_dir: Path | None = None,
    records_dir: Path | None = None,
    split_file: Path | None = None,
    workspace: Path,
    allow_download: bool = True,
    base_url: str = PHYSIONET_URL,
) -> Source:
    """Find the records of a study and verify or hash every file that it will read.

    Args:
        data_dir: Folder of the MIT-BIH records, as given by the user.
        records_dir: Folder of one's own records; needs `split_file`.
        split_file: Which of them to use (see `study.data.split_file`).
        workspace: Folder with `data/`, where downloaded and synthetic records go.
        allow_download: Whether to ask PhysioNet where no folder is given.
        base_url: Where the records are downloaded from.

    Raises:
        UsageError: If options exclude each other or one lacks its partner.
        MissingDataError: If a given folder or a file in it is not there.
        ChecksumError: If a file is not the published one.
        DataError: If a given folder or one's own records cannot be used.
        ConfigError: If the split file breaks a rule.
        DownloadError: If a download broke off.
    """
    check_options(data_dir, records_dir, split_file)
    if records_dir is not None and split_file is not None:
        return _own_source(records_dir, split_file)
    if data_dir is not None:
        return mitdb_source(data_dir, given_by="--data-dir")
    if variable := os.environ.get(DATA_DIR_VARIABLE):
        return mitdb_source(Path(variable), given_by=DATA_DIR_VARIABLE)
    folder = workspace / "data" / "mitdb"
    if all((folder / file).exists() for file in files_of(DS1)):
        return mitdb_source(folder, given_by="found")
    reason = "no folder was given, and downloading is switched off"
    if allow_download:
        try:
            download_records(folder, DS1, base_url=base_url)
            return mitdb_source(folder, given_by="downloaded")
        except UnreachableError as err:
            reason = f"no folder was given, and PhysioNet cannot be reached ({err})"
    return _fallback(workspace / "data" / "synthetic", reason)


def check_options(data_dir: Path | None, records: Path | None, split: Path | None) -> None:
    """Check that options which say where records are go together.

    Raises:
        UsageError: If they exclude each other or one lacks its partner.
    """
    faults = []
    if data_dir is not None and records is not None:
        faults.append("--data-dir (MIT-BIH) and --records (one's own) exclude each other")
    if records is not None and split is None:
        faults.append("--records needs --split FILE, which says which records to use")
    if split is not None and records is None:
        faults.append("--split needs --records DIR, the folder of the records it names")
    if faults:
        raise UsageError(listed("data options", faults))


def mitdb_source(folder: Path, *, given_by: str) -> Source:
    """Return the DS1 records of a MIT-BIH folder, every file verified.

    Args:
        folder: Folder of the WFDB files.
        given_by: What named the folder, for messages.

    Raises:
        MissingDataError: If the folder or a file is not there and nothing else is wrong.
        ChecksumError: If a file is not the published one.
        DataError: If the folder or a file cannot be read.
    """
    try:
        checksums = verified_checksums(folder, DS1, published_checksums())
    except DataError as err:
        raise type(err)(f"{given_by}: {err}") from err
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
    """Return synthetic records as a source, written first where absent or incomplete.

    Args:
        folder: Where they are, or go.
        duration_s: Length of each record, at least 30 s.
        seed: Of all random draws.
        names: Record names.

    Raises:
        DataError: If the folder holds records that are not synthetic, or the time is too short.
    """
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


def _own_source(folder: Path, split_file: Path) -> Source:
    split = load_split(split_file)
    return Source(
        kind="records",
        dataset=split.name,
        folder=folder,
        development=split.development,
        patients=split.patients,
        rules=split.rules,
        checksums=own_checksums(folder, split),
        verified=False,
        description=f"own records '{split.name}' in {folder} ({split_file})",
    )


def _fallback(folder: Path, reason: str) -> Source:
    source = synthetic_source(folder)
    bar = "=" * 78
    _logger.warning(
        "%s",
        f"\n{bar}\nNOT MIT-BIH: THESE ARE SYNTHETIC RECORDS\n"
        f"Why: {reason}.\n"
        f"Records: {folder}\n"
        "Results on them say nothing about patients. For the real records give their folder by\n"
        f"--data-dir or {DATA_DIR_VARIABLE}, or run again with a network.\n{bar}",
    )
    return source
