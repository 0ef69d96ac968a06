"""Download from a local server that truncates, alters and refuses; states of files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from study.data.fetch import (
    ATTEMPTS,
    UnreachableError,
    download_records,
    file_errors,
    published_checksums,
    verified_checksums,
)
from study.data.records import FILE_SUFFIXES, MITDB
from study.errors import ChecksumError, DataError, DownloadError, MissingDataError

FILES = {
    "101.hea": b"101 2 360 650000\n" * 5,
    "101.dat": bytes(range(256)) * 2000,
    "101.atr": b"\1\2" * 900 + b"\0\0",
}
SUMS = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}


class Server(ThreadingHTTPServer):
    """Serves FILES; `plan` holds what the next answers for a file are, then it behaves.

    An answer is a status to refuse with, "altered", ("drop", n): n bytes and then silence, or
    ("short", n): n bytes as if they were all.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan: dict[str, list[object]] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        file = self.path.lstrip("/")
        self.server.requests.append(file)
        steps = self.server.plan.get(file, [])
        step = steps.pop(0) if steps else None
        if isinstance(step, int):
            self.send_error(step)
            return
        content = b"not " + FILES[file] if step == "altered" else FILES[file]
        sent = content[: step[1]] if isinstance(step, tuple) else content
        promised = len(sent) if isinstance(step, tuple) and step[0] == "short" else len(content)
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def download(server: Server, folder: Path) -> None:
    download_records(
        folder, ["101"], base_url=server.url, expected=SUMS, timeout_s=5.0, pause_s=0.01
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    download(server, tmp_path / "data" / "mitdb")
    assert contents(tmp_path / "data" / "mitdb") == FILES
    assert server.requests == list(FILES)


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "101.dat").write_bytes(FILES["101.dat"])
    for _ in range(2):
        download(server, tmp_path)
        assert server.requests == ["101.hea", "101.atr"]
        assert contents(tmp_path) == FILES


@pytest.mark.parametrize(
    "answers", [[("drop", 100_000), ("drop", 0), ("drop", 511_999)], [503, 429, 500]]
)
def test_failures_that_pass_are_waited_out(
    server: Server, tmp_path: Path, answers: list[object]
) -> None:
    server.plan["101.dat"] = answers
    download(server, tmp_path)
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize(
    ("answers", "reason", "requests"),
    [
        ([("drop", 1000)] * 9, "the connection broke after 1000 of 512000 bytes", ATTEMPTS),
        ([("drop", 1000)] + [503] * 9, "the server answered 503", ATTEMPTS),
        ([404], "the server answered 404 Not Found", 1),
    ],
)
def test_download_that_breaks_off_keeps_whole_files_only(
    server: Server, tmp_path: Path, answers: list[object], reason: str, requests: int
) -> None:
    server.plan["101.dat"] = answers
    with pytest.raises(DownloadError) as caught:
        download(server, tmp_path)
    assert type(caught.value) is DownloadError
    assert f"{server.url}101.dat: {reason}" in str(caught.value)
    assert server.requests.count("101.dat") == requests
    assert contents(tmp_path) == {"101.hea": FILES["101.hea"]}

    server.plan = {}
    download(server, tmp_path)
    assert contents(tmp_path) == FILES
    assert server.requests.count("101.hea") == 1


@pytest.mark.parametrize("answer", ["altered", ("short", 1000)])
def test_altered_file_is_an_error_and_not_kept(
    server: Server, tmp_path: Path, answer: object
) -> None:
    server.plan["101.dat"] = [answer]
    with pytest.raises(ChecksumError) as caught:
        download(server, tmp_path)
    assert caught.value.where == f"{server.url}101.dat"
    assert contents(tmp_path) == {"101.hea": FILES["101.hea"]}


def test_altered_file_on_disk_is_never_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "101.dat").write_bytes(b"mine")
    with pytest.raises(ChecksumError, match="delete it, and it is downloaded again"):
        download(server, tmp_path)
    assert contents(tmp_path) == {"101.dat": b"mine"}
    assert server.requests == []


def test_server_that_gives_nothing_is_unreachable(server: Server, tmp_path: Path) -> None:
    server.plan["101.hea"] = [("drop", 0)]
    with pytest.raises(UnreachableError):
        download(server, tmp_path / "mitdb")
    assert len(server.requests) == 1
    assert not (tmp_path / "mitdb").exists()


@pytest.mark.parametrize(("answer", "requests"), [(404, 1), (503, ATTEMPTS)])
def test_server_that_answers_with_an_error_is_no_missing_network(
    server: Server, tmp_path: Path, answer: int, requests: int
) -> None:
    server.plan["101.hea"] = [answer] * requests
    with pytest.raises(DownloadError, match=rf"101\.hea: the server answered {answer}") as caught:
        download(server, tmp_path / "mitdb")
    assert not isinstance(caught.value, UnreachableError)
    assert len(server.requests) == requests


def test_no_server_is_unreachable_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("127.0.0.1", "host.invalid")
    with pytest.raises(UnreachableError, match=r"^http://host\.invalid:\d+/101\.hea: "):
        download_records(tmp_path / "mitdb", ["101"], base_url=url, expected=SUMS)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "mitdb"
    with pytest.raises(DownloadError) as caught:
        download(server, folder)
    assert str(caught.value).startswith(f"{folder}: cannot be written to: ")


def test_downloads_at_once_do_not_harm_each_other(server: Server, tmp_path: Path) -> None:
    server.plan["101.dat"] = [("drop", 100_000)]
    threads = [threading.Thread(target=download, args=(server, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(tmp_path) == FILES


def test_errors_of_files_and_one_error_for_all(tmp_path: Path) -> None:
    names = ("101", "106", "108", "109")
    expected = {f"{name}.{file[4:]}": digest for name in names for file, digest in SUMS.items()}
    for file in expected:
        (tmp_path / file).write_bytes(FILES[f"101.{file[4:]}"])
    assert verified_checksums(tmp_path, names, expected) == expected
    for name in names:
        (tmp_path / f"{name}.atr").unlink()
    with pytest.raises(MissingDataError) as caught:
        verified_checksums(tmp_path, names, expected)
    assert str(caught.value) == (f"{tmp_path}: 101.atr, 106.atr, 108.atr and 109.atr: missing")
    (tmp_path / "106.dat").write_bytes(b"cut")
    (tmp_path / "108.hea").unlink()
    (tmp_path / "108.hea").mkdir()
    errors = file_errors(tmp_path, names, expected)
    kinds = [type(errors[f"106{suffix}"]) for suffix in FILE_SUFFIXES]
    assert kinds == [type(None), ChecksumError, MissingDataError]
    assert type(errors["108.hea"]) is DataError
    with pytest.raises(DataError, match="3 faults"):
        verified_checksums(tmp_path, names, expected)


def test_every_file_of_every_record_has_a_published_checksum() -> None:
    sums = published_checksums()
    assert set(sums) == {f"{name}{suffix}" for name in MITDB for suffix in FILE_SUFFIXES}
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in sums.values())
    # As in PhysioNet's SHA256SUMS.txt for version 1.0.0.
    assert sums["100.atr"].startswith("8d8a5349fb16638ebbf649f1779d12e9")
