"""Where MLflow keeps the runs: the store's address, checked before anything connects.

The default is what MLflow 3.17 itself takes in a folder where nothing is configured, `mlflow.db`
and `mlruns/`, so that a bare `mlflow ui` run in the workspace opens the study. Addresses may
carry credentials: `Store.uri` is for the client only, everything shown goes through
`Store.redact`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from study import addresses
from study.errors import TrackingError

SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE_HEADER = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An address that runs are sent to.

    Args:
        uri: The address as MLflow takes it, credentials included.
        workspace: Folder of the study.
        default: Whether it is the workspace's own `mlflow.db`.
    """

    uri: str
    workspace: Path
    default: bool

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
        """The address without credentials; of the workspace's own, which may move, its file."""
        return "mlflow.db" if self.default else self.shown

    @property
    def path(self) -> Path | None:
        """The SQLite file; None where a server or another database keeps the runs."""
        return Path(self.uri.partition("///")[2]) if _scheme(self.uri) == "sqlite" else None

    def exists(self) -> bool:
        """Whether there is something to read: a server or database elsewhere is not asked."""
        path = self.path
        return path is None or (path.is_file() and path.stat().st_size > 0)

    def redact(self, text: object) -> str:
        """Return a text, such as an error, with every credential of the address as `***`."""
        return addresses.redact(text, self.uri)

    def artifact_location(self, experiment: str) -> str | None:
        """Return the folder of an experiment's artifacts; None where a server chooses it.

        Given as a plain absolute path, as MLflow's own default is, so that it holds whatever
        folder the study or `mlflow ui` is started in.
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
        TrackingError: If the address is a file store, of an unknown kind, or a sqlite file that
            is none; or if an old file store in the workspace would hide the default.
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
    # `postgresql+psycopg2` names a driver too; `databricks` alone is a whole address.
    return uri.partition(":")[0].partition("+")[0].lower()


def _sqlite_uri(path: Path) -> str:
    """Return the address of a file; MLflow mistakes two characters for parts of an address."""
    if "%" in str(path) or "?" in str(path):
        raise TrackingError(
            f"tracking: MLflow cannot keep its database in {path}: the path must have no % and "
            "no ?; choose another folder, or a server with --tracking-uri"
        )
    return f"sqlite:///{path}"


def _refuse_old_file_store(workspace: Path) -> None:
    """Refuse the default where `mlflow ui` would open an old file store in its place."""
    found = sorted(
        path for path in workspace.glob("mlruns/*/meta.yaml") if path.parent.name.isdigit()
    )
    if not found:
        return
    raise TrackingError(
        f"tracking: {found[0]} belongs to an old MLflow file store, which MLflow no longer "
        "opens, and because of it `mlflow ui` would not open this study either. Move the "
        "folder away (mv mlruns mlruns-old), or convert it first (mlflow migrate-filestore "
        "--source . --target sqlite:///mlflow.db); or keep the study elsewhere with "
        "--tracking-uri sqlite:///FILE"
    )


def _check_sqlite_file(path: Path) -> None:
    """Refuse at once what MLflow would retry for over a minute."""
    if path.is_dir():
        raise TrackingError(f"tracking: {path} is a folder, not an SQLite database")
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise TrackingError(f"tracking: cannot read {path}: {error.strerror}") from error
    if header and header != _SQLITE_HEADER:
        raise TrackingError(
            f"tracking: {path} is not an SQLite database; move it away, or give another "
            "--tracking-uri"
        )
