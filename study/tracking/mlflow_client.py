"""The calls to MLflow that a study needs, on top of its client; any of them may raise.

Nothing of MLflow's global state is touched. MLflow is imported when a client is built: it takes
over a second, and `--help` needs none of it.
"""

from __future__ import annotations

import getpass
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.errors import RefusedError, StudyError, TrackingError
from study.keys import Tag
from study.tracking.database import alone_with, make_database
from study.tracking.mlflow_store import Store
from study.tracking.run import Run

_logger = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"
_PAGE = 1000

MOST_POINTS = 1000
"""Metrics that MLflow takes in one batch."""

_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


class Client:
    """Writes and finds the runs of one experiment; its tables exist once this is built.

    Args:
        store: Where the runs are kept.
        experiment: Name of the experiment, created where it does not exist.

    Raises:
        TrackingError: If the experiment has been deleted.
    """

    def __init__(self, *, store: Store, experiment: str) -> None:
        location = store.artifact_location(experiment)
        with alone_with(store):
            self._mlflow: Any = connect(store)
            self.experiment_id = _find_experiment(self._mlflow, experiment, location)

    def search(self, tags: Mapping[str, str]) -> list[Any]:
        """Return the MLflow runs that carry all these tags, oldest first."""
        return search_runs(self._mlflow, self.experiment_id, tags)

    def find(self, identity: Mapping[str, str]) -> Any | None:
        """Return the run that carries these tags, or None.

        A second one is what a request made that nobody waited for any more. It is empty, and
        deleted.
        """
        found = self.search(identity)
        kept = next((run for run in found if run.data.params), *found[:1] or [None])
        for twin in found:
            if twin is not kept and not (twin.data.params or twin.data.metrics):
                self._mlflow.delete_run(twin.info.run_id)
        return kept

    def has(self, run_id: str) -> bool:
        """Whether a run is there, and not deleted."""
        return bool(self._mlflow.get_run(run_id).info.lifecycle_stage == "active")

    def write(self, run: Run) -> None:
        """Send all that a run holds unsent in one batch, creating or reopening it first."""
        try:
            self._write(run)
        except Exception:
            # Whether it arrived is not known: the next try looks.
            run.opened = False
            raise

    def _write(self, run: Run) -> None:
        from mlflow.entities import Metric, Param, RunTag

        if not run.opened:
            self._open(run)
        # With the time of the event the store itself tells a repeated point from a new one.
        points = [Metric(name, value, at_ms, step) for name, value, step, at_ms in run.points]
        while len(points) > MOST_POINTS:
            self._mlflow.log_batch(run.run_id, metrics=points[:MOST_POINTS])
            points = points[MOST_POINTS:]
        self._mlflow.log_batch(
            run.run_id,
            metrics=points,
            params=[Param(name, value) for name, value in run.params.items()],
            tags=[RunTag(name, value) for name, value in run.tags.items()],
        )
        run.sent()

    def upload(self, run_id: str, path: Path) -> None:
        """Send a file, or a folder under its own name."""
        if path.is_dir():
            self._mlflow.log_artifacts(run_id, str(path), path.name)
        else:
            self._mlflow.log_artifact(run_id, str(path))

    def tag_experiment(self, name: str, value: str) -> None:
        """Set a tag of the experiment."""
        self._mlflow.set_experiment_tag(self.experiment_id, name, value)

    def terminate(self, run_id: str, status: str, at_ms: int | None = None) -> None:
        """Close a run, now or at a time in ms."""
        self._mlflow.set_terminated(run_id, status, at_ms)

    def _open(self, run: Run) -> None:
        if run.run_id is None and run.identity and (found := self.find(run.identity)):
            run.run_id = found.info.run_id
        if run.run_id is None:
            created = self._mlflow.create_run(
                self.experiment_id,
                start_time=run.began_ms,
                run_name=run.name,
                tags={**_origin(run.tags), **run.tags},
            )
            run.run_id = created.info.run_id
            run.tags.clear()
        else:
            self._reopen(run, run.run_id)
        run.opened = True

    def _reopen(self, run: Run, run_id: str) -> None:
        data = self._mlflow.get_run(run_id).data
        points = [
            (point.key, point.step, point.timestamp)
            for name in data.metrics
            for point in self._mlflow.get_metric_history(run_id, name)
        ]
        for name, (old, new) in run.recall(data.tags, data.params, points).items():
            _logger.warning(
                "run '%s': parameter %s is %s in MLflow and %s now; MLflow keeps the first",
                *(run.name, name, old, new),
            )
        # A run that goes on must not show how it ended before.
        for tag in (Tag.OUTCOME, Tag.CAUSE):
            if tag in data.tags:
                self._mlflow.delete_tag(run_id, tag)
        self._mlflow.update_run(run_id, status="RUNNING", name=run.name)


@contextmanager
def explained(store: Store, works: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn whatever MLflow raises into one error that names the store, without credentials.

    Args:
        store: The store.
        works: Whether it works, asked where it says that something was wrong with what it got:
            a broken one says so too.

    Raises:
        RefusedError: If the store works, and does not take this.
        TrackingError: If the store cannot be used.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        # Not chained: the original error may quote the address with its credentials.
        if getattr(error, "error_code", "") in _REFUSALS and works():
            raise RefusedError(f"{store.shown} does not take it: {brief(store, error)}") from None
        raise TrackingError(f"tracking: cannot use {store.shown}: {brief(store, error)}") from None


def brief(store: Store, error: Exception) -> str:
    """Return the first line of an error of MLflow's, without credentials."""
    lines = store.redact(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]


def connect(store: Store) -> Any:
    """Return an MLflow client that is quiet, sends no telemetry and gives up in good time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # At the end of a run MLflow prints the server's address as it was given, password included.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own 7 retries of 120 s would hold up every trial of the study behind them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    with warnings.catch_warnings():
        # SQLAlchemy deprecates what MLflow 3.17 uses as soon as its models are imported.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            # Its INFO is alembic's table by table, its ERROR a traceback each time that a database
            # is locked; of failures the sender tells once.
            for name in ("mlflow", "alembic", "urllib3.connectionpool"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        make_database(store)
        return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def search_runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    """Return an experiment's MLflow runs that carry all these tags, oldest first."""
    terms = [f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items()]
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=" and ".join(terms),
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs


def refuse_deleted(experiment: Any) -> None:
    """Refuse an experiment that was deleted in MLflow's UI.

    Raises:
        TrackingError: If it was.
    """
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking: experiment '{experiment.name}' was deleted in MLflow; bring it back with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`"
        )


def _find_experiment(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            # The kind spares the reader a question, and the UI a guess at generative AI.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=kind))
        except MlflowException:
            # Another study may have created it since; if not, this is a fault of its own.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    refuse_deleted(found)
    return str(found.experiment_id)


def _origin(tags: Mapping[str, str]) -> dict[str, str]:
    """Return what MLflow's UI shows as user, source and version of a run."""
    origin = {"mlflow.source.name": "python -m study.run", "mlflow.source.type": "LOCAL"}
    if Tag.GIT_COMMIT in tags:
        origin["mlflow.source.git.commit"] = tags[Tag.GIT_COMMIT]
    try:
        origin["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        pass
    return origin


def _quoted(value: str) -> str:
    """Return a value as MLflow's search language takes it: it has no escapes, but two quotes."""
    return f'"{value}"' if "'" in value else f"'{value}'"
