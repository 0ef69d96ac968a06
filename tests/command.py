"""The command line as tests start it: in a process of its own, or in theirs where no Ray runs."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from study import run

LIMIT_S = 280.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start of the command line ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out}\n{self.err}"


def apart(folder: Path, words: Sequence[str]) -> Ended:
    """Run a study in a folder, as a user does; a process has one Ray session in its life."""
    done = subprocess.run(
        [sys.executable, "-m", "study.run", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


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
