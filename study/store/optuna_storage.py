"""Opens an Optuna storage, to write or to read.

SQLite on a local disk uses write-ahead logging. A trial takes some twenty short transactions, and
the driver makes them for all slots. In SQLite's default journal each waits for the disk several
times. With write-ahead logging (https://sqlite.org/wal.html) none waits: a killed process loses
nothing, and a power cut loses at most the last moments, which the next start runs again. Where
several hosts can mount the disk the default stays, because write-ahead logging needs memory that
all readers share.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from study.addresses import redact, shown
from study.errors import StudyStateError

MOUNTS = Path("/proc/self/mounts")
"""Linux's list of mounts; without this file every disk counts as shared."""

LOCAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""File systems that one host has to itself."""

_FORM = slice(18, 20)
"""Bytes of a SQLite file that are both 2 when it uses write-ahead logging."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    url = URL.create("sqlite", database=str(path))
    return url.render_as_string(hide_password=False)


def open_storage(url: str | BaseStorage) -> BaseStorage:
    """Open a storage; create it where it does not exist."""
    if isinstance(url, BaseStorage):
        return url
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return optuna.storages.get_storage(url)
    storage = RDBStorage(url)
    if on_local_disk(Path(address.database), MOUNTS):
        event.listen(storage.engine, "connect", _write_ahead)
        storage.engine.dispose()  # its first connection was made before
    return optuna.storages.get_storage(storage)


@contextmanager
def reading(url: str) -> Iterator[BaseStorage]:
    """Open an existing storage to read: nothing is created or changed, and no writer waits.

    Raises:
        FileNotFoundError: If it is a SQLite file that does not exist.
        StudyStateError: If it is a database without Optuna's tables.
        Exception: Whatever SQLAlchemy raises for the driver; it may quote the URL's password.
    """
    address = make_url(url)
    options: dict[str, Any] = {}
    if address.get_backend_name() == "sqlite" and address.database:
        path = Path(address.database)
        if not path.is_file():
            raise FileNotFoundError(path)
        options["creator"] = lambda: _connect_to_read(path)
    elif address.get_backend_name() == "postgresql":
        options["execution_options"] = {"postgresql_readonly": True}
    engine = create_engine(url, **options)
    try:
        # Optuna would only name the first table that is missing.
        if not inspect(engine).has_table("studies"):
            raise StudyStateError("is no Optuna storage: it has no table of studies")
    finally:
        engine.dispose()
    storage = RDBStorage(url, engine_kwargs=options, skip_table_creation=True)
    try:
        yield storage
    finally:
        close_storage(storage)


def probe_optuna(url: str) -> None:
    """Connect to a database once; no table is created.

    Raises:
        StudyStateError: If it does not answer, or the URL is none.
    """
    try:
        engine = create_engine(url)
        engine.connect().close()
        engine.dispose()
    except Exception as error:
        # SQLAlchemy raises driver-specific errors, some of which quote the URL's password.
        raise StudyStateError(
            f"--study-storage {shown(url)}: cannot be opened ({storage_fault(error, url)}); give "
            "sqlite:////FOLDER/FILE or postgresql://USER@HOST/DATABASE"
        ) from None


def read_optuna(url: str, name: str) -> tuple[tuple[FrozenTrial, ...], dict[str, Any], str]:
    """Return trials and attributes of an Optuna study, or why they cannot be read.

    Nothing is created or changed. The reason contains no credentials.
    """
    try:
        with reading(url) as storage:
            studies = {study.study_name: study._study_id for study in storage.get_all_studies()}
            if name not in studies:
                there = f"it has {', '.join(sorted(studies))}" if studies else "nor any other"
                return (), {}, f"{shown(url)} holds no study '{name}' ({there})"
            study_id = studies[name]
            attrs = dict(storage.get_study_user_attrs(study_id))
            return tuple(storage.get_all_trials(study_id)), attrs, ""
    except FileNotFoundError as error:
        return (), {}, f"{error.args[0]} does not exist"
    except StudyStateError as error:
        return (), {}, f"{shown(url)} {error}"
    except Exception as error:
        # SQLAlchemy raises driver-specific errors, some of which quote the URL's password.
        return (), {}, f"{shown(url)} cannot be read ({storage_fault(error, url)})"


def _connect_to_read(path: Path) -> sqlite3.Connection:
    with path.open("rb") as file:
        ahead = file.read(_FORM.stop)[_FORM] == b"\x02\x02"
    # A file with write-ahead logging that nobody has open cannot change; without this flag SQLite
    # would make two files beside it.
    still = ahead and not path.with_name(f"{path.name}-wal").exists()
    option = "immutable=1" if still else "mode=ro"
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?{option}", uri=True, check_same_thread=False
    )


@contextmanager
def one_transaction(storage: BaseStorage) -> Iterator[None]:
    """Store everything that this thread writes in the block, or nothing.

    Optuna commits every value separately. Here its sessions join one transaction, as in
    https://docs.sqlalchemy.org/en/20/orm/session_transaction.html, "Joining a Session into an
    External Transaction". A storage in memory has no transactions.

    Raises:
        StorageInternalError: If the database does not take it.
    """
    backend = _database(storage)
    if backend is None:
        yield
        return
    try:
        with backend.engine.begin() as connection:
            backend.scoped_session.remove()
            backend.scoped_session(bind=connection)
            try:
                yield
            finally:
                backend.scoped_session.remove()
    except SQLAlchemyError as error:
        raise StorageInternalError("the transaction was not taken") from error


def _database(storage: BaseStorage) -> RDBStorage | None:
    """Return the database behind a storage; None for a storage in memory."""
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def close_storage(storage: BaseStorage) -> None:
    """Close all connections: the write-ahead log then merges into the one file."""
    storage.remove_session()
    if (backend := _database(storage)) is not None:
        backend.engine.dispose()


def storage_fault(error: BaseException, url: str) -> str:
    """Return a database's message about a failed transaction, without credentials."""
    cause = error.__cause__ or error
    message = str(getattr(cause, "orig", None) or cause).strip()
    return redact(message.splitlines()[0] if message else type(cause).__name__, url)


def on_local_disk(path: Path, mounts: Path) -> bool:
    """Whether a file is, or will be, on a disk that no other host writes to."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    here, mount, kind = path.resolve(), Path("/"), ""
    for line in lines:
        _, where, of_kind, *_ = line.split(" ")
        mounted = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), where))
        # A later mount at the same path hides the earlier one.
        if here.is_relative_to(mounted) and mounted.is_relative_to(mount):
            mount, kind = mounted, of_kind
    return kind in LOCAL


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    # A reader that has the file open blocks the switch; the default is slower, and as safe.
    with suppress(sqlite3.OperationalError):
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
            connection.execute("PRAGMA synchronous = NORMAL")
