"""Addresses of where files of trials are."""

from __future__ import annotations

import pytest

from study.errors import UsageError
from study.store.storage import Storage


def test_a_subfolder_lies_before_the_options_of_its_storage() -> None:
    bucket = Storage.at("s3://bucket/studies?region=eu-west-1")
    assert bucket.folder("tiny", "d").root == "s3://bucket/studies/tiny/d?region=eu-west-1"
    assert Storage("/a folder/what?").folder("tiny").root == "/a folder/what?/tiny"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--storage nowhere://\.\.\.: cannot be opened"):
        Storage.at("nowhere://user:secret@bucket/x")
