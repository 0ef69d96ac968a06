"""Errors that stand for many faults, and what is left of them in another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from study.errors import ChecksumError, DataError, MissingDataError, read_all

FOLDER = Path("/records")
MANY = [f"m{number}" for number in range(78)]


def read(name: str) -> str:
    kinds = {"m": MissingDataError("missing", FOLDER / name), "c": ChecksumError("altered", "x")}
    if name[0] in kinds:
        raise kinds[name[0]]
    return name.upper()


def test_a_fault_of_many_is_one_line() -> None:
    for names, kind, text in (
        (["a", "m1"], MissingDataError, "/records/m1: missing"),
        (["m1", "m2"], MissingDataError, "/records: m1 and m2: missing"),
        (MANY, MissingDataError, "/records: m0, m1, m2 and 75 more (78 in all): missing"),
        (["m1", "c"], DataError, "/records: 2 faults\n  - m1: missing\n  - x: altered"),
    ):
        assert read_all(["a", "b"], read, folder=FOLDER) == {"a": "A", "b": "B"}
        with pytest.raises(DataError) as caught:
            read_all(names, read, folder=FOLDER)
        error = caught.value
        assert (type(error), str(error)) == (kind, text)
        back = pickle.loads(pickle.dumps(error))  # as from another process
        assert (str(back), back.fault, back.where) == (text, error.fault, error.where)
