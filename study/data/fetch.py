"""Download of MIT-BIH records: resumable, verified, never half a file under its final name.

A file grows as `<name>.part`, continues by an HTTP Range request where the server allows it, and
gets its name only once its SHA-256 is the published one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from study.data.checksums import files_of, published_checksums, sha256_of
from study.errors import ChecksumError, DownloadError

PHYSIONET_URL = "https://physionet.org/files/mitdb/1.0.0/"

_logger = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 16
ATTEMPTS = 4
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_TYPICAL_BYTES = {".dat": 1_950_000, ".hea": 200, ".atr": 4_500}


class UnreachableError(DownloadError):
    """The server gave not one byte: as good as no network."""


class _BrokenError(DownloadError):
    """A connection failed in a way that may pass: worth another attempt."""


def download_records(
    folder: Path,
    names: Sequence[str],
    *,
    base_url: str = PHYSIONET_URL,
    expected: Mapping[str, str] | None = None,
    timeout_s: float = 20.0,
    pause_s: float = 1.0,
) -> None:
    """Fetch what a folder lacks of some records; what is there already is verified and kept.

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
    sums = published_checksums() if expected is None else expected
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder):
            _fetch_lacking(folder, _lacking(folder, names, sums), base_url, timeout_s, pause_s)
    except UnreachableError:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
    except DownloadError:
        raise
    except OSError as err:
        raise DownloadError(f"{folder}: cannot be written to: {err}") from err


def _lacking(folder: Path, names: Sequence[str], sums: Mapping[str, str]) -> dict[str, str]:
    """Return name and checksum of the files that are not there yet."""
    lacking = {}
    for file in files_of(names):
        path = folder / file
        if not path.exists():
            lacking[file] = sums[file]
        elif sha256_of(path) != sums[file]:
            raise ChecksumError(
                f"{path}: is not the published file: SHA-256 {sha256_of(path)[:12]}..., published "
                f"{sums[file][:12]}...; delete it, and it is downloaded again"
            )
    return lacking


def _fetch_lacking(
    folder: Path, lacking: Mapping[str, str], base_url: str, timeout_s: float, pause_s: float
) -> None:
    if not lacking:
        return
    from tqdm import tqdm

    _logger.info("downloading %d files from %s to %s", len(lacking), base_url, folder)
    size = sum(_TYPICAL_BYTES[Path(file).suffix] for file in lacking)
    with tqdm(total=size, unit="B", unit_scale=True, desc="MIT-BIH", disable=None) as bar:
        server = _Server(base_url=base_url, timeout_s=timeout_s, pause_s=pause_s, bar=bar)
        for file, digest in lacking.items():
            server.fetch(file, folder / file, digest)


@dataclass(slots=True, kw_only=True)
class _Server:
    """One server during one download; knows whether it ever gave a byte."""

    base_url: str
    timeout_s: float
    pause_s: float
    bar: Any
    received: int = 0

    def fetch(self, file: str, path: Path, digest: str) -> None:
        """Fetch one file under its final name, with attempts as long as there is progress."""
        part = path.with_name(path.name + ".part")
        failed, largest, mismatches = 0, _size(part), 0
        while True:
            try:
                resumed = self._receive(file, part)
            except DownloadError as err:
                failed = 1 if _size(part) > largest else failed + 1
                largest = max(largest, _size(part))
                self._raise_if_hopeless(err, failed)
                time.sleep(self.pause_s * 2 ** (failed - 1))
                continue
            got = sha256_of(part)
            if got == digest:
                os.replace(part, path)
                return
            part.unlink()
            mismatches += 1
            # A part of an earlier run may be another file's: that is no fault of the server yet.
            if not resumed or mismatches > 1:
                raise ChecksumError(
                    f"{self.base_url}{file}: the server's file is not the published one: SHA-256 "
                    f"{got[:12]}..., published {digest[:12]}...; nothing of it was kept"
                )

    def _raise_if_hopeless(self, err: DownloadError, failed: int) -> None:
        # Before a first byte, waiting only keeps a user without network waiting.
        answered = isinstance(err.__cause__, HTTPError)
        if not self.received and not answered:
            raise UnreachableError(str(err)) from err
        if failed >= ATTEMPTS or not isinstance(err, _BrokenError):
            raise DownloadError(f"{err}; what has arrived is kept: run again to continue") from err

    def _receive(self, file: str, part: Path) -> bool:
        """Append to the part, or start it; return whether it was continued."""
        have = _size(part)
        url = self.base_url + file
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            request = Request(url, headers=headers)
            # Of a server that the caller names; whatever comes is checked by SHA-256.
            response: HTTPResponse = urlopen(request, timeout=self.timeout_s)  # nosec B310
        except HTTPError as err:
            err.close()
            if err.code == 416 and have:
                return True
            kind = _BrokenError if err.code in _TRANSIENT_STATUS else DownloadError
            raise kind(f"{url}: the server answered {err.code} {err.reason}") from err
        except (OSError, HTTPException) as err:
            raise _BrokenError(f"{url}: {getattr(err, 'reason', err)}") from err
        with response:
            resumed = response.status == 206
            given = response.headers.get("Content-Range", "")
            if resumed and not given.startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _BrokenError(f"{url}: asked for bytes from {have} on, got '{given}'")
            with part.open("ab" if resumed else "wb") as out:
                for chunk in self._chunks(response, url):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
        return resumed

    def _chunks(self, response: HTTPResponse, url: str) -> Iterator[bytes]:
        promised, got = response.headers.get("Content-Length"), 0
        try:
            while chunk := response.read(_CHUNK_BYTES):
                got += len(chunk)
                self.received += len(chunk)
                self.bar.update(len(chunk))
                yield chunk
        except (OSError, HTTPException) as err:
            raise _BrokenError(f"{url}: the connection broke after {got} bytes: {err}") from err
        if promised is not None and got < int(promised):
            raise _BrokenError(f"{url}: the connection broke after {got} of {promised} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time download into a folder."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once are then the user's care.
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.warning("%s: another process is downloading into it; waiting", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
