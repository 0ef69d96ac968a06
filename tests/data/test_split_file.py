"""Split files: what is wrong with one is told together."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.data.split_file import load_split
from study.errors import ConfigError, MissingDataError


def split(folder: Path, text: str) -> Path:
    path = folder / "split.toml"
    path.write_text(text)
    return path


SPLITS = {
    "nothing": (
        "",
        [
            "name: must be a word of letters, digits, - and _, got None",
            "development: must be a list of one or more record names, got None",
        ],
    ),
    "a typo": (
        'name = "x"\ndevelopment = ["a"]\npatient = 1\n',
        [
            "unknown key 'patient'; known: development, lead, name, patients. "
            "Did you mean 'patients'?"
        ],
    ),
    "a path": (
        'name = "x/y"\ndevelopment = ["a", "../b", 3]\n',
        [
            "name: must be a word of letters, digits, - and _, got 'x/y'",
            "development: must hold record names such as 'a01' or 'p1/a01', got '../b'",
            "development: must hold record names such as 'a01' or 'p1/a01', got 3",
        ],
    ),
    "a taken name": (
        'name = "DS2"\ndevelopment = ["a"]\n',
        ["name: DS2 is MIT-BIH's; choose another"],
    ),
    "twice": (
        'name = "x"\ndevelopment = ["a", "b", "a"]\n',
        ["development: 'a' is listed more than once"],
    ),
    "patients": (
        'name = "x"\ndevelopment = ["a01"]\nlead = 2\n[patients]\na1 = "p"\na01 = 7\n',
        [
            "patients: unknown record 'a1'; known: a01. Did you mean 'a01'?",
            "patients: a01: must be a text that is not empty, got 7",
            "lead: must be the name of a lead, got 2",
        ],
    ),
    "no table": (
        'name = "x"\ndevelopment = "a01"\npatients = ["p"]\n',
        [
            "development: must be a list of one or more record names, got 'a01'",
            "patients: must be a table of record = patient, got ['p']",
        ],
    ),
}


@pytest.mark.parametrize("case", SPLITS)
def test_faults_of_a_split_file_come_together(tmp_path: Path, case: str) -> None:
    text, faults = SPLITS[case]
    path = split(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_split(path)
    one, more = f"{path}: {faults[0]}", f"{path}: {len(faults)} faults\n  - "
    assert str(caught.value) == (one if len(faults) == 1 else more + "\n  - ".join(faults))


def test_split_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as absent:
        load_split(tmp_path / "no.toml")
    assert str(absent.value) == f"{tmp_path}/no.toml: no such split file"
    with pytest.raises(ConfigError, match=r"split\.toml: cannot be read as TOML: "):
        load_split(split(tmp_path, "name = x"))
