"""The command line of a study with a job of one's own in place of the study's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from study import run
from study.tuning import setup
from study.tuning.trial import TrialJob


def environment() -> dict[str, str]:
    """Return the environment of a process that finds this checkout from any folder."""
    root = str(Path(__file__).resolve().parents[1])
    path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def run_with(words: Sequence[str], wrap: Callable[[TrialJob], TrialJob]) -> int:
    """Run `python -m study.run` with these words; return its exit code.

    Args:
        words: Arguments of the command.
        wrap: Makes the job that trials get from the one that the study would give them.
    """
    set_up = setup.set_up

    def wrapped(*args: Any, **options: Any) -> setup.Setup:
        whole = set_up(*args, **options)
        return replace(whole, job=wrap(whole.job))

    setup.set_up = wrapped
    return run.main(words)


def parts(job: TrialJob) -> dict[str, Any]:
    """Return what a job is made of, for a job of a class that extends it."""
    return {item.name: getattr(job, item.name) for item in fields(job)}
