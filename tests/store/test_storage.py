"""Files of trials: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import UsageError
from study.store.storage import Storage


def test_written_files_are_read_back_and_leave_no_part(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path).folder("trial", "one")
    assert folder.read("a.bin") is None
    folder.write("a.bin", b"first")
    folder.write("a.bin", b"second")
    assert folder.read("a.bin") == b"second"
    assert [path.name for path in (tmp_path / "trial" / "one").iterdir()] == ["a.bin"]
    folder.delete("a.bin")
    folder.delete("a.bin")
    assert folder.read("a.bin") is None


def test_a_uri_is_the_same_place_as_its_path(tmp_path: Path) -> None:
    Storage.at(tmp_path).write("x", b"1")
    assert Storage.at(f"file://{tmp_path}").read("x") == b"1"


def test_a_subfolder_lies_before_the_options_of_its_storage() -> None:
    bucket = Storage.at("s3://bucket/studies?region=eu-west-1")
    assert bucket.folder("tiny", "d").root == "s3://bucket/studies/tiny/d?region=eu-west-1"
    assert Storage("/a folder/what?").folder("tiny").root == "/a folder/what?/tiny"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--storage nowhere://\.\.\.: cannot be opened"):
        Storage.at("nowhere://user:secret@bucket/x")
