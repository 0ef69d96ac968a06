"""Files are whole or not there, and a disk that fails is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from study.errors import DiskError
from study.files import reading, write_whole, writing


def test_a_file_is_put_in_place_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named_with_what_it_takes() -> None:
    with pytest.raises(DiskError) as caught, writing("/dev/full", 12_300_000):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert str(caught.value) == (
        "/dev/full: cannot be written (No space left on device); it takes 12.3 MB"
    )


def test_what_was_there_stays_where_the_new_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    full = OSError(errno.ENOSPC, "full")
    with mock.patch("os.replace", side_effect=full), pytest.raises(DiskError) as caught:
        write_whole(path, "new")
    assert "a.txt: cannot be written (No space left on device)" in str(caught.value)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_names_no_key_of_an_address() -> None:
    uri = "s3://key:secret@bucket/study/x"
    with pytest.raises(DiskError) as caught, writing(uri, 10):
        raise OSError("When uploading to s3://key:secret@bucket/study/x: denied")
    assert "secret" not in str(caught.value)
    assert "denied" in str(caught.value)
    assert caught.value.__suppress_context__


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(DiskError, match=r"^/a/b: cannot be read \(Input/output error\)$"):
        with reading("/a/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
