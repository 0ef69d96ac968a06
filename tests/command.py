"""The command line in the tests' own process, and what of its surroundings tests do not see."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from study import config, run
from study.models.backbone import BACKBONES
from study.models.fusion import FUSIONS
from study.models.plugins import plugin


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start of the command line ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    def succeeded(self) -> Ended:
        """Return it, where it ended with 0."""
        assert self.code == 0, self
        return self


Main = Callable[[Sequence[str]], int]
"""A command."""


def here(folder: Path, words: Sequence[str], main: Main = run.main) -> Ended:
    """Run what starts no Ray in a folder: seconds of imports less."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
        # The command sets up its own logging, as in a process that has none yet.
        mock.patch.object(logging.getLogger(), "handlers", []),
        mock.patch.dict(os.environ),
    ):
        try:
            code = main(list(words))
        except SystemExit as ended:  # of words that no option can be
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


@contextmanager
def fresh_tables() -> Iterator[None]:
    """Know no plug-in in a block, as a new process does; forget those of the block at its end."""
    tables: list[dict[Any, Any]] = [FUSIONS, BACKBONES, plugin.LOADED, plugin.ORIGIN]
    tables += [config.PARAMETERS, config.OWN_OPTIONS, config.LIMITS, config.CHOICES]
    with ExitStack() as stack:
        for table in tables:
            stack.enter_context(mock.patch.dict(table))
        yield


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
