"""Connects to an MLflow experiment, creates it, searches its runs, and gives its address."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from study.errors import TrackingError
from study.keys import EXPERIMENTS
from study.tracking.mlflow_store import (
    Store,
    alone_with,
    connect,
    every,
    explained,
    find_store,
    follow_move,
)
from study.tracking.view import NOTE, note_of, quoted, view_address, view_tag

PARENT = "mlflow.parentRunId"

_PAGE = 1000


class Experiment:
    """An MLflow experiment, in a store that is connected to when it is first used.

    Args:
        tracking_uri: Database or server; None takes MLFLOW_TRACKING_URI, else `mlflow.db` and
            `mlruns/` in the workspace.
        name: Name of the experiment.
        workspace: Folder that studies are in.

    Raises:
        TrackingError: If the address is not that of a store.
    """

    def __init__(self, *, tracking_uri: str | None, name: str, workspace: Path) -> None:
        self.store: Store = find_store(tracking_uri, workspace)
        self.name = name
        self._client: Any = None
        self._id: str | None = None

    @classmethod
    def of_records(cls, kind: str, tracking_uri: str | None) -> Self:
        """Return the experiment of results on records of a kind (see `study.data.source`)."""
        # Synthetic records have their own experiment. All databases share one: runs name them.
        name = EXPERIMENTS.get(kind, EXPERIMENTS["mitdb"])
        return cls(tracking_uri=tracking_uri, name=name, workspace=Path.cwd())

    def connect(self) -> tuple[Any, str]:
        """Return a client and the experiment's id; tables and experiment are created if missing.

        Raises:
            TrackingError: If the store cannot be used, or the experiment was deleted.
        """
        with explained(self.store):
            if self._client is None or self._id is None:
                location = self.store.artifact_location(self.name)
                with alone_with(self.store):
                    self._client = connect(self.store)
                    self._id = _made_experiment(self._client, self.name, location)
                    if location is not None:
                        before = self._client.get_experiment(self._id).artifact_location
                        follow_move(self.store, before, location)
            return self._client, self._id

    def look(self) -> tuple[Any, str] | None:
        """Return a client and the experiment's id, or None; nothing is created.

        Raises:
            TrackingError: If the store cannot be used, or the experiment was deleted.
        """
        if self._id is None and not self.store.exists():
            return None
        with explained(self.store):
            self._client = self._client or connect(self.store)
            experiment = self._client.get_experiment_by_name(self.name)
            if experiment is None:
                return None
            _refuse_deleted(experiment)
            self._id = str(experiment.experiment_id)
            return self._client, self._id

    def delete_run(self, run_id: str) -> None:
        """Delete a run; `mlflow runs restore` brings it back."""
        client, _ = self.connect()
        with explained(self.store):
            client.delete_run(run_id)

    def show(self, study: str, stage: str) -> None:
        """Set a study's view, and the note that links all views; a note by a user stays."""
        client, experiment_id = self.connect()
        name, value = view_tag(study, stage)
        tags = {**client.get_experiment(experiment_id).tags, name: value}
        client.set_experiment_tag(experiment_id, name, value)
        if (note := note_of(experiment_id, tags)) is not None:
            client.set_experiment_tag(experiment_id, NOTE, note)

    def describe(self, run_id: str, text: str) -> None:
        """Set the description of a run."""
        client, _ = self.connect()
        with explained(self.store):
            client.set_tag(run_id, NOTE, text)

    def add_folder(self, run_id: str, folder: Path) -> None:
        """Keep a folder among the files of a run, under its own name."""
        client, _ = self.connect()
        with explained(self.store):
            client.log_artifacts(run_id, str(folder), folder.name)

    def add_files(self, run_id: str, files: Iterable[Path], folder: str) -> None:
        """Keep files in a folder of a run; what lies beside them is not kept."""
        client, _ = self.connect()
        with explained(self.store):
            for file in files:
                client.log_artifact(run_id, str(file), folder)

    def where(self, study: str = "") -> str:
        """Return a line that says how to see a study in MLflow."""
        page = ""
        if self._id is not None:
            page = f"/{view_address(self._id, study)}" if study else f"/#/experiments/{self._id}"
        if self.store.is_server:
            return f"MLflow: {self.store.shown.rstrip('/')}{page}"
        option = (
            "" if self.store.default else f" --backend-store-uri {shlex.quote(self.store.shown)}"
        )
        return (
            f"MLflow: run `mlflow ui{option}` in {self.store.workspace}, "
            f"then open http://127.0.0.1:5000{page}"
        )


def search_runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[Any]:
    """Return an experiment's MLflow runs that carry all these tags, oldest first."""
    terms = [f"tags.`{name}` = {quoted(value)}" for name, value in tags.items()]
    return list(
        every(
            client.search_runs,
            [experiment_id],
            filter_string=" and ".join(terms),
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
        )
    )


def _made_experiment(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            # Without this tag the UI asks for the kind of experiment, or guesses generative AI.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=location, tags=kind))
        except MlflowException:
            # Another study may have created it meanwhile; if not, raise the error.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    _refuse_deleted(experiment)
    return str(experiment.experiment_id)


def _refuse_deleted(experiment: Any) -> None:
    """Refuse an experiment that was deleted in MLflow's UI.

    Raises:
        TrackingError: If it was.
    """
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking: experiment '{experiment.name}' was deleted in MLflow; bring it back with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`"
        )
