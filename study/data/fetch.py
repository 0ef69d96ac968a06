"""SHA-256 of record files, PhysioNet's published values for its databases, and their download.

A downloaded file gets its name only when it is complete and is the published file. The package
pooch would replace one loop (`_received`), but wait ten times longer without a network.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from study.data.annotations import annotation_file
from study.data.catalogue import (
    CHECKSUMS_LIST,
    DS2,
    FILE_SUFFIXES,
    MITDB,
    Database,
    parsed_checksums,
)
from study.data.wfdb_header import read_header, require_files, require_folder
from study.errors import ChecksumError, DataError, DownloadError, MissingDataError, together
from study.files import write_whole

PHYSIONET_URL = "https://physionet.org/files/"

ATTEMPTS = 4
"""Attempts at each file."""

PAUSE_S = 1.0
"""Pause before the second attempt at a file, s; doubled before each further one."""

_LONGEST_WAIT_S = 20.0
"""How long to wait for an answer of the server, s."""

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_logger = logging.getLogger(__name__)


class KnownRecordError(DataError):
    """One's own record is one of MIT-BIH: sealed, or one that models are trained on."""


class UnreachableError(DownloadError):
    """The server never answered; this counts as no network."""


def published_checksums(database: Database = MITDB, folder: Path = Path()) -> Mapping[str, str]:
    """Return the SHA-256 of every file of a database, as PhysioNet lists them.

    A list that this tool does not have is read from the database's folder.

    Raises:
        MissingDataError: If it is not there.
        DataError: If it cannot be read.
        ChecksumError: If it is not the published one.
    """
    if packaged := database.checksums():
        return packaged
    path = folder / CHECKSUMS_LIST
    if not path.exists():
        raise MissingDataError(f"missing; fetch it from {_url(database, CHECKSUMS_LIST)}", path)
    try:
        if database.list_sha256 not in ("", sha256_of(path)):
            raise ChecksumError("is not the published list of checksums; delete it", path)
        return parsed_checksums(path.read_text(encoding="ascii"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path) from error
    except UnicodeError as error:
        raise DataError("is no list of checksums", path) from error


def _url(database: Database, file: str) -> str:
    return f"{PHYSIONET_URL}{database.name}/{database.version}/{file}"


def files_of(names: Sequence[str]) -> list[str]:
    """Return the file names of a database's records, record by record."""
    return [f"{name}{suffix}" for name in names for suffix in FILE_SUFFIXES]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published_among(
    checksums: Mapping[str, str], records: Sequence[str]
) -> tuple[str, str] | None:
    """Return the first file that is one of some MIT-BIH records, by its SHA-256, and which."""
    published = published_checksums()
    file_of = {published[file]: file for file in files_of(records)}
    for name, digest in checksums.items():
        if digest in file_of:
            return name, file_of[digest]
    return None


def record_checksums(folder: Path, name: str, *, annotated: bool = True) -> dict[str, str]:
    """Return the SHA-256 of every file of one record, by name.

    Annotations may be missing unless `annotated`.

    Raises:
        DataError: If a file is missing, cannot be used, or is one of the sealed DS2.
    """
    annotations = annotation_file(folder, name)
    require_files(folder, name, (".hea", annotations.suffix) if annotated else (".hea",))
    header = read_header(folder, name)
    files = [(Path(name).parent / file).as_posix() for file in header.all_files]
    if annotations.exists():
        files.append(f"{name}{annotations.suffix}")
    try:
        checksums = {file: sha256_of(folder / file) for file in files}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", folder / name) from error
    # Compared by content: a copy of a sealed record may have any name.
    if sealed := published_among(checksums, DS2):
        file, published = sealed
        named = "" if Path(file).name == published else f"{published} "
        raise KnownRecordError(
            f"is {named}of MIT-BIH's DS2, which is sealed: only the test of a plan opens it "
            "(`python -m study.evaluate --plan FILE` without --records); give another",
            folder / file,
        )
    return checksums


def file_errors(
    database: Database, folder: Path, names: Sequence[str]
) -> dict[str, DataError | None]:
    """Compare every file of some records with its published checksum; None where they agree.

    Raises:
        DataError: If the list of checksums is missing, or cannot be used.
    """
    published = published_checksums(database, folder)
    return {file: _file_error(folder / file, published.get(file)) for file in files_of(names)}


def _file_error(path: Path, expected: str | None) -> DataError | None:
    if expected is None:
        return ChecksumError("is not in the list of checksums", path)
    try:
        got = sha256_of(path)
    except FileNotFoundError:
        return MissingDataError("missing", path)
    except OSError as error:
        return DataError(f"cannot be read: {error.strerror}", path)
    if got == expected:
        return None
    return ChecksumError(
        f"has SHA-256 {got[:12]}..., published is {expected[:12]}...: damaged or edited; delete "
        "it and fetch it again",
        path,
    )


def verified_checksums(database: Database, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the checksums of some records' files, all of them as published.

    Raises:
        DataError: If the folder or a file is missing, cannot be read or is not the published one.
    """
    require_folder(folder)
    errors = [error for error in file_errors(database, folder, names).values() if error]
    if errors:
        raise together(errors, folder)
    published = published_checksums(database, folder)
    return {file: published[file] for file in files_of(names)}


def download_records(database: Database, folder: Path, names: Sequence[str]) -> None:
    """Download the files of some records that a folder lacks; verify those that it has.

    Raises:
        UnreachableError: If the server never answered; the folder is not made then.
        DownloadError: If the download broke off, or the folder cannot be written to.
        DataError: If a file in the folder is not the published one, or cannot be read.
        ChecksumError: If the server's file is not the published one.
    """
    answered = False
    if not database.checksums() and not (folder / CHECKSUMS_LIST).exists():
        listed = _received(_url(database, CHECKSUMS_LIST), answered=False)
        answered = True
        _keep(folder / CHECKSUMS_LIST, listed)
    errors = file_errors(database, folder, names)
    lacking = [file for file, error in errors.items() if isinstance(error, MissingDataError)]
    if wrong := [error for file, error in errors.items() if error and file not in lacking]:
        raise together(wrong, folder)
    if not lacking:
        return
    from tqdm import tqdm

    published = published_checksums(database, folder)
    _logger.info("downloading %d files of %s to %s", len(lacking), database.title, folder)
    for file in tqdm(lacking, unit="file", desc=database.name, disable=None):
        if (folder / file).exists():  # Another process is downloading too.
            continue
        url = _url(database, file)
        content = _received(url, answered=answered)
        answered = True
        got = hashlib.sha256(content).hexdigest()
        if got != published[file]:
            raise ChecksumError(
                f"the server's file is not the published one: SHA-256 {got[:12]}..., published "
                f"{published[file][:12]}...; it was not kept",
                url,
            )
        _keep(folder / file, content)


def _keep(path: Path, content: bytes) -> None:
    try:
        # Otherwise a power cut could leave an empty file that later looks damaged.
        write_whole(path, content, durable=True)
    except OSError as error:
        raise DownloadError(f"{path.parent}: cannot be written to: {error}") from error


def _received(url: str, *, answered: bool) -> bytes:
    """Return a whole file, with retries after failures that may pass.

    Before the server's first answer (`answered`) a failure to reach it is final: a user without a
    network should not have to wait.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            # The server is a constant above; SHA-256 checks every file.
            with urlopen(url, timeout=_LONGEST_WAIT_S) as response:  # nosec B310
                answered = True
                return bytes(response.read())
        except HTTPError as error:
            error.close()
            answered = True
            fault = f"{url}: the server answered {error.code} {error.reason}"
            if error.code not in _TRANSIENT_STATUS:
                break
        except IncompleteRead as error:
            missing = f" of {len(error.partial) + error.expected}" if error.expected else ""
            fault = f"{url}: the connection broke after {len(error.partial)}{missing} bytes"
        except (OSError, HTTPException) as error:
            fault = f"{url}: {getattr(error, 'reason', error)}"
        if not answered:
            raise UnreachableError(fault)
    raise DownloadError(f"{fault}; the files that have arrived are kept: run again to continue")
