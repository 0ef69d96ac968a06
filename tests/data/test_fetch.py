"""Download from a local server that truncates, alters and refuses."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from study.data import fetch
from study.data.catalogue import CHECKSUMS_LIST, MITDB
from study.data.fetch import ATTEMPTS, UnreachableError, download_records
from study.errors import ChecksumError, DownloadError, MissingDataError, StudyError

FILES = {
    "101.hea": b"101 2 360 650000\n" * 5,
    "101.dat": bytes(range(256)) * 2000,
    "101.atr": b"\1\2" * 900 + b"\0\0",
}
PUBLISHED = fetch.published_checksums
SUMS = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}


class Server(ThreadingHTTPServer):
    """Serves FILES; `plan` holds what the next answers for a file are, then it behaves.

    An answer is a status to refuse with, "silence", "altered", ("drop", n): n bytes and then
    silence, or ("short", n): n bytes as if they were all.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan: dict[str, list[object]] = {}
        self.requests: list[str] = []
        self.arrives: Path | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        file = self.path.removeprefix("/mitdb/1.0.0/").removeprefix("/other/1.0.0/")
        self.server.requests.append(file)
        if self.server.arrives:
            self.server.arrives.write_bytes(FILES[self.server.arrives.name])
        steps = self.server.plan.get(file, [])
        step = steps.pop(0) if steps else None
        if isinstance(step, int):
            self.send_error(step)
        if step == "silence" or isinstance(step, int):
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
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is PhysioNet for the download, with record 101 alone."""
    server = Server()
    monkeypatch.setattr(fetch, "PHYSIONET_URL", server.url)
    monkeypatch.setattr(fetch, "PAUSE_S", 0.01)
    monkeypatch.setattr(fetch, "published_checksums", lambda *_: SUMS)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_file_arrives_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mitdb"
    for _ in range(2):
        download_records(MITDB, folder, ["101"])
        assert contents(folder) == FILES
        assert server.requests == list(FILES)
    (folder / "101.hea").unlink()
    (folder / "101.dat").unlink()
    # Another process may fetch the same files: none is asked for that has come meanwhile.
    server.arrives = folder / "101.dat"
    download_records(MITDB, folder, ["101"])
    assert contents(folder) == FILES
    assert server.requests[3:] == ["101.hea"]


@pytest.mark.parametrize("answers", [[("drop", 100_000), ("drop", 0), "silence"], [503, 429, 500]])
def test_passing_faults_are_waited(server: Server, tmp_path: Path, answers: list[object]) -> None:
    server.plan["101.dat"] = answers
    download_records(MITDB, tmp_path, ["101"])
    assert contents(tmp_path) == FILES


BROKEN = "the connection broke after 1000 of 512000 bytes; the files"


@pytest.mark.parametrize(
    ("answer", "error", "reason", "requests"),
    [
        (("drop", 1000), DownloadError, BROKEN, ATTEMPTS),
        (404, DownloadError, "the server answered 404 Not Found; the files", 1),
        ("altered", ChecksumError, "the server's file is not the published one", 1),
        (("short", 1000), ChecksumError, "the server's file is not the published one", 1),
    ],
)
def test_what_does_not_arrive_whole_is_an_error_and_not_kept(
    server: Server,
    tmp_path: Path,
    answer: object,
    error: type[StudyError],
    reason: str,
    requests: int,
) -> None:
    server.plan["101.dat"] = [answer] * 9
    with pytest.raises(StudyError, match=f"{server.url}mitdb/1.0.0/101.dat: {reason}") as caught:
        download_records(MITDB, tmp_path, ["101"])
    assert type(caught.value) is error
    assert server.requests.count("101.dat") == requests
    assert contents(tmp_path) == {"101.hea": FILES["101.hea"]}
    server.plan = {}
    download_records(MITDB, tmp_path, ["101"])
    assert contents(tmp_path) == FILES
    assert server.requests.count("101.hea") == 1


def test_only_a_server_that_never_answers_is_no_network(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "mitdb"
    server.plan["101.hea"] = [503] * ATTEMPTS
    with pytest.raises(DownloadError, match=r"101\.hea: the server answered 503") as caught:
        download_records(MITDB, folder, ["101"])
    assert type(caught.value) is DownloadError
    assert len(server.requests) == ATTEMPTS
    server.requests.clear()
    server.plan["101.hea"] = ["silence"]
    with pytest.raises(UnreachableError, match=rf"^{server.url}mitdb/1.0.0/101\.hea: "):
        download_records(MITDB, folder, ["101"])
    assert len(server.requests) == 1
    assert not folder.exists()


def test_a_list_of_checksums_is_fetched_where_the_tool_has_none_and_must_be_the_known_one(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "published_checksums", PUBLISHED)
    content = "".join(f"{digest} {file}\n" for file, digest in SUMS.items()).encode()
    monkeypatch.setitem(FILES, CHECKSUMS_LIST, content)
    known = replace(MITDB, name="other", list_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(MissingDataError, match=r"SHA256SUMS\.txt: missing; .*/other/1\.0\.0/"):
        PUBLISHED(known, tmp_path)
    download_records(known, tmp_path, ["101"])
    assert contents(tmp_path) == FILES
    assert fetch.verified_checksums(known, tmp_path, ["101"]) == SUMS
    with pytest.raises(ChecksumError, match=r"102\.hea.*: is not in the list of checksums"):
        fetch.verified_checksums(replace(known, list_sha256=""), tmp_path, ["102"])
    with pytest.raises(ChecksumError, match="is not the published list of checksums"):
        PUBLISHED(replace(known, list_sha256="0" * 64), tmp_path)
