"""Makes MLflow's SQLite database where there is none: whole or not at all.

MLflow makes its tables one by one, for seconds. A start that was killed meanwhile would leave a
database that stops every later one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from study.tracking.mlflow_store import Store

_BESIDE = ("", "-journal", "-wal", "-shm")
"""What SQLite may have put beside a database that it was writing to."""


@contextmanager
def alone_with(store: Store) -> Iterator[None]:
    """Let one process at a time make MLflow's tables: at once they break each other's."""
    try:
        handle = os.open(store.path.parent if store.path else store.workspace, os.O_RDONLY)
    except OSError:  # no such folder yet, or one that cannot be opened: nothing to wait for
        yield
        return
    try:
        with suppress(ImportError, OSError):  # no such lock on Windows and some network disks
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make_database(store: Store) -> None:
    """Make the file of a store that has none, beside its place, and move it there.

    The caller is `alone_with` the store. Others, such as an `mlflow ui`, may make it meanwhile:
    theirs then stays.
    """
    path = store.path
    if path is None or _is_made(path):
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    part = path.with_name(f"{path.name}.part")
    _remove(part)
    made = SqlAlchemyStore(f"sqlite:///{part}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    made.engine.dispose()
    if not _is_made(path):
        part.replace(path)
    _remove(part)


def _is_made(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _remove(database: Path) -> None:
    for suffix in _BESIDE:
        database.with_name(database.name + suffix).unlink(missing_ok=True)
