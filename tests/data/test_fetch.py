"""Download against a local server that truncates, alters, refuses and forgets about ranges."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from study.data.fetch import ATTEMPTS, UnreachableError, download_records
from study.errors import ChecksumError, DownloadError

FILES = {
    "101.hea": b"101 2 360 650000\n" * 5,
    "101.dat": bytes(range(256)) * 2000,
    "101.atr": b"\1\2" * 900 + b"\0\0",
}
SUMS = {file: hashlib.sha256(content).hexdigest() for file, content in FILES.items()}
ALTERED = {file: hashlib.sha256(b"not " + content).hexdigest() for file, content in FILES.items()}


class Server(ThreadingHTTPServer):
    """Serves FILES; `plan` holds what the next answers for a file are, then it behaves.

    An answer is a status to refuse with, "altered", ("drop", n): n bytes and then silence, or
    ("short", n): n bytes as if they were all.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan: dict[str, list[object]] = {}
        self.ranges = True
        self.lies_about_ranges = False
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        file = self.path.lstrip("/")
        asked = self.headers.get("Range", "")
        self.server.requests.append((file, asked))
        steps = self.server.plan.get(file, [])
        step = steps.pop(0) if steps else None
        if isinstance(step, int):
            self.send_error(step)
            return
        content = b"not " + FILES[file] if step == "altered" else FILES[file]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if not self.server.ranges:
            start = 0
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        sent = body[: step[1]] if isinstance(step, tuple) else body
        promised = len(sent) if isinstance(step, tuple) and step[0] == "short" else len(body)
        self.send_response(206 if start else 200)
        if start:
            first = 0 if self.server.lies_about_ranges else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
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
    assert server.requests == [(file, "") for file in FILES]


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "101.dat").write_bytes(FILES["101.dat"])
    download(server, tmp_path)
    assert [file for file, _ in server.requests] == ["101.hea", "101.atr"]
    download(server, tmp_path)
    assert len(server.requests) == 2
    assert contents(tmp_path) == FILES


def test_broken_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.plan["101.dat"] = [("drop", 100_000), ("drop", 50_000)]
    download(server, tmp_path)
    assert contents(tmp_path) == FILES
    ranges = [asked for file, asked in server.requests if file == "101.dat"]
    assert ranges == ["", "bytes=100000-", "bytes=150000-"]


def test_progress_earns_further_attempts(server: Server, tmp_path: Path) -> None:
    server.plan["101.dat"] = [("drop", 50_000)] * 9
    download(server, tmp_path)
    assert contents(tmp_path) == FILES


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.plan["101.dat"] = [("drop", 100_000)]
    download(server, tmp_path)
    assert contents(tmp_path) == FILES


def test_server_that_gives_another_range_is_asked_anew(server: Server, tmp_path: Path) -> None:
    server.lies_about_ranges = True
    server.plan["101.dat"] = [("drop", 100_000)]
    download(server, tmp_path)
    assert contents(tmp_path) == FILES
    ranges = [asked for file, asked in server.requests if file == "101.dat"]
    assert ranges == ["", "bytes=100000-", ""]


def test_passing_refusals_are_waited_out(server: Server, tmp_path: Path) -> None:
    server.plan["101.dat"] = [503, 429, 500]
    download(server, tmp_path)
    assert contents(tmp_path) == FILES


GIVEN_UP: dict[str, tuple[bool, list[object], str, int | None]] = {
    "no range, always broken": (
        False,
        [("drop", 1000)] * 9,
        "the connection broke after 1000 of 512000 bytes",
        1000,
    ),
    "no progress": (True, [("drop", 1000)] + [503] * 9, "the server answered 503", 1000),
    "not found": (True, [404], "the server answered 404 Not Found", None),
}


@pytest.mark.parametrize("case", GIVEN_UP)
def test_download_that_breaks_off_can_be_continued(
    server: Server, tmp_path: Path, case: str
) -> None:
    server.ranges, server.plan["101.dat"], reason, size = GIVEN_UP[case]
    with pytest.raises(DownloadError) as caught:
        download(server, tmp_path)
    assert type(caught.value) is DownloadError
    assert str(caught.value).startswith(f"{server.url}101.dat: {reason}")
    assert str(caught.value).endswith("; what has arrived is kept: run again to continue")
    kept = contents(tmp_path)
    assert kept.pop("101.hea") == FILES["101.hea"]
    assert kept == ({} if size is None else {"101.dat.part": FILES["101.dat"][:size]})

    server.ranges, server.plan = True, {}
    download(server, tmp_path)
    assert contents(tmp_path) == FILES
    assert ("101.dat", "" if size is None else f"bytes={size}-") in server.requests


def test_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "101.dat.part").write_bytes(b"x" * 1000)
    (tmp_path / "101.atr.part").write_bytes(FILES["101.atr"] + b"too much")
    download(server, tmp_path)
    assert contents(tmp_path) == FILES


def test_whole_part_only_needs_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "101.dat.part").write_bytes(FILES["101.dat"])
    download(server, tmp_path)
    assert contents(tmp_path) == FILES
    assert server.requests[1] == ("101.dat", "bytes=512000-")


SHORT_SUM = hashlib.sha256(FILES["101.dat"][:1000]).hexdigest()


@pytest.mark.parametrize(
    ("answer", "got"), [("altered", ALTERED["101.dat"]), (("short", 1000), SHORT_SUM)]
)
def test_altered_file_is_an_error_and_not_kept(
    server: Server, tmp_path: Path, answer: object, got: str
) -> None:
    server.plan["101.dat"] = [answer]
    with pytest.raises(ChecksumError) as caught:
        download(server, tmp_path)
    assert str(caught.value) == (
        f"{server.url}101.dat: the server's file is not the published one: SHA-256 {got[:12]}..., "
        f"published {SUMS['101.dat'][:12]}...; nothing of it was kept"
    )
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
    assert not (tmp_path / "mitdb" / "101.hea").exists()


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


def test_two_downloads_at_once_do_not_harm_each_other(server: Server, tmp_path: Path) -> None:
    server.plan["101.dat"] = [("drop", 100_000)]
    threads = [threading.Thread(target=download, args=(server, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(tmp_path) == FILES
    # The second and third waited, and found everything there.
    assert [file for file, _ in server.requests].count("101.atr") == 1
