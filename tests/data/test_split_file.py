"""Split files: what is wrong with one is told together."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.data.split_file import FORM, load_split
from study.errors import ConfigError, MissingDataError
from tests.builders import refused

WORD = "name: must be a word of letters, digits, - and _, got "
LIST = "development: must be a list of one or more record names, got "
NAMES = "development: must hold record names such as 'a01' or 'p1/a01', got "

SPLITS: list[tuple[str, list[str]]] = [
    ("", [f"{WORD}None", f"{LIST}None"]),
    (
        'name = "x/y"\ndevelopment = ["a", 3, "b", "a"]',
        [f"{WORD}'x/y'", f"{NAMES}3", "development: 'a' is listed more than once"],
    ),
    ('name = "DS2"\ndevelopment = ["a"]', ["name: DS2 is MIT-BIH's; choose another"]),
    (
        'name = "x"\ndevelopment = ["a01"]\nlead = 2\n[patients]\na1 = "p"\na01 = 7',
        [
            "patients: unknown record 'a1'; known: a01. Did you mean 'a01'?",
            "patients: a01: must be a text that is not empty, got 7",
            "lead: must be the name of a lead, got 2",
        ],
    ),
    (
        'name = "x"\ndevelopment = "a01"\npatients = ["p"]',
        [f"{LIST}'a01'", "patients: must be a table of record = patient, got ['p']"],
    ),
]
SPLITS += [
    (f'name = "x"\ndevelopment = ["{name}"]', [f"{NAMES}'{name}'"])
    for name in ("../r1", "/etc/r1", "a/../r1", "", "..", "a b", "r1~")
]


@pytest.mark.parametrize(("text", "faults"), SPLITS)
def test_faults_of_a_split_come_together(tmp_path: Path, text: str, faults: list[str]) -> None:
    path = tmp_path / "split.toml"
    path.write_text(text)
    head, *listed = refused(ConfigError, load_split, path).split("\n  - ")
    assert (listed or [head.removeprefix(f"{path}: ")]) == faults


def test_split_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    assert refused(MissingDataError, load_split, path).startswith(f"{path}: no such split file; ")
    path.write_text("name = x")
    with pytest.raises(ConfigError, match=r"split\.toml: cannot be read as TOML: "):
        load_split(path)


def test_what_users_are_told_of_a_split_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    path.write_text("\n".join(line.strip().partition("   ")[0] for line in FORM.splitlines()[1:8]))
    split = load_split(path)
    assert (split.development, split.leads) == (("a01", "a02", "p7/b01"), ("II",))
    assert split.patients == {"a01": "p1", "a02": "p1", "a03": "a03", "p7/b01": "p7/b01"}
