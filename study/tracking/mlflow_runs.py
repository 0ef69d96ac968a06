"""What MLflow has of a study: its runs, how they ended, and which metrics at which steps.

It is for comparing with what MLflow was told. Nothing is created by looking, a database least of
all; a run is deleted only by `remove`, and MLflow can restore it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.keys import Tag
from study.tracking.mlflow_client import PARENT, connect, explained, refuse_deleted, search_runs
from study.tracking.mlflow_sink import STUDY
from study.tracking.mlflow_store import find_store

Points = dict[tuple[str, int], list[float]]
"""Values of a metric, by its name, at a step: one, where all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """A run as MLflow has it.

    Args:
        run_id: Its id.
        kind: `study`, `trial` or `floor`.
        digest: Of its configuration; empty for a study.
        status: RUNNING, FINISHED, KILLED or FAILED.
        outcome: Its tag `outcome`; empty while it has none.
        metrics: Names of its metrics.
        blank: Whether it has neither parameters nor metrics, as after a request that was given up.
    """

    run_id: str
    kind: str
    digest: str
    status: str
    outcome: str
    metrics: Sequence[str]
    blank: bool

    @property
    def running(self) -> bool:
        """Whether MLflow shows it as running."""
        return self.status == "RUNNING"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStudy:
    """The runs of one study, oldest first.

    Args:
        studies: Its own runs: one, where all is well.
        runs: Those of its trials and floors.
    """

    studies: tuple[RecordedRun, ...] = ()
    runs: tuple[RecordedRun, ...] = ()


class MlflowRecords:
    """Looks into an MLflow store.

    Args:
        tracking_uri: Database or server; None takes MLFLOW_TRACKING_URI, else `mlflow.db` in the
            workspace.
        experiment: Name of the MLflow experiment.
        workspace: Folder of the study.

    Raises:
        TrackingError: If the store cannot be used, or the experiment was deleted.
    """

    def __init__(self, *, tracking_uri: str | None, experiment: str, workspace: Path) -> None:
        self._store = find_store(tracking_uri, workspace)
        self._mlflow: Any = None
        self._experiment_id: str | None = None
        if self._store.exists():
            with self._explained():
                self._mlflow = connect(self._store)
                found = self._mlflow.get_experiment_by_name(experiment)
                if found is not None:
                    refuse_deleted(found)
                    self._experiment_id = str(found.experiment_id)

    @property
    def where(self) -> str:
        """The store's address without credentials."""
        return self._store.shown

    @property
    def store(self) -> str:
        """Its name, as a sink to it says."""
        return self._store.name

    def study(self, name: str, study_id: str) -> RecordedStudy:
        """Return the runs of a study.

        Args:
            name: Its name.
            study_id: Its identity in trackers.

        Raises:
            TrackingError: If the store cannot be used.
        """
        if self._experiment_id is None:
            return RecordedStudy()
        identity = {Tag.STUDY: name, Tag.KIND: STUDY, Tag.STUDY_ID: study_id}
        with self._explained():
            studies = search_runs(self._mlflow, self._experiment_id, identity)
            runs = [
                _recorded(run)
                for study in studies
                for run in search_runs(
                    self._mlflow, self._experiment_id, {PARENT: study.info.run_id}
                )
            ]
        return RecordedStudy(studies=tuple(map(_recorded, studies)), runs=tuple(runs))

    def points(self, run: RecordedRun) -> Points:
        """Return the values that a run has of each metric at each step.

        Raises:
            TrackingError: If the store cannot be used.
        """
        found: Points = {}
        with self._explained():
            for name in run.metrics:
                for point in self._mlflow.get_metric_history(run.run_id, name):
                    found.setdefault((name, point.step), []).append(point.value)
        return found

    def remove(self, run_id: str) -> None:
        """Delete a run; `mlflow runs restore` brings it back.

        Raises:
            TrackingError: If the store cannot be used.
        """
        with self._explained():
            self._mlflow.delete_run(run_id)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self._store)


def _recorded(run: Any) -> RecordedRun:
    tags = run.data.tags
    return RecordedRun(
        run_id=run.info.run_id,
        kind=tags.get(Tag.KIND, ""),
        digest=tags.get(Tag.DIGEST, ""),
        status=run.info.status,
        outcome=tags.get(Tag.OUTCOME, ""),
        metrics=tuple(run.data.metrics),
        blank=not (run.data.params or run.data.metrics),
    )
