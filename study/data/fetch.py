"""SHA-256 of record files, PhysioNet's published values for MIT-BIH, and its download.

A downloaded file gets its name only when it is complete and is the published file. The package
pooch would replace one loop (`_received`), but wait ten times longer without a network.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, IncompleteRead
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from urllib.error import HTTPError
from urllib.request import urlopen

from study.data.records import DS2, FILE_SUFFIXES
from study.data.wfdb_header import read_header, require_files, require_folder
from study.errors import ChecksumError, DataError, DownloadError, MissingDataError, together
from study.files import write_whole

PHYSIONET_URL = "https://physionet.org/files/mitdb/1.0.0/"

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


@cache
def published_checksums() -> Mapping[str, str]:
    """Return the SHA-256 of every file of the 48 records, as PhysioNet lists them for v1.0.0."""
    text = (files("study.data") / "mitdb_sha256.txt").read_text(encoding="ascii")
    return MappingProxyType({name: digest for digest, name in map(str.split, text.splitlines())})


def files_of(names: Sequence[str]) -> list[str]:
    """Return the file names of MIT-BIH records, record by record."""
    return [f"{name}{suffix}" for name in names for suffix in FILE_SUFFIXES]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class MitdbFile:
    """A file of MIT-BIH, under any name."""

    name: str
    published: str


def published_among(checksums: Mapping[str, str], records: Sequence[str]) -> MitdbFile | None:
    """Return the first file whose SHA-256 is that of a file of some MIT-BIH records."""
    published = published_checksums()
    file_of = {published[file]: file for file in files_of(records)}
    for name, digest in checksums.items():
        if digest in file_of:
            return MitdbFile(name, file_of[digest])
    return None


def record_checksums(folder: Path, name: str, *, annotated: bool = True) -> dict[str, str]:
    """Return the SHA-256 of every file of one record, by name.

    Annotations may be missing unless `annotated`.

    Raises:
        DataError: If a file is missing, cannot be used, or is one of the sealed DS2.
    """
    require_files(folder, name, (".hea", ".atr") if annotated else (".hea",))
    header = read_header(folder, name)
    files = [(Path(name).parent / file).as_posix() for file in header.all_files]
    if (folder / f"{name}.atr").exists():
        files.append(f"{name}.atr")
    try:
        checksums = {file: sha256_of(folder / file) for file in files}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", folder / name) from error
    # Compared by content: a copy of a sealed record may have any name.
    sealed = published_among(checksums, DS2)
    if sealed is not None:
        raise KnownRecordError(
            f"is {sealed.published} of MIT-BIH's DS2, which is sealed: only "
            "`python -m study.evaluate` reads it, by a plan written before; give another",
            folder / sealed.name,
        )
    return checksums


def file_errors(folder: Path, names: Sequence[str]) -> dict[str, DataError | None]:
    """Compare every file of some records with its published checksum; None where they agree."""
    published = published_checksums()
    return {file: _file_error(folder / file, published[file]) for file in files_of(names)}


def _file_error(path: Path, expected: str) -> DataError | None:
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


def verified_checksums(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the checksums of some records' files, all of them as published.

    Raises:
        DataError: If the folder or a file is missing, cannot be read or is not the published one.
    """
    require_folder(folder)
    errors = [error for error in file_errors(folder, names).values() if error]
    if errors:
        raise together(errors, folder)
    return {file: published_checksums()[file] for file in files_of(names)}


def download_records(folder: Path, names: Sequence[str]) -> None:
    """Download the files of some records that a folder lacks; verify those that it has.

    Raises:
        UnreachableError: If the server never answered; the folder is not made then.
        DownloadError: If the download broke off, or the folder cannot be written to.
        DataError: If a file in the folder is not the published one, or cannot be read.
        ChecksumError: If the server's file is not the published one.
    """
    errors = file_errors(folder, names)
    lacking = [file for file, error in errors.items() if isinstance(error, MissingDataError)]
    if wrong := [error for file, error in errors.items() if error and file not in lacking]:
        raise together(wrong, folder)
    if not lacking:
        return
    from tqdm import tqdm

    _logger.info("downloading %d files from %s to %s", len(lacking), PHYSIONET_URL, folder)
    answered = False
    for file in tqdm(lacking, unit="file", desc="MIT-BIH", disable=None):
        if (folder / file).exists():  # Another process is downloading too.
            continue
        content = _received(PHYSIONET_URL + file, answered=answered)
        answered = True
        got, published = hashlib.sha256(content).hexdigest(), published_checksums()[file]
        if got != published:
            raise ChecksumError(
                f"the server's file is not the published one: SHA-256 {got[:12]}..., published "
                f"{published[:12]}...; it was not kept",
                PHYSIONET_URL + file,
            )
        try:
            # Otherwise a power cut could leave an empty file that later looks damaged.
            write_whole(folder / file, content, durable=True)
        except OSError as error:
            raise DownloadError(f"{folder}: cannot be written to: {error}") from error


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
