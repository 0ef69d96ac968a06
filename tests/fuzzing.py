"""What the fuzz tests share: how many examples, how long each may take, what may be written.

FUZZ_EXAMPLES=20000 python -m pytest tests/spaces/test_space_fuzz.py --timeout 7200
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

FUZZED = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    # Far above what an example takes on a busy machine; a hang is what it is to find.
    deadline=timedelta(seconds=30),
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The settings of every fuzz test."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_PATHS = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "os.remove": 0}
_watched: list[list[str]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    path = None
    if event == "open" and isinstance(args[2], int) and args[2] & _WRITES:
        path = args[0]
    # With a descriptor of its folder a path is not below the current one: so rmtree removes files.
    elif event in _PATHS and args[-1] == -1:
        path = args[_PATHS[event]]
    if isinstance(path, str | bytes):
        _watched[-1].append(os.path.abspath(os.fsdecode(path)))


sys.addaudithook(_hook)


@contextmanager
def written_outside(folder: Path) -> Iterator[list[str]]:
    """Collect what is opened for writing, made, moved or removed outside a folder."""
    seen: list[str] = []
    found: list[str] = []
    _watched.append(seen)
    try:
        yield found
    finally:
        _watched.remove(seen)
        found += [
            path
            for path in seen
            # Compiled modules of a first import are Python's own.
            if not Path(path).is_relative_to(folder) and "__pycache__" not in path
        ]
