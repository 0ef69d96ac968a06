"""A workspace with short synthetic records, whose studies end within seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from study.data.source import synthetic_source
from tests.builders import write_split
from tests.faults.studies import FAST, LONG, Studies
from tests.surroundings import own_surroundings

NAMES = ("101", "106", "108", "109", "112", "114")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    folder = tmp_path_factory.mktemp("workspace")
    synthetic_source(folder / "records", duration_s=60, names=NAMES)
    write_split(folder, NAMES)
    for name, text in (("fast", FAST), ("long", LONG)):
        (folder / f"{name}.toml").write_text(text)
    with own_surroundings() as scratch:
        yield Studies(folder, scratch)
