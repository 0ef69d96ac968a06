"""Files are whole or not there, failing disks are named, damaged npz and pt files are found."""

from __future__ import annotations

import errno
import io
import os
import random
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from study import files
from study.errors import ArchiveError, DiskError
from tests.builders import npz, refused


def test_a_full_disk_is_named_with_what_it_takes() -> None:
    said = r"^/dev/full: cannot be written \(No space left on device\); it takes 12.3 MB$"
    with pytest.raises(DiskError, match=said), files.writing("/dev/full", 12_300_000):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")


def test_a_file_is_put_in_place_whole_or_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    files.write_whole(path, "first")
    files.write_whole(path, b"old")
    full = mock.patch("os.replace", side_effect=OSError(errno.ENOSPC, "full"))
    with full, pytest.raises(DiskError, match=r"a.txt: cannot be written \(No space left on dev"):
        files.write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_an_output_that_cannot_be_written_is_told_without_a_trace(tmp_path: Path) -> None:
    file, fault = tmp_path / "file", files.output_fault
    file.touch()
    assert fault(file) == fault(tmp_path / "new" / "a") == fault(tmp_path / "a", folder=True) == ""
    assert "must be a file" in fault(tmp_path) and "must be a folder" in fault(file, folder=True)
    assert "file: is there already, and is never replaced" in fault(file, new=True)
    assert f"cannot be written ({file}: Not a directory); name another" in fault(file / "a")
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_names_no_key_of_an_address() -> None:
    uri = "s3://key:secret@bucket/study/x"
    with pytest.raises(DiskError) as caught, files.writing(uri, 10):
        raise OSError("When uploading to s3://key:secret@bucket/study/x: denied")
    assert "secret" not in str(caught.value)
    assert "denied" in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(DiskError, match=r"^/a/b: cannot be read \(Input/output error\)$"):
        with files.reading("/a/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_is_not_finite_is_null_in_json_and_comes_back_as_nan() -> None:
    values = {"a": np.float32(0.5), "b": [np.nan, -np.inf, 2], 3: np.array([[1, 2]])}
    assert files.to_json(values) == {"a": 0.5, "b": [None, None, 2], "3": [[1, 2]]}
    assert str(files.from_json({"a": 0.5, "b": None})) == "{'a': 0.5, 'b': nan}"


KINDS = {"label": ("i", 1), "names": ("U", 1)}
ARRAYS = {"label": np.arange(40) % 4, "names": np.array(["100", "101"])}


def repacked(parts: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of any parts, whose checksums are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def header(text: str, version: int = 1) -> bytes:
    """Return an npy file of a header and 8 bytes."""
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + b"\0" * 8


def test_whole_arrays_come_back_and_neither_altered_nor_pickled_ones() -> None:
    assert files.archive_fault(npz(**ARRAYS)) == ""
    got = files.read_arrays(npz(**ARRAYS), KINDS, {"absent": ("f", 2)})
    assert list(got) == ["label", "names"]
    np.testing.assert_array_equal(got["label"], ARRAYS["label"])
    content = bytearray(npz(**ARRAYS))
    content[250] ^= 1
    assert files.archive_fault(bytes(content)).endswith("checksum of its part label.npy is wrong")
    with pytest.raises(ArchiveError, match=r"^is damaged \(ValueError\)$"):
        files.read_arrays(npz(label=np.array([{}], dtype=object)), KINDS)


def test_what_is_absent_or_of_another_kind_is_told_together() -> None:
    assert refused(ArchiveError, files.read_arrays, npz(label=np.zeros((2, 2))), KINDS) == (
        "lacks the expected content: 2 faults\n"
        "  - has no 'names'\n"
        "  - 'label' must have 1 dimensions and a type of kind i, got [2, 2] float64"
    )
    with pytest.raises(ArchiveError, match=r"^lacks the expected content: 'more' must have 0"):
        files.read_arrays(npz(**ARRAYS, more=np.zeros(1)), KINDS, {"more": ("f", 0)})


def described(descr: str, size: str) -> bytes:
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': ({size},)}}")


@pytest.mark.parametrize(
    "npy",
    [
        b"",
        b"no array",
        *(described("'<i8'", size) for size in ("99999999999999", "9", "-1")),
        described("'x'", "1"),
        header("{'descr': " + "[" * 3000 + "]" * 3000),
        header("{'descr': '''"),
        header("{}" + " " * 20_000, version=2),
        header("{}", version=9),
    ],
)
def test_headers_of_arrays_that_break_their_parser(npy: bytes) -> None:
    with pytest.raises(ArchiveError, match="^is damaged|^lacks the expected content"):
        files.read_arrays(repacked({"label.npy": npy, "names.npy": b""}), KINDS)


def test_any_change_ends_in_the_same_error() -> None:
    rng, outcomes = random.Random(0), set[str]()
    stored = npz(**ARRAYS)
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    whole = repacked(parts, zipfile.ZIP_DEFLATED)
    for number in range(1500):
        if number % 2:  # what no checksum tells
            name = rng.choice(list(parts))
            content = repacked({**parts, name: changed(parts[name], rng)})
        else:
            content = changed(whole, rng)
        try:
            arrays = files.read_arrays(content, KINDS)
            outcomes.add("read")
            if number % 2 == 0:
                np.testing.assert_equal(arrays, ARRAYS)
        except ArchiveError as error:
            outcomes.add(str(error)[:10])
    assert outcomes == {"read", "is damaged", "lacks the "}


def changed(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content))
        tail = content[at + rng.choice([0, 1, 1, 1, 9]) :] if rng.random() < 0.95 else b""
        content = content[:at] + rng.randbytes(rng.randint(1, 2)) + tail
    return content
