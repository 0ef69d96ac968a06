"""Where a trial's files are, and whether they are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from study.errors import StudyStateError, UsageError
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, SCORES, WEIGHTS, file_fault, read_predictions
from tests.builders import npz, refused

PACKED = npz(log_probs=np.random.default_rng(0).normal(size=(2, 50, 4)).astype(np.float32))


def of_shape(*shape: int) -> bytes:
    return npz(log_probs=np.zeros(shape))


def test_damaged_predictions_and_those_of_something_else_are_refused(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    for content, fault in (
        (PACKED[:300] + bytes([PACKED[300] ^ 1]) + PACKED[301:], "d/predictions.npz is damaged ("),
        (of_shape(1, 49, 4), "must hold log_probs of [seeds, 50, 4], got [1, 49"),
        (of_shape(0, 50, 4), "must hold log_probs of [seeds, 50, 4], got [0, 50"),
        (npz(probs=np.zeros((1, 50, 4))), "has no 'log_probs'"),
    ):
        storage.folder("d").write(PREDICTIONS, content)
        said = refused(StudyStateError, read_predictions, storage, "d", n_beats=50)
        assert fault in said
        assert said.endswith("; bring it back from a copy, or move it away")


def test_each_kind_of_file_is_judged() -> None:
    assert file_fault(PREDICTIONS, PACKED) == ""
    for name, content, fault in (
        (WEIGHTS, None, "is missing"),
        (WEIGHTS, b"no", "is damaged (BadZipFile: File is not a zip file)"),
        (SCORES, b"{", "is damaged (Expecting property name"),
        ("per_record.csv", b"", "is empty"),
    ):
        assert file_fault(name, content).startswith(fault)


def test_a_subfolder_lies_before_the_options_of_its_storage() -> None:
    bucket = Storage.at("s3://bucket/studies?region=eu-west-1")
    assert bucket.folder("tiny", "d").root == "s3://bucket/studies/tiny/d?region=eu-west-1"
    assert Storage("/a folder/what?").folder("tiny").root == "/a folder/what?/tiny"
    said = refused(UsageError, Storage.at, "nowhere://user:secret@bucket/x")
    assert said.startswith("--storage nowhere://...: cannot be opened")
