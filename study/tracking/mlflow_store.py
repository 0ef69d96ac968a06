"""Where MLflow keeps the runs: the store's address, its database, the connection to it.

The default is MLflow 3.17's own in a folder without configuration, `mlflow.db` and `mlruns/`, so
that a bare `mlflow ui` run in the workspace opens the study. Addresses may carry credentials:
`Store.uri` is for the client only, everything shown goes through `Store.redact`. This module
changes no global state of MLflow. MLflow is imported on connecting: the import takes over a
second, and `--help` does not need it.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from study import addresses
from study.errors import RefusedError, StoreAwayError, StudyError, TrackingError

_logger = logging.getLogger(__name__)

SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE_HEADER = b"SQLite format 3\x00"

_BESIDE = ("", "-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite may put beside a database while writing."""

_LONGEST_WAIT_S = 20
"""How long to wait for an answer of a server, s."""

_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The store that runs are sent to."""

    uri: str  # the address as MLflow takes it, credentials included
    workspace: Path  # folder of the study
    default: bool  # whether it is the workspace's own `mlflow.db`

    @property
    def is_server(self) -> bool:
        """Whether a server keeps runs and artifacts, rather than a database and a folder."""
        return _scheme(self.uri) in SERVERS

    @property
    def shown(self) -> str:
        """The address without credentials."""
        return addresses.shown(self.uri)

    @property
    def name(self) -> str:
        """The address without credentials; for the workspace's own store, only its file's name."""
        return "mlflow.db" if self.default else self.shown

    @property
    def path(self) -> Path | None:
        """The SQLite file; None where a server or another database keeps the runs."""
        return Path(self.uri.partition("///")[2]) if _scheme(self.uri) == "sqlite" else None

    def exists(self) -> bool:
        """Whether it may exist: only a SQLite file is checked."""
        return self.path is None or _is_made(self.path)

    def redact(self, text: object) -> str:
        """Return a text, such as an error, with every credential of the address as `***`."""
        return addresses.redact(text, self.uri)

    def artifact_location(self, experiment: str) -> str | None:
        """Return the folder of an experiment's artifacts; None where a server chooses it.

        It is a plain absolute path, like MLflow's default, so that it is valid from any folder in
        which the study or `mlflow ui` starts.
        """
        if self.is_server:
            return None
        return str(self.workspace / "mlruns" / re.sub(r"[^\w\-. ]", "_", experiment))


def find_store(tracking_uri: str | None, workspace: Path) -> Store:
    """Return the store of a tracking address: the one given, MLFLOW_TRACKING_URI, or the default.

    Args:
        tracking_uri: A database or server address; None for the default.
        workspace: Folder of the study, where the default store is.

    Raises:
        TrackingError: If the address is a file store, of an unknown kind, or a file that is no
            SQLite database; or if an old file store in the workspace would hide the default.
    """
    folder = workspace.absolute()
    own = folder / "mlflow.db"
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        _refuse_old_file_store(folder)
        _check_sqlite_file(own)
        return Store(uri=_sqlite_uri(own), workspace=folder, default=True)
    scheme = _scheme(given)
    if scheme not in SERVERS + DATABASES:
        shown = Store(uri=given, workspace=folder, default=False).shown
        raise TrackingError(
            f"tracking: cannot use '{shown}': MLflow keeps runs in a database or on a server "
            "(its file store is in maintenance mode); give sqlite:///FILE, "
            "postgresql://..., mysql://..., mssql://... or http(s)://..."
        )
    path = None
    if scheme == "sqlite":
        path = Path(unquote(given.partition("///")[2])).absolute()
        _check_sqlite_file(path)
        given = _sqlite_uri(path)
    return Store(uri=given, workspace=folder, default=path == own)


def _scheme(uri: str) -> str:
    # `postgresql+psycopg2` also names a driver; `databricks` alone is a whole address.
    return uri.partition(":")[0].partition("+")[0].lower()


def _sqlite_uri(path: Path) -> str:
    """Return a file's address; MLflow misreads the characters % and ? in one."""
    if "%" in str(path) or "?" in str(path):
        raise TrackingError(
            f"tracking: MLflow cannot keep its database in {path}: the path must have no % and "
            "no ?; choose another folder, or a server with --tracking-uri"
        )
    return f"sqlite:///{path}"


def _refuse_old_file_store(workspace: Path) -> None:
    """Refuse the default store where `mlflow ui` would open an old file store instead."""
    old_runs = sorted(
        path for path in workspace.glob("mlruns/*/meta.yaml") if path.parent.name.isdigit()
    )
    if not old_runs:
        return
    raise TrackingError(
        f"tracking: {old_runs[0]} belongs to an old MLflow file store, which MLflow no longer "
        "opens, and because of it `mlflow ui` would not open this study either. Move the "
        "folder away (mv mlruns mlruns-old), or convert it first (mlflow migrate-filestore "
        "--source . --target sqlite:///mlflow.db); or keep the study elsewhere with "
        "--tracking-uri sqlite:///FILE"
    )


def _check_sqlite_file(path: Path) -> None:
    """Refuse at once a file that MLflow would retry to open for over a minute."""
    mend = "move it away, or give another --tracking-uri"
    if path.is_dir():
        raise TrackingError(f"tracking: {path} is a folder, not an SQLite database; {mend}")
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise TrackingError(f"tracking: cannot read {path}: {error.strerror}") from error
    if header and header != _SQLITE_HEADER:
        raise TrackingError(f"tracking: {path} is not an SQLite database; {mend}")


_KEEP_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Tables and columns in which MLflow keeps absolute paths of files."""


@contextmanager
def alone_with(store: Store) -> Iterator[None]:
    """Let one process at a time create MLflow's tables: two at once would break them.

    A database's folder is created here, since the lock is on it.
    """
    if store.path is not None:
        store.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(store.path.parent if store.path else store.workspace, os.O_RDONLY)
    except OSError:  # one that cannot be opened: a server's workspace, a folder without rights
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
    """Create a store's missing database under a temporary name, then move it into place.

    MLflow creates its tables one by one, for seconds: a start killed meanwhile would leave a
    database that stops every later start. The caller is `alone_with` the store. Another program,
    such as `mlflow ui`, may create the database meanwhile: that one then stays.
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


def follow_move(store: Store, before: str, now: str) -> None:
    """Point the files of runs and models to where a moved or copied workspace is.

    MLflow keeps absolute paths: a moved workspace would write its page to the old place, and a
    copied one into the original. `before` is an experiment's folder as MLflow has it, `now` as it
    should be.
    """
    path = store.path
    if not store.default or path is None or before == now:
        return
    old, new = (str(Path(folder).parent) + "/" for folder in (before, now))
    if Path(before).name != Path(now).name or Path(before).parent.name != "mlruns":
        return  # chosen by the user
    _logger.warning("tracking: the workspace was at %s; its runs' files are at %s now", old, new)
    with closing(sqlite3.connect(path)) as database, database:
        for table, column in _KEEP_PATHS:
            database.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # nosec B608
                f"WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old), old),
            )


def _is_made(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _remove(database: Path) -> None:
    for suffix in _BESIDE:
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def every(search: Callable[..., Any], *args: Any, **query: Any) -> Iterator[Any]:
    """Yield all that a search of MLflow's client finds, which it returns page by page."""
    token = None
    while True:
        page = search(*args, **query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def explained(store: Store, works: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn whatever MLflow raises into one error that names the store, without credentials.

    Args:
        store: The store.
        works: Returns whether the store works; called when the store rejects a request, since a
            broken store does so too.

    Raises:
        RefusedError: If the store works but refuses this.
        StoreAwayError: If the store cannot be used.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        # Not chained: the original error may quote the address with its credentials.
        if getattr(error, "error_code", "") in _REFUSALS and works():
            raise RefusedError(f"{store.shown} refuses it: {brief(store, error)}") from None
        raise StoreAwayError(
            f"tracking: cannot use {store.shown}: {brief(store, error)}"
        ) from None


def brief(store: Store, error: Exception) -> str:
    """Return the first line of an error, or the reason for no answer, without credentials."""
    lines = store.redact(error).strip().splitlines() or [type(error).__name__]
    # urllib3 names the request first, and the cause after it.
    if cause := re.search(r"\(Caused by \w+\((.*)\)\)", lines[0]):
        reason = cause[1].strip("'\"").rpartition(": ")[2]
        return f"no answer ({re.sub(r'^.Errno -?[0-9]+. ', '', reason)})"
    if status := re.search(r"failed with error code (\d+) != 200", lines[0]):
        return f"it answered {status[1]}, as no MLflow server does"
    return lines[0][:500]


def _try_database(store: Store) -> None:
    """Connect to a database server once: MLflow would try ten times, for two minutes and more."""
    if store.is_server or store.path is not None:
        return
    from sqlalchemy import create_engine

    # Drivers for PostgreSQL and MySQL have this name for it; without it they wait for minutes.
    longest = {} if _scheme(store.uri) == "mssql" else {"connect_timeout": _LONGEST_WAIT_S}
    engine = create_engine(store.uri, connect_args=longest)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def connect(store: Store) -> Any:
    """Return an MLflow client that is quiet, sends no telemetry and gives up in good time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # At the end of a run MLflow prints the server's address as it was given, password included.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's default, 7 retries of 120 s each, would hold up the whole mirror.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(_LONGEST_WAIT_S))
    with warnings.catch_warnings():
        # SQLAlchemy deprecates what MLflow 3.17 uses as soon as its models are imported.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            # At INFO it lists table by table, at ERROR it prints a traceback each time that a
            # database is locked; the mirror tells of failures once.
            for name in ("mlflow", "alembic", "urllib3.connectionpool"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        make_database(store)
        _try_database(store)
        return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)
