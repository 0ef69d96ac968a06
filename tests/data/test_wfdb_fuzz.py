"""Bad WFDB files: whatever header, annotations and signal hold, no other error comes out.

Small records are written, bytes of one of their files changed, and all that reads records is
tried. FUZZ_EXAMPLES sets how often (docs/reliability.md).
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.data.external import external_rules, find_external
from study.data.one_record import read_one
from study.data.source import own_source
from study.data.split_file import load_split
from study.data.wfdb_record import read_record
from study.errors import DataError, StudyError
from tests.builders import write_record
from tests.fuzzing import FUZZED, written_outside

NAME = "r1"
SPLIT = f'name = "mine"\ndevelopment = ["{NAME}"]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of records; copies of headers are made beside it, where writing is allowed."""
    root = tmp_path_factory.mktemp("bad")
    tempfile.tempdir = str(root)
    yield root / "records"
    tempfile.tempdir = None


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    write_record(folder, NAME, duration_s=4, symbols="NVNAN", fmt="212")
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def changed(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """Return a file with some of its bytes, or of a header's words, changed, lost or repeated."""
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(content) + 1), rng.random()
        if suffix == ".hea" and kind < 0.6:
            words = content.split(b" ")
            words[rng.randrange(len(words))] = rng.choice(ODD)
            content = b" ".join(words)
        elif kind < 0.7:
            content = content[:at] + rng.randbytes(rng.randint(1, 4)) + content[at + 1 :]
        elif kind < 0.8:
            content = content[:at]
        elif kind < 0.9:
            content = content[:at] + content[at + rng.randint(1, 50) :]
        else:
            content = content[:at] + content[max(0, at - rng.randint(1, 50)) :]
    return content


ODD = [
    *(b"0", b"-1", b"9" * 30, b"9" * 400, b"9" * 5000, b"1.5", b"nan", b"", b"x", b"\xff\xfe"),
    *(b"2", b"16", b"80", b"212", b"310", b"311", b"24", b"32", b"61", b"8", b"508", b"516"),
    *(b"212x9", b"212x0", b"212:99", b"212:99999999999", b"212+7", b"212+99999999999", b"524"),
    *(b"200(5)/mV", b"0/mV", b"1e400/mV", b"-3/uV", b"200/kg", b"360/0", b"1e9", b"100000"),
    *(b"r1.hea", b"r1.atr", b"~", b"-", b"../r1.dat", b"/etc/passwd", b"r1/2", b"s3://a/b"),
    *(b"\n", b"\n\n", b"#", b"# <age>: 1", b"MLII", b"\r\n", b"r1.dat 212\nr1.dat 212"),
]


def through(folder: Path) -> None:
    """Read a folder's record in every way that a command does."""
    split = folder.parent / "split.toml"
    for read in (
        lambda: read_record(folder, NAME, rules=external_rules()),
        lambda: read_one(folder / NAME),
        lambda: find_external(folder),
        lambda: own_source(folder, split),
    ):
        try:
            read()
        except StudyError as error:
            assert str(error)


@FUZZED
@given(suffix=st.sampled_from([".hea", ".hea", ".atr", ".dat"]), seed=st.integers(0, 2**32))
def test_any_record_is_safe(folder: Path, whole: dict[str, bytes], suffix: str, seed: int) -> None:
    rng = random.Random(seed)
    for of, content in whole.items():
        (folder / f"{NAME}{of}").write_bytes(content)
    (folder / f"{NAME}{suffix}").write_bytes(changed(whole[suffix], suffix, rng))
    (folder.parent / "split.toml").write_text(SPLIT)
    with written_outside(folder.parent) as files:
        through(folder)
    assert files == []


@FUZZED
@given(text=st.text(alphabet="abc/.=[]\"'{}\n 0123456789-_develop", max_size=80))
def test_a_bad_split_file_ends_in_an_error_of_this_project(folder: Path, text: str) -> None:
    folder.parent.mkdir(exist_ok=True)
    split = folder.parent / "other.toml"
    split.write_text(SPLIT[: len(text) // 2] + text)
    try:
        load_split(split)
    except StudyError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        *((f"{NAME}.dat", file) for file in ("../../etc/passwd", "/etc/passwd", "..", "~r1.dat")),
        *((f"{NAME}.dat", file) for file in ("s3://bucket/x.dat", "sub/r1.dat")),
        ("2 360 3600", "2 360 " + "9" * 400),
        ("2 360 3600", "2 360 99999999999"),
        ("r1 2 360 3600", "r1/2 2 360 3600"),
    ],
)
def test_a_header_names_no_file_elsewhere(tmp_path: Path, words: str, change: str) -> None:
    write_record(tmp_path, NAME)
    header = tmp_path / f"{NAME}.hea"
    assert words in header.read_text()
    header.write_text(header.read_text().replace(words, change))
    for read in (lambda: read_record(tmp_path, NAME), lambda: read_one(tmp_path / NAME)):
        with pytest.raises(DataError) as caught:
            read()
        assert caught.value.where == header
        if change.endswith("9"):
            assert "no length, frame, skew or offset may be above" in caught.value.fault


def test_a_linked_signal_is_read(tmp_path: Path) -> None:
    write_record(tmp_path / "there", NAME)
    (tmp_path / "here").mkdir()
    for suffix in (".hea", ".dat", ".atr"):
        (tmp_path / "here" / f"{NAME}{suffix}").symlink_to(tmp_path / "there" / f"{NAME}{suffix}")
    assert len(read_record(tmp_path / "here", NAME).beat_samples) > 5


def note(text: bytes) -> bytes:
    """Return a note at sample 0, as an annotation file holds it."""
    return b"\x00\x58" + bytes([len(text), 0xFC]) + text + b"\0" * (len(text) % 2)


@pytest.mark.parametrize(
    "text",
    [b"## foo", b"## time resolution: x", b"## time resolution: 9", b"## end of definitions"],
)
def test_a_note_that_wfdb_would_never_end_at(tmp_path: Path, text: bytes) -> None:
    write_record(tmp_path, NAME)
    path = tmp_path / f"{NAME}.atr"
    known = note(b"## time resolution: 360") + note(b"## annotation type definitions")
    known += note(b"41 x a mark") + note(b"## end of definitions")
    whole = path.read_bytes()
    path.write_bytes(known + whole)
    assert len(read_record(tmp_path, NAME).beat_samples) > 5
    path.write_bytes(known + note(text) + whole)
    with pytest.raises(DataError, match="r1.atr: wfdb cannot read its note '## .*'"):
        read_record(tmp_path, NAME)
