"""SHA-256 of record files, and how they compare with the published ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from study.data.records import FILE_SUFFIXES
from study.errors import ChecksumError, DataError, MissingDataError, listed

OK, MISSING, DIFFERS, UNREADABLE = "ok", "missing", "differs", "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """How one file of a folder compares with its published checksum.

    Args:
        file: File name.
        state: `ok`, `missing`, `differs` or `unreadable`.
        sha256: Of the file, where it could be read.
        fault: What is wrong, for a message; empty where nothing is.
    """

    file: str
    state: str
    sha256: str = ""
    fault: str = ""


@cache
def published_checksums() -> Mapping[str, str]:
    """Return the SHA-256 of every file of the 48 records, as PhysioNet lists them for v1.0.0."""
    text = (files("study.data") / "mitdb_sha256.txt").read_text(encoding="ascii")
    return MappingProxyType({name: digest for digest, name in map(str.split, text.splitlines())})


@dataclass(frozen=True, slots=True)
class Known:
    """A file that is one of MIT-BIH's, under whatever name."""

    file: str
    published: str


def published_among(checksums: Mapping[str, str], names: Sequence[str]) -> Known | None:
    """Return the first file that is one of some MIT-BIH records', told by its content.

    Args:
        checksums: SHA-256 of files, by name.
        names: Names of the MIT-BIH records.
    """
    published = published_checksums()
    files = {published[file]: file for file in files_of(names)}
    found = (Known(file, files[sum_]) for file, sum_ in checksums.items() if sum_ in files)
    return next(found, None)


def files_of(names: Sequence[str]) -> list[str]:
    """Return the file names of MIT-BIH records, record by record."""
    return [f"{name}{suffix}" for name in names for suffix in FILE_SUFFIXES]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_states(
    folder: Path, names: Sequence[str], expected: Mapping[str, str]
) -> list[FileState]:
    """Compare every file of some records with its published checksum."""
    return [_state(folder / file, expected[file]) for file in files_of(names)]


def verified_checksums(
    folder: Path, names: Sequence[str], expected: Mapping[str, str]
) -> dict[str, str]:
    """Return the checksums of some records' files, all of them as published.

    Raises:
        MissingDataError: If the folder or a file is not there and nothing else is wrong.
        ChecksumError: If a file is not the published one.
        DataError: If the folder or a file cannot be read.
    """
    require_records_folder(folder)
    states = file_states(folder, names, expected)
    missing = [state for state in states if state.state == MISSING]
    broken = [state for state in states if state.fault and state.state != MISSING]
    faults = _missing_by_record(missing) + [state.fault for state in broken]
    if not faults:
        return {state.file: state.sha256 for state in states}
    message = listed(str(folder), faults)
    if any(state.state == UNREADABLE for state in broken):
        raise DataError(message)
    raise ChecksumError(message) if broken else MissingDataError(message)


def require_records_folder(folder: Path) -> None:
    """Check that a folder can be read and holds WFDB records.

    Raises:
        MissingDataError: If it is not there, or holds no headers.
        DataError: If it is no folder, or may not be read.
    """
    if not folder.exists():
        raise MissingDataError(f"{folder}: no such folder; give the folder of the WFDB records")
    try:
        found = next(folder.rglob("*.hea"), None) if any(folder.iterdir()) else None
    except OSError as err:
        raise DataError(f"{folder}: must be a folder that can be read: {err.strerror}") from err
    if found is None:
        raise MissingDataError(f"{folder}: no WFDB records in it: not one header (*.hea)")


def _state(path: Path, expected: str) -> FileState:
    try:
        got = sha256_of(path)
    except FileNotFoundError:
        return FileState(file=path.name, state=MISSING, fault=f"{path.name} is missing")
    except OSError as err:
        fault = f"{path.name} cannot be read: {err.strerror}"
        return FileState(file=path.name, state=UNREADABLE, fault=fault)
    if got == expected:
        return FileState(file=path.name, state=OK, sha256=got)
    fault = (
        f"{path.name} has SHA-256 {got[:12]}..., published is {expected[:12]}...: "
        "damaged or edited; fetch it again"
    )
    return FileState(file=path.name, state=DIFFERS, sha256=got, fault=fault)


def _missing_by_record(missing: Sequence[FileState]) -> list[str]:
    by_record: dict[str, list[str]] = {}
    for state in missing:
        by_record.setdefault(Path(state.file).stem, []).append(state.file)
    return [f"record {name}: missing {', '.join(found)}" for name, found in by_record.items()]
