"""The command line as tests run it in their own process, where it starts no Ray."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from study import run


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start of the command line ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def here(folder: Path, words: Sequence[str]) -> Ended:
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
        code = run.main(list(words))
    return Ended(code, out.getvalue(), err.getvalue())
