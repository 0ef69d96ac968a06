"""A workspace with short synthetic records, whose studies end within seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from study import run
from study.data.source import synthetic_source
from tests.faults.studies import FAST, LONG, Studies

NAMES = ("101", "106", "108", "109", "112", "114")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    folder = tmp_path_factory.mktemp("workspace")
    synthetic_source(folder / "records", duration_s=60, names=NAMES)
    names = ", ".join(f'"{name}"' for name in NAMES)
    (folder / "split.toml").write_text(f'name = "tiny"\ndevelopment = [{names}]\n')
    for name, text in (("fast", FAST), ("long", LONG)):
        (folder / f"{name}.toml").write_text(text)
    # All that is temporary goes here, to see what is left; short, because sockets go there too.
    with (
        tempfile.TemporaryDirectory(prefix="f-") as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", scratch)
        patch.setenv("TMPDIR", scratch)
        for variable in ("MLFLOW_TRACKING_URI", "STUDY_CACHE_DIR", "RAY_ADDRESS"):
            patch.delenv(variable, raising=False)
        # Workers run in another folder than pytest: they find an uninstalled package by this.
        patch.setenv("PYTHONPATH", str(Path(run.__file__).parents[1]))
        yield Studies(folder, Path(scratch))
