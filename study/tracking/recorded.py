"""What MLflow has of a study: its runs, how they ended, and which metrics at which steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import TrackingError
from study.keys import Tag
from study.tracking.experiment import PARENT, Experiment, search_runs, upload
from study.tracking.mlflow_store import explained
from study.tracking.run_facts import STUDY

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


class RecordedStudy:
    """The runs that MLflow has of a study, oldest first; nothing is made by looking.

    Args:
        experiment: Where they are.
        name: The study's name.
        study_id: Its identity; empty takes the name alone.

    Raises:
        TrackingError: If the store cannot be used, or the experiment was deleted.
    """

    def __init__(self, experiment: Experiment, name: str, study_id: str) -> None:
        self._experiment = experiment
        self.studies: list[RecordedRun] = []
        """Its own runs: one, where all is well."""
        self.runs: list[RecordedRun] = []
        """Those of its trials and floors."""
        connected = experiment.look()
        if connected is None:
            return
        identity = {Tag.STUDY: name, Tag.KIND: STUDY}
        identity |= {Tag.STUDY_ID: study_id} if study_id else {}
        with explained(experiment.store):
            for study in search_runs(*connected, identity):
                self.studies.append(_recorded(study))
                children = search_runs(*connected, {PARENT: study.info.run_id})
                self.runs += map(_recorded, children)

    @property
    def where(self) -> str:
        """The store's address without credentials."""
        return self._experiment.store.shown

    def points(self, run: RecordedRun) -> Points:
        """Return the values that a run has of each metric at each step.

        Raises:
            TrackingError: If the store cannot be used.
        """
        client, _ = self._experiment.connect()
        points = defaultdict[tuple[str, int], list[float]](list)
        with explained(self._experiment.store):
            for name in run.metrics:
                for point in client.get_metric_history(run.run_id, name):
                    points[name, point.step].append(point.value)
        return dict(points)

    def add(self, folder: Path) -> None:
        """Keep a folder among the files of the study's run, under its own name.

        Raises:
            TrackingError: If there is no such run, or the store does not take it.
        """
        if not self.studies:
            raise TrackingError(f"tracking: {self.where} has no run of the study")
        client, _ = self._experiment.connect()
        with explained(self._experiment.store):
            upload(client, self.studies[0].run_id, folder)


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
