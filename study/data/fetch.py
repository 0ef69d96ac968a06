"""SHA-256 of record files, those that PhysioNet publishes for MIT-BIH, and its download.

A file of the download gets its name once all of it has arrived and is the published one. pooch
would do the same in as many lines: its errors would have to be told apart and reworded here.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from study.data.records import DS2, FILE_SUFFIXES
from study.data.wfdb_header import read_header, require_files, require_folder
from study.errors import ChecksumError, DataError, DownloadError, MissingDataError, together
from study.files import write_whole

PHYSIONET_URL = "https://physionet.org/files/mitdb/1.0.0/"

ATTEMPTS = 4
"""At each file."""

_CHUNK_BYTES = 1 << 16
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# For the progress bar alone: the sizes of 66 files are not worth 66 requests.
_TYPICAL_BYTES = {".dat": 1_950_000, ".hea": 200, ".atr": 4_500}

_logger = logging.getLogger(__name__)


class UnreachableError(DownloadError):
    """The server gave not one byte: as good as no network."""


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
    """A file that is one of MIT-BIH's, under whatever name."""

    name: str
    published: str


def published_among(checksums: Mapping[str, str], records: Sequence[str]) -> MitdbFile | None:
    """Return the first file that is one of some MIT-BIH records', told by its SHA-256."""
    published = published_checksums()
    file_of = {published[file]: file for file in files_of(records)}
    for name, digest in checksums.items():
        if digest in file_of:
            return MitdbFile(name, file_of[digest])
    return None


def record_checksums(folder: Path, name: str, *, annotated: bool = True) -> dict[str, str]:
    """Return the SHA-256 of every file of one record, by name.

    Raises:
        MissingDataError: If a file is not there; annotations need not be unless `annotated`.
        DataError: If a file cannot be used, or is one of the sealed DS2.
    """
    require_files(folder, name, (".hea", ".atr") if annotated else (".hea",))
    signals = [(Path(name).parent / file).as_posix() for file in read_header(folder, name).files]
    files = list(dict.fromkeys([f"{name}.hea", *signals]))
    if (folder / f"{name}.atr").exists():
        files.append(f"{name}.atr")
    try:
        checksums = {file: sha256_of(folder / file) for file in files}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", folder / name) from error
    # By content: a copy of a sealed record may have any name.
    sealed = published_among(checksums, DS2)
    if sealed is not None:
        raise DataError(
            f"is {sealed.published} of MIT-BIH's DS2, which is sealed: only "
            "`python -m study.evaluate` reads it, by a plan written before; give another",
            folder / sealed.name,
        )
    return checksums


def file_errors(
    folder: Path, names: Sequence[str], expected: Mapping[str, str]
) -> dict[str, DataError | None]:
    """Compare every file of some records with its published checksum; None where they agree."""
    return {file: _file_error(folder / file, expected[file]) for file in files_of(names)}


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
        f"has SHA-256 {got[:12]}..., published is {expected[:12]}...: damaged or edited; fetch it "
        "again",
        path,
    )


def verified_checksums(
    folder: Path, names: Sequence[str], expected: Mapping[str, str]
) -> dict[str, str]:
    """Return the checksums of some records' files, all of them as published.

    Raises:
        MissingDataError: If the folder is not there, or files are missing.
        ChecksumError: If files are not the published ones.
        DataError: If the folder or a file cannot be read, or files have faults of both kinds.
    """
    require_folder(folder)
    errors = [error for error in file_errors(folder, names, expected).values() if error]
    if errors:
        raise together(errors, folder)
    return {file: expected[file] for file in files_of(names)}


def download_records(
    folder: Path,
    names: Sequence[str],
    *,
    base_url: str = PHYSIONET_URL,
    expected: Mapping[str, str] | None = None,
    timeout_s: float = 20.0,
    pause_s: float = 1.0,
) -> None:
    """Fetch the files that a folder lacks of some records; those that it has are verified.

    Args:
        folder: Where to; made where absent.
        names: Record names.
        base_url: Folder on the server, with a slash at its end.
        expected: SHA-256 by file name; None takes the published ones.
        timeout_s: Longest wait for the server to say anything.
        pause_s: Before the second attempt at a file; doubled before each further one.

    Raises:
        UnreachableError: If not one byte could be had.
        DownloadError: If the download broke off, or the folder cannot be written to.
        ChecksumError: If a file, here or on the server, is not the published one.
    """
    expected = published_checksums() if expected is None else expected
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(folder, _lacking(folder, names, expected), base_url, timeout_s, pause_s)
    except UnreachableError:
        # Nothing has come: leave no empty folder behind.
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written to: {error}") from error


def _lacking(folder: Path, names: Sequence[str], expected: Mapping[str, str]) -> dict[str, str]:
    """Return name and checksum of the files that are not there yet."""
    lacking = {}
    for file in files_of(names):
        path = folder / file
        if not path.exists():
            lacking[file] = expected[file]
        elif (got := sha256_of(path)) != expected[file]:
            raise ChecksumError(
                f"is not the published file: SHA-256 {got[:12]}..., published "
                f"{expected[file][:12]}...; delete it, and it is downloaded again",
                path,
            )
    return lacking


def _fetch(
    folder: Path, lacking: Mapping[str, str], base_url: str, timeout_s: float, pause_s: float
) -> None:
    if not lacking:
        return
    from tqdm import tqdm

    _logger.info("downloading %d files from %s to %s", len(lacking), base_url, folder)
    size = sum(_TYPICAL_BYTES[Path(file).suffix] for file in lacking)
    with tqdm(total=size, unit="B", unit_scale=True, desc="MIT-BIH", disable=None) as bar:
        server = _Server(timeout_s=timeout_s, pause_s=pause_s, bar=bar)
        for file, digest in lacking.items():
            if (folder / file).exists():  # Another process is downloading too.
                continue
            content = server.get(base_url + file)
            got = hashlib.sha256(content).hexdigest()
            if got != digest:
                raise ChecksumError(
                    f"the server's file is not the published one: SHA-256 {got[:12]}..., "
                    f"published {digest[:12]}...; nothing of it was kept",
                    base_url + file,
                )
            # A power cut must not leave an empty file that later looks like a damaged one.
            write_whole(folder / file, content, durable=True)


@dataclass(slots=True, kw_only=True)
class _Server:
    """One server during one download; `answered` tells whether it was ever there."""

    timeout_s: float
    pause_s: float
    bar: Any
    answered: bool = False

    def get(self, url: str) -> bytes:
        """Return a whole file, tried again where the failure may pass."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                return self._receive(url)
            except HTTPError as error:
                error.close()
                self.answered = True
                fault = f"{url}: the server answered {error.code} {error.reason}"
                passing = error.code in _TRANSIENT_STATUS
            except (OSError, HTTPException) as error:
                fault = f"{url}: {getattr(error, 'reason', error)}"
                passing = True
            # Before a first byte, waiting only keeps a user without network waiting.
            if not self.answered:
                raise UnreachableError(fault)
            if not passing:
                break
        raise DownloadError(
            f"{fault}; the files that have arrived are kept: run again to continue"
        )

    def _receive(self, url: str) -> bytes:
        content = bytearray()
        # Of a server that the caller names; whatever comes is checked by SHA-256.
        with urlopen(url, timeout=self.timeout_s) as response:  # nosec B310
            promised = response.headers.get("Content-Length")
            try:
                while chunk := response.read(_CHUNK_BYTES):
                    content += chunk
                    self.answered = True
                    self.bar.update(len(chunk))
                if promised is not None and len(content) < int(promised):
                    raise HTTPException("it ended early")
            except (OSError, HTTPException) as error:
                self.bar.update(-len(content))
                got = f"{len(content)} of {promised}" if promised else len(content)
                raise HTTPException(f"the connection broke after {got} bytes: {error}") from error
        return bytes(content)
