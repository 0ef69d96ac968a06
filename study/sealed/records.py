"""The records of a sealed test: DS1 to train on, DS2 checked by name and hash, and read once open.

A rehearsal uses synthetic records of the same names, in their own folder. Records other than
MIT-BIH's can be tested too (`study.data.source`), without reading DS2.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from study.config import Cut, digest_of
from study.data.beat_set import BeatSet
from study.data.catalogue import DS1, DS2, FILE_SUFFIXES, MITDB, PATIENT_OF
from study.data.external import ClassPresence, External, classes_present, describe
from study.data.fetch import (
    UnreachableError,
    download_records,
    files_of,
    published_among,
    sha256_of,
    verified_checksums,
)
from study.data.prepare import prepare_all
from study.data.source import Origin, Source, database_folder, database_source, rules_of
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_header import require_files
from study.errors import DataError, MissingDataError, UsageError
from study.keys import CLASSES, MIN_CLASS_BEATS

_WIDTH = 110

REHEARSAL_S = 300.0
"""Length of each synthetic record, the same as in a study without real records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Both halves of a data set; the content of DS2's files is unread, except for their hashes."""

    source: Source  # DS1
    ds2: Mapping[str, str]  # SHA-256 of the files of DS2, by name
    ds2_patients: Mapping[str, str]  # patient of each record of DS2

    @property
    def ds2_digest(self) -> str:
        """Digest of the files of DS2."""
        return digest_of(dict(self.ds2))

    @property
    def ds2_source(self) -> Source:
        """DS2 as records that may be read: only a recorded opening may."""
        return replace(
            self.source,
            dataset="DS2",
            origins=dict.fromkeys(DS2, next(iter(self.source.origins.values()))),
            patients=self.ds2_patients,
            checksums=self.ds2,
        )


def mitdb_records(data_dir: Path | None, workspace: Path) -> Records:
    """Find MIT-BIH, every file of DS1 and DS2 verified by its SHA-256.

    Without a given folder, files missing in the workspace's own are downloaded.

    Args:
        data_dir: Folder of the records, as given by the user; else MITDB_DIR, else the
            workspace's `data/mitdb`.
        workspace: The current folder.

    Raises:
        DataError: If a file is missing or not the published one, or the folder holds synthetic
            records.
        DownloadError: If a download broke off.
    """
    folder, given_by = database_folder(MITDB, data_dir, workspace)
    if not given_by:
        given_by = "found"
        try:
            download_records(MITDB, folder, (*DS1, *DS2))
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
    source = database_source(MITDB, folder, given_by=given_by)
    try:
        ds2 = verified_checksums(MITDB, folder, DS2)
    except DataError as error:
        raise type(error)(
            f"{given_by}: the sealed test needs DS2, whose files a study does not: {error}"
        ) from error
    return Records(source=source, ds2=ds2, ds2_patients={name: PATIENT_OF[name] for name in DS2})


def synthetic_records(data_dir: Path | None, workspace: Path) -> Records:
    """Find or write synthetic records under the names of DS1 and DS2.

    Args:
        data_dir: Folder of synthetic records with all of DS2 and some of DS1; None takes the
            workspace's `data/rehearsal` and writes them where absent.
        workspace: The current folder.

    Raises:
        UsageError: If the folder given does not hold synthetic records, or has a file of MIT-BIH.
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
    ds1, ds2 = _hashed(folder, names), _hashed(folder, DS2)
    # By content: a rehearsal is not counted as an opening, so it must never read the real DS2.
    real = published_among({**ds1, **ds2}, (*DS1, *DS2))
    if real is not None:
        raise UsageError(
            f"--synthetic: {folder / real.name} is {real.published} of MIT-BIH, and a rehearsal "
            "is on synthetic records alone; leave --data-dir out, and they are written"
        )
    source = Source(
        kind="synthetic",
        dataset="DS1",
        origins=dict.fromkeys(
            names, Origin(database="synthetic", folder=folder, rules=rules_of(MITDB))
        ),
        # As in `synthetic_source`: each record is another person.
        patients={name: name for name in names},
        checksums=ds1,
        verified=False,
        description=f"SYNTHETIC records in {folder}",
    )
    return Records(
        source=source,
        ds2=ds2,
        ds2_patients={name: name for name in DS2},
    )


def read_ds2(
    records: Records, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> dict[Cut, BeatSet]:
    """Return the beats of DS2, under each cut: only call this for a recorded opening."""
    return prepare_all(records.ds2_source, cuts, cache_dir=cache_dir, study_seed=study_seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExternalSet:
    """Records to test on, their beats by cut, and which classes can be scored."""

    external: External
    sets: dict[Cut, BeatSet]
    presence: tuple[ClassPresence, ...]

    @property
    def name(self) -> str:
        """Name of the records."""
        return self.external.source.dataset

    @property
    def macro(self) -> tuple[str, ...]:
        """Classes that the macro is the mean of."""
        return tuple(of_class.name for of_class in self.presence if not of_class.left_out)

    @property
    def digest(self) -> str:
        """Digest of the files and the leads read of them."""
        source = self.external.source
        return digest_of(
            {
                "files": dict(source.checksums),
                "leads": dict(self.external.leads),
                "patients": dict(source.patients),
            }
        )

    def text(self) -> str:
        """Return remarks on the records for a reader of the scores."""
        lines = describe(self.external, next(iter(self.sets.values()))).splitlines()
        macro = f"the mean of {', '.join(self.macro)}" if self.macro else "of no class"
        lines.append(f"macro: {macro}")
        others = sorted({lead for lead in self.external.leads.values() if lead != "MLII"})
        if others:
            lines.append(f"models of MIT-BIH have seen lead MLII alone, not {', '.join(others)}")
        return "\n".join(
            textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            for line in lines
        )


def prepare_external(
    external: External, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> ExternalSet:
    """Prepare the beats of other records under every cut.

    Raises:
        DataError: If a record cannot be used, or no class but N has enough beats.
    """
    source = external.source
    sets = prepare_all(source, cuts, cache_dir=cache_dir, study_seed=study_seed)
    presence = classes_present(next(iter(sets.values())), source.patients)
    beats = {of_class.name: of_class.beats for of_class in presence}
    if all(n < MIN_CLASS_BEATS for name, n in beats.items() if name != "N"):
        counts = ", ".join(f"{name} {n}" for name, n in beats.items())
        raise DataError(
            f"--records {source.where}: no class but N can be scored: one of "
            f"{', '.join(CLASSES[1:])} needs {MIN_CLASS_BEATS} beats, got {counts}; give records "
            "that have some"
        )
    return ExternalSet(external=external, sets=sets, presence=presence)


def _hashed(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {file: sha256_of(folder / file) for file in files_of(tuple(names))}
