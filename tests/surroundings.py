"""Where studies that tests start put what is temporary, and what of the caller they do not see."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from study import run


@contextmanager
def own_surroundings() -> Iterator[Path]:
    """Give the folder in which everything temporary lands for the time of a block.

    Its name is short, because Ray's sockets go there too.
    """
    with (
        tempfile.TemporaryDirectory(prefix="t-") as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", scratch)
        patch.setenv("TMPDIR", scratch)
        for variable in ("MLFLOW_TRACKING_URI", "STUDY_CACHE_DIR", "RAY_ADDRESS"):
            patch.delenv(variable, raising=False)
        # Workers run in another folder than pytest: they find an uninstalled package by this.
        patch.setenv("PYTHONPATH", str(Path(run.__file__).parents[1]))
        yield Path(scratch)
