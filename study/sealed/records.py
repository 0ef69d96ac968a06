"""The records of a sealed test: DS1 to train on, DS2 checked by name and hash, and read once open.

A rehearsal takes synthetic records under the same names, in a folder of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from study.config import digest_of
from study.data.beat_set import BeatSet
from study.data.fetch import (
    UnreachableError,
    download_records,
    files_of,
    published_checksums,
    sha256_of,
    verified_checksums,
)
from study.data.prepare import Cut, prepare_all
from study.data.records import DS1, DS2, FILE_SUFFIXES, PATIENT_OF
from study.data.source import Source, mitdb_folder, mitdb_source
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_header import require_files
from study.errors import DataError, MissingDataError, UsageError

REHEARSAL_S = 300.0
"""Length of each synthetic record, as of a study without records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Both halves of a data set; nothing in DS2's files has been looked at.

    Args:
        source: DS1.
        ds2: SHA-256 of the files of DS2, by name.
        ds2_patients: Patient of each record of DS2.
    """

    source: Source
    ds2: Mapping[str, str]
    ds2_patients: Mapping[str, str]

    @property
    def ds2_digest(self) -> str:
        """Digest of the files of DS2."""
        return digest_of(dict(self.ds2))


def mitdb_records(data_dir: Path | None, workspace: Path) -> Records:
    """Find MIT-BIH, every file of DS1 and DS2 verified by its SHA-256.

    Where no folder is given, what the workspace's own lacks is downloaded.

    Args:
        data_dir: Folder of the records, as given by the user; else MITDB_DIR, else the
            workspace's `data/mitdb`.
        workspace: The current folder.

    Raises:
        DataError: If a file is missing or not the published one, or the folder holds synthetic
            records.
        DownloadError: If a download broke off.
    """
    folder, given_by = mitdb_folder(data_dir, workspace)
    if not given_by:
        given_by = "found"
        try:
            download_records(folder, (*DS1, *DS2))
        except UnreachableError as error:
            raise MissingDataError(
                f"no folder of records was given, and PhysioNet cannot be reached ({error}); "
                "give --data-dir, or rehearse on synthetic records with --synthetic"
            ) from error
    if (folder / MANIFEST).exists():
        raise DataError(
            f"{given_by}: {folder} holds synthetic records, and a sealed test is on MIT-BIH; "
            "--synthetic rehearses on them"
        )
    source = mitdb_source(folder, given_by=given_by)
    try:
        ds2 = verified_checksums(folder, DS2, published_checksums())
    except DataError as error:
        raise type(error)(
            f"{given_by}: the sealed test needs DS2, whose files a study does not: {error}"
        ) from error
    return Records(source=source, ds2=ds2, ds2_patients={name: PATIENT_OF[name] for name in DS2})


def synthetic_records(data_dir: Path | None, workspace: Path) -> Records:
    """Find or write synthetic records in the names of DS1 and DS2.

    Args:
        data_dir: Folder of synthetic records with all of DS2 and some of DS1; None takes the
            workspace's `data/rehearsal` and writes them where absent.
        workspace: The current folder.

    Raises:
        UsageError: If the folder given does not hold synthetic records.
        MissingDataError: If it lacks files.
    """
    folder = data_dir or workspace / "data" / "rehearsal"
    if data_dir is None:
        write_records(folder, names=(*DS1, *DS2), duration_s=REHEARSAL_S)
    elif not (folder / MANIFEST).exists():
        raise UsageError(
            f"--synthetic: {folder} does not hold synthetic records ({MANIFEST} is missing); "
            "leave --data-dir out, and they are written"
        )
    for name in DS2:
        require_files(folder, name, FILE_SUFFIXES)
    names = tuple(name for name in DS1 if (folder / f"{name}.hea").exists())
    source = Source(
        kind="synthetic",
        dataset="DS1",
        folder=folder,
        development=names,
        # As `synthetic_source` has it: no two are one person.
        patients={name: name for name in names},
        checksums=_hashed(folder, names),
        verified=False,
        description=f"SYNTHETIC records in {folder}",
    )
    return Records(
        source=source,
        ds2=_hashed(folder, DS2),
        ds2_patients={name: name for name in DS2},
    )


def read_ds1(
    records: Records, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> dict[Cut, BeatSet]:
    """Return the beats to train on, under each cut; errors as in `prepare_all`."""
    return prepare_all(records.source, cuts, cache_dir=cache_dir, study_seed=study_seed)


def read_ds2(
    records: Records, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> dict[Cut, BeatSet]:
    """Return the beats of DS2, under each cut: only for an opening that is written down.

    Errors are those of `prepare_all`.
    """
    return prepare_all(
        records.source, cuts, cache_dir=cache_dir, study_seed=study_seed, dataset="DS2"
    )


def _hashed(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {file: sha256_of(folder / file) for file in files_of(tuple(names))}
