"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from study.data.beatset import BeatSet
from study.data.prepare import prepare
from study.data.source import Source, synthetic_source
from study.models.library import FOLDER_VARIABLE

torch.set_num_threads(1)


LONGEST = (
    "test_execute.py",
    "test_confirm.py",
    "test_killed_drivers.py",
    "test_fused.py",
    "test_engine.py",
    "test_cluster.py",
    "test_postgres.py",
    "test_packed.py",
)
"""Files that take half a minute and more: begun first, so that none runs alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; two processes take files in this order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep them for all workspaces of the tests; each would compile them for two seconds."""
    os.environ.setdefault(FOLDER_VARIABLE, str(tmp_path_factory.getbasetemp() / "kernels"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Start every test from the same global random state, whatever ran before."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def mitdb_dir() -> Path:
    """Folder of the real MIT-BIH records; the test is skipped where MITDB_DIR is not set."""
    folder = os.environ.get("MITDB_DIR")
    if not folder:
        pytest.skip("MITDB_DIR is not set: this test reads the real MIT-BIH records")
    return Path(folder)


@pytest.fixture(scope="session")
def records_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Short synthetic WFDB records, in the names of DS1, as the source of a study."""
    return synthetic_source(tmp_path_factory.mktemp("synthetic"), duration_s=120)


@pytest.fixture(scope="session")
def beat_set(records_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """A small synthetic beat set, cut as daeac."""
    cache = tmp_path_factory.mktemp("beats")
    return prepare(records_source, "daeac", "linear", cache_dir=cache)
