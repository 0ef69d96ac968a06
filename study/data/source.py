"""Where records come from: given folders, downloads, one's own records, or synthetic ones.

A study takes its own records (`--records`, `--split`), or those of databases of the catalogue
(`--data`). Of each database it takes the first of: a given folder (`--data-dir`, then a variable
such as `MITDB_DIR`), `./data/NAME`, a download from PhysioNet into it. `--data synthetic` asks for
synthetic records, and a study of MIT-BIH alone takes them where there is no network. A given
folder that cannot be used is an error, and nothing else is tried. Of MIT-BIH only the files of DS1
are looked at: DS2 is sealed, and may be absent.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.data.catalogue import CATALOGUE, DS1, MITDB, Database, databases_of
from study.data.fetch import (
    UnreachableError,
    download_records,
    files_of,
    record_checksums,
    verified_checksums,
)
from study.data.split_file import Split, load_split
from study.data.synthetic import write_records
from study.data.wfdb_header import require_folder
from study.data.wfdb_record import ReadingRules, Record, read_record
from study.data.windows import SHORTEST_RR_S
from study.errors import (
    DataError,
    MissingDataError,
    UsageError,
    listed,
    read_all,
    unknown,
)
from study.wording import listing

SYNTHETIC = "synthetic"
"""What `--data` names instead of databases where synthetic records are meant."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a record is, and how it is read."""

    database: str  # its database in the catalogue, or the name of one's own records
    folder: Path  # folder of its WFDB files
    rules: ReadingRules  # requirements on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Records that may be read, with the digests of their files."""

    kind: str  # its databases as `--data` names them, `records` (one's own) or `synthetic`
    dataset: str  # `DS1`, `svdb`, `DS1+svdb`, or the name of one's own split
    origins: Mapping[str, Origin]  # origin of each record
    patients: Mapping[str, str]  # patient of each record
    checksums: Mapping[str, str]  # SHA-256 of every file of the records, by file name
    verified: bool  # whether the checksums are the published ones
    description: str  # one line on the records' origin, for plans and tables

    @property
    def synthetic(self) -> bool:
        """Whether the records are synthetic."""
        return self.kind == SYNTHETIC

    @property
    def records(self) -> tuple[str, ...]:
        """Names of the records, sorted."""
        return tuple(sorted(self.origins))

    @property
    def databases(self) -> tuple[str, ...]:
        """Database of each record; empty where all are of one."""
        names = tuple(self.origins[name].database for name in self.records)
        return names if len(set(names)) > 1 else ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the records, a database each."""
        return tuple(dict.fromkeys(origin.folder for origin in self.origins.values()))

    @property
    def where(self) -> str:
        """The folders of the records, for messages."""
        return listing(map(str, self.folders))

    def read(self, name: str) -> Record:
        """Read one of the records (`DataError` if it cannot be used)."""
        origin = self.origins[name]
        return read_record(origin.folder, name, rules=origin.rules)


def source_asked(options: Namespace) -> Source:
    """Return the records that a command's options ask for, as `find_source`."""
    return find_source(
        data=options.data,
        data_dirs=options.data_dir,
        records_dir=options.records,
        split_file=options.split,
        workspace=Path.cwd(),
    )


def patients_asked(options: Namespace) -> int:
    """Return how many patients the records have that options ask for, before one is read.

    Raises:
        StudyError: As `find_source` does for options and split files.
    """
    check_options(options.data, options.data_dir, options.records, options.split)
    if options.split is not None:
        split = load_split(options.split)
        return len({split.patients[name] for name in split.development})
    databases = (MITDB,) if options.data == SYNTHETIC else _databases(options.data)
    return sum(len({d.patient_of[name] for name in d.development}) for d in databases)


def find_source(
    *,
    data: str = "mitdb",
    data_dirs: Sequence[str | Path] = (),
    records_dir: Path | None = None,
    split_file: Path | None = None,
    workspace: Path,
) -> Source:
    """Find the records of a study and verify or hash every file that it will read.

    Downloaded and synthetic records go into `data/` of the workspace.

    Args:
        data: The databases, joined by +; or `SYNTHETIC`.
        data_dirs: Their folders, each as `NAME=DIR`; of a single database also `DIR`.
        records_dir: The folder of one's own records.
        split_file: Which of these to use.
        workspace: The current folder.

    Raises:
        UsageError: If options exclude each other, one lacks its partner, or a name is unknown.
        DataError: If a given folder, a file in it, or one's own records cannot be used.
        ConfigError: If the split file breaks a rule.
        DownloadError: If a download broke off.
    """
    check_options(data, data_dirs, records_dir, split_file)
    if records_dir is not None and split_file is not None:
        return own_source(records_dir, split_file)
    if data == SYNTHETIC:
        asked = f"--data {SYNTHETIC}"
        why = f"{asked} asks for them, now or as the study began"
        return _synthetic(workspace, why, f"begin a study without {asked}.")
    databases = _databases(data)
    given = given_folders(databases, data_dirs)
    sources = []
    for database in databases:
        try:
            sources.append(_find(database, given.get(database.name), workspace))
        except UnreachableError as error:
            if databases == (MITDB,):
                why = f"no folder was given, and PhysioNet cannot be reached ({error})"
                folder = f"give their folder by --data-dir or {MITDB.variable}"
                return _synthetic(workspace, why, f"{folder}, or run again with a network.")
            raise MissingDataError(
                f"{database.name}: no folder was given, and PhysioNet cannot be reached "
                f"({error}); give --data-dir {database.name}=DIR or {database.variable}"
            ) from error
    return joined(sources)


def _databases(data: str) -> tuple[Database, ...]:
    if "+" not in data and data not in CATALOGUE:
        known = [*CATALOGUE, SYNTHETIC]
        raise UsageError(f"--data {data}: {unknown('database', data, known)}")
    return databases_of(data)


def _find(database: Database, given: Path | None, workspace: Path) -> Source:
    """Return a database's records for development, downloaded where no folder is given."""
    folder, given_by = database_folder(database, given, workspace)
    files = files_of(database.development)
    # The workspace's own folder may hold a broken-off download, which is then completed.
    if given_by or all((folder / file).exists() for file in files):
        return database_source(database, folder, given_by=given_by or "found")
    download_records(database, folder, database.development)
    return database_source(database, folder, given_by="downloaded")


def check_options(
    data: str,
    data_dirs: Sequence[str | Path],
    records: Path | None,
    split: Path | None,
    *,
    proposes: bool = False,
) -> None:
    """Check that the options for records fit together (`UsageError` if not).

    `proposes` says that a command without a split file proposes one.
    """
    faults = []
    if data_dirs and records is not None:
        faults.append("--data-dir (of a database) and --records (one's own) exclude each other")
    if data_dirs and data == SYNTHETIC:
        faults.append(f"--data-dir (of a database) and --data {SYNTHETIC} exclude each other")
    if data != MITDB.name and records is not None:
        faults.append(f"--data {data} and --records (one's own) exclude each other")
    if records is not None and split is None and not proposes:
        faults.append(
            "--records needs --split FILE, which says which records to use; `python -m study.data "
            "--records DIR` shows them and writes one"
        )
    if split is not None and records is None:
        faults.append("--split needs --records DIR, the folder of the records it names")
    if faults:
        raise UsageError(listed("data options", faults))


def given_folders(
    databases: Sequence[Database], data_dirs: Sequence[str | Path]
) -> dict[str, Path]:
    """Return the folder that `--data-dir` gives of each database.

    Raises:
        UsageError: If it names a database that is not used, or does not say which it is of.
    """
    names = [database.name for database in databases]
    folders: dict[str, Path] = {}
    for value in data_dirs:
        name, equals, folder = str(value).partition("=")
        if not equals or name not in CATALOGUE:
            name, folder = names[0] if len(names) == 1 else "", str(value)
        if name not in names or name in folders:
            raise UsageError(
                f"--data-dir {value}: give one folder of each database, as in "
                f"{' '.join(f'--data-dir {known}=DIR' for known in names)}"
            )
        folders[name] = Path(folder)
    return folders


def database_folder(database: Database, given: Path | None, workspace: Path) -> tuple[Path, str]:
    """Return a database's folder and what named it; an empty text for the workspace's own."""
    if given is not None:
        return given, "--data-dir"
    if folder := os.environ.get(database.variable):
        return Path(folder), database.variable
    return workspace / "data" / database.name, ""


def database_source(
    database: Database, folder: Path, *, given_by: str, test: bool = False
) -> Source:
    """Return the records of a database for development, or for a test, every file verified.

    Errors begin with `given_by`, which named the folder.
    """
    records = database.test_records if test else database.development
    try:
        checksums = verified_checksums(database, folder, records)
    except DataError as error:
        raise type(error)(f"{given_by}: {error}") from error
    title = f"{database.title} {database.version}"
    dataset = database.names[test]
    origin = Origin(database=database.name, folder=folder, rules=rules_of(database))
    return Source(
        kind=database.name,
        dataset=dataset,
        origins=dict.fromkeys(records, origin),
        patients={name: database.patient_of[name] for name in records},
        checksums=checksums,
        verified=bool(database.checksums() or database.list_sha256),
        description=(
            f"{title}{f', {dataset},' if database.has_split else ''} in {folder} ({given_by})"
        ),
    )


def rules_of(database: Database) -> ReadingRules:
    """Return the requirements on the records of a database."""
    return ReadingRules(
        leads=database.leads,
        sampling_rate_hz=database.sampling_rate_hz,
        shortest_rr_s=None if database.beats_once else SHORTEST_RR_S,
    )


def joined(sources: Sequence[Source]) -> Source:
    """Return the records of several databases as one source."""
    if len(sources) == 1:
        return sources[0]
    return Source(
        kind="+".join(source.kind for source in sources),
        dataset="+".join(source.dataset for source in sources),
        origins={name: origin for source in sources for name, origin in source.origins.items()},
        # A name of a patient is one of its records: databases share none.
        patients={
            name: patient for source in sources for name, patient in source.patients.items()
        },
        checksums={
            file: digest for source in sources for file, digest in source.checksums.items()
        },
        verified=all(source.verified for source in sources),
        description="; ".join(source.description for source in sources),
    )


def synthetic_source(
    folder: Path, *, duration_s: float = 300.0, seed: int = 0, names: Sequence[str] = DS1
) -> Source:
    """Return synthetic records as a source; write them if absent."""
    checksums = write_records(folder, names=names, seed=seed, duration_s=duration_s)
    origin = Origin(database="synthetic", folder=folder, rules=rules_of(MITDB))
    return Source(
        kind=SYNTHETIC,
        dataset="DS1",
        origins=dict.fromkeys(names, origin),
        patients={name: name for name in names},
        checksums=checksums,
        verified=False,
        description=f"SYNTHETIC records of {duration_s:g} s (seed {seed}) in {folder}",
    )


def own_source(folder: Path, split_file: Path, *, test: bool = False) -> Source:
    """Return the records that a split file names for development, or for a test."""
    split = load_split(split_file)
    require_folder(folder)
    names = split.test if test else split.development
    if not names:
        raise UsageError(f"{split_file}: names no records for a test; list some under 'test'")
    return split_source(folder, split, names, f"({split_file})", test=test)


def split_source(
    folder: Path, split: Split, names: Sequence[str], by: str, *, test: bool = False
) -> Source:
    """Return some records of a split; `by` says where it is from."""
    checksums = read_all(names, lambda name: record_checksums(folder, name), folder=folder)
    return Source(
        kind="records",
        dataset=f"{split.name}-test" if test else split.name,
        origins=dict.fromkeys(
            names, Origin(database=split.name, folder=folder, rules=split.rules)
        ),
        patients={name: split.patients[name] for name in names},
        checksums={file: digest for sums in checksums.values() for file, digest in sums.items()},
        verified=False,
        description=f"own records '{split.name}' in {folder} {by}",
    )


def _synthetic(workspace: Path, why: str, mend: str) -> Source:
    """Return the synthetic records, under a banner that says how to get the real ones."""
    source = synthetic_source(workspace / "data" / SYNTHETIC)
    bar = "=" * 78
    _logger.warning(
        "%s",
        f"\n{bar}\nNOT MIT-BIH: THESE ARE SYNTHETIC RECORDS\n"
        f"Why: {why}.\nRecords: {source.where}\n"
        f"Results on them say nothing about patients. For the real records\n{mend}\n{bar}",
    )
    return source
