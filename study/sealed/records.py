"""The records of a sealed test: those that train, and the test set, which only an opening reads.

A test set is the test records of a database (DS2 of MIT-BIH), a whole database, DS1, or the test
records of one's own split file. Before it is opened its files are known by name and hash alone.
What trains and what tests must share no file and no patient. The one exception is the published
split: records 201 of DS1 and 202 of DS2 are of one patient.

A rehearsal uses synthetic records of the same names, in their own folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from study.config import Cut, digest_of
from study.data.beat_set import BeatSet
from study.data.catalogue import (
    CATALOGUE,
    DS2,
    FILE_SUFFIXES,
    MITDB,
    Database,
    databases_of,
)
from study.data.fetch import UnreachableError, download_records, files_of, sha256_of
from study.data.prepare import prepare_all
from study.data.source import (
    Origin,
    Source,
    database_folder,
    database_source,
    given_folders,
    joined,
    own_source,
    rules_of,
)
from study.data.split_file import load_split
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_header import require_files
from study.errors import DataError, MissingDataError, UsageError, unknown
from study.spaces.sealed_plan import OWN
from study.wording import first_few, plural

REHEARSAL_S = 300.0
"""Length of each synthetic record, the same as in a study without real records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What a plan's arms train on, and what they are tested on."""

    developments: Mapping[str, Source]  # by the names that the plan has for them
    # Of its files only names and hashes are known: an opening alone reads their content
    test: Source

    @property
    def test_digest(self) -> str:
        """Digest of the files of the test set."""
        return digest_of(dict(self.test.checksums))

    @property
    def kind(self) -> str:
        """Kind of what most arms train on, by which a tracker tells results apart."""
        return next(iter(self.developments.values())).kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The records that a command line asks for."""

    developments: Sequence[str]  # what a plan's arms train on
    test_set: str = "DS2"  # name of the test set
    data_dirs: Sequence[str | Path] = ()  # folders of databases, as `--data-dir` gives them
    own: tuple[Path, Path] | None = None  # folder of one's own records, and their split file
    synthetic: bool = False  # whether synthetic records of the same names stand in
    workspace: Path = field(default_factory=Path.cwd)


def canonical(test_set: str, split_file: Path | None = None) -> str:
    """Return the name of a test set: `DS2` for `mitdb`.

    Raises:
        UsageError: If there is none of that name.
    """
    known = {name: name for database in CATALOGUE.values() for name in database.names}
    known |= {database.name: database.names[1] for database in CATALOGUE.values()}
    if split_file is not None:
        name = load_split(split_file).name
        known |= dict.fromkeys((name, f"{name}-test"), f"{name}-test")
    if test_set not in known:
        raise UsageError(f"--test: {unknown('test set', test_set, known)}")
    return known[test_set]


def _database_of(test_set: str) -> tuple[Database, bool] | None:
    """Return the database of a test set, and whether it is its test records."""
    for database in CATALOGUE.values():
        if test_set in database.names:
            return database, test_set == database.names[1]
    return None


def find_records(asked: Asked) -> Records:
    """Find what trains and the test set, every file verified or hashed.

    Without given folders, files missing in the workspace's own are downloaded. For a rehearsal a
    given folder must hold synthetic records under the same names: all of DS2 if that is the test
    set, and some of the others. Without one, missing ones are written into `data/rehearsal`.

    Raises:
        UsageError: If options do not name the records, what trains and what tests share some, or
            the folder of a rehearsal does not hold synthetic records, or has a published file.
        DataError: If a file is missing or not the published one, or a folder holds synthetic
            records and it is no rehearsal.
        DownloadError: If a download broke off.
    """
    finder = _SyntheticFinder(asked) if asked.synthetic else _Finder(asked)
    developments = {name: finder.development(name) for name in asked.developments}
    records = Records(developments=developments, test=finder.test())
    for name, source in developments.items():
        check_apart(source, records.test, name)
    return records


def check_apart(trained_on: Source, tested_on: Source, development: str) -> None:
    """Refuse to test models on what they were trained on (`UsageError`)."""
    digests = {*trained_on.checksums.values()}
    files = [file for file, digest in tested_on.checksums.items() if digest in digests]
    if files:
        raise UsageError(
            f"{tested_on.dataset} cannot test what trains on {development}: they share "
            f"{plural(len(files), 'file')} ({first_few(files)}); name another test set, or a "
            "plan whose arms train on other records"
        )
    patients = {_patient(trained_on, name) for name in trained_on.records}
    shared = [
        name
        for name in tested_on.records
        if _patient(tested_on, name) in patients and not _in_published_split(tested_on, name)
    ]
    if shared:
        raise UsageError(
            f"{tested_on.dataset} cannot test what trains on {development}: they share patients, "
            f"those of {first_few(shared)}; name another test set, or leave these records out"
        )


def _patient(source: Source, name: str) -> tuple[str, str]:
    return source.origins[name].database, source.patients[name]


def _in_published_split(source: Source, name: str) -> bool:
    database = CATALOGUE.get(source.origins[name].database)
    return database is not None and database.has_split


class _Finder:
    """Finds real records."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self._test = _database_of(asked.test_set)
        databases = {
            database.name: database
            for name in asked.developments
            if name != OWN
            for database in databases_of(name)
        }
        if self._test:
            databases |= {self._test[0].name: self._test[0]}
        self._databases = [db for name, db in CATALOGUE.items() if name in databases]
        self._given = given_folders(self._databases, asked.data_dirs)

    def development(self, name: str) -> Source:
        """Return the records that some arms train on."""
        if name == OWN:
            return self._own(test=False)
        return joined([self._found(database) for database in databases_of(name)])

    def test(self) -> Source:
        """Return the test set."""
        if self._test is None:
            return self._own(test=True)
        database, is_test = self._test
        return self._found(database, test=is_test)

    def _own(self, *, test: bool) -> Source:
        if self.asked.own is None:
            raise UsageError(
                "the plan trains or is tested on one's own records: name them by --records DIR "
                "and --split FILE, and the test set by --test"
            )
        return own_source(*self.asked.own, test=test)

    def _found(self, database: Database, *, test: bool = False) -> Source:
        folder, given_by = database_folder(
            database, self._given.get(database.name), self.asked.workspace
        )
        if not given_by:
            given_by = "found"
            self._download(database, folder, test=test)
        if (folder / MANIFEST).exists():
            raise DataError(
                f"{given_by}: {folder} holds synthetic records, and a sealed test is on real "
                "ones; --synthetic rehearses on them"
            )
        try:
            return database_source(database, folder, given_by=given_by, test=test)
        except DataError as error:
            if not test or not database.has_split:
                raise
            raise type(error)(
                f"the sealed test needs {database.names[1]}, whose files a study does not: {error}"
            ) from error

    def _download(self, database: Database, folder: Path, *, test: bool) -> None:
        try:
            records = database.test_records if test else database.development
            download_records(database, folder, records)
        except UnreachableError as error:
            raise MissingDataError(
                f"no folder of {database.name} was given, and PhysioNet cannot be reached "
                f"({error}); give --data-dir, or rehearse on synthetic records with --synthetic"
            ) from error


class _SyntheticFinder(_Finder):
    """Finds or writes synthetic records."""

    def development(self, name: str) -> Source:
        source = super().development(name)
        return replace(source, kind="synthetic")

    def _own(self, *, test: bool) -> Source:
        raise UsageError("--synthetic: only databases of the catalogue can be rehearsed")

    def _found(self, database: Database, *, test: bool = False) -> Source:
        names = database.test_records if test else database.development
        folder = self._given.get(database.name)
        if folder is None:
            folder = self.asked.workspace / "data" / "rehearsal"
            if database is not MITDB:
                folder /= database.name
            write_records(
                folder,
                names=tuple(dict.fromkeys((*database.development, *database.test_records))),
                duration_s=REHEARSAL_S,
                sampling_rate_hz=int(database.sampling_rate_hz),
                leads=(database.leads[0], database.leads[1]),
            )
        elif not (folder / MANIFEST).exists():
            raise UsageError(
                f"--synthetic: {folder} does not hold synthetic records ({MANIFEST} is missing); "
                "leave --data-dir out, and they are written"
            )
        for name in DS2 if names == DS2 else ():
            require_files(folder, name, FILE_SUFFIXES)
        names = tuple(name for name in names if (folder / f"{name}.hea").exists())
        if not names:
            raise MissingDataError(f"has no record of {database.name}", folder)
        checksums = {file: sha256_of(folder / file) for file in files_of(names)}
        # By content: a rehearsal is not counted as an opening, so it must never read real records.
        published = {digest: file for file, digest in database.checksums().items()}
        for file, digest in checksums.items():
            if digest in published:
                raise UsageError(
                    f"--synthetic: {folder / file} is {published[digest]} of {database.title}, "
                    "and a rehearsal is on synthetic records alone; leave --data-dir out, and "
                    "they are written"
                )
        dataset = database.names[test]
        return Source(
            kind="synthetic",
            dataset=dataset,
            origins=dict.fromkeys(
                names, Origin(database=database.name, folder=folder, rules=rules_of(database))
            ),
            # As in `synthetic_source`: each record is another person.
            patients={name: name for name in names},
            checksums=checksums,
            verified=False,
            description=f"SYNTHETIC records of {dataset} in {folder}",
        )


def read_test_set(
    records: Records, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> dict[Cut, BeatSet]:
    """Return the beats of the test set by cut: only call this for a recorded opening."""
    return prepare_all(records.test, cuts, cache_dir=cache_dir, study_seed=study_seed)
