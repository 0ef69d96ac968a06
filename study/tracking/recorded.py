"""What MLflow has of a study: its runs, how they ended, and which metrics at which steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.errors import TrackingError
from study.keys import Tag
from study.tracking.experiment import PARENT, Experiment, search_runs, upload
from study.tracking.mlflow_store import explained
from study.tracking.run_facts import STUDY

Points = dict[tuple[str, int], list[float]]
"""Values of a metric, by its name, at a step: one, where all is well."""


@dataclass(slots=True, kw_only=True)
class RecordedRun:
    """A run as MLflow has it."""

    run_id: str  # its id
    name: str  # what the UI shows
    status: str  # RUNNING, FINISHED, KILLED or FAILED
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)  # its parameters
    metrics: tuple[str, ...] = ()  # names of its metrics

    @property
    def key(self) -> tuple[str, str]:
        """Kind and digest, by which it is told from the other runs of its study."""
        return self.tags.get(Tag.KIND, ""), self.tags.get(Tag.DIGEST, "")

    @property
    def outcome(self) -> str:
        """Its tag `outcome`; empty while it has none."""
        return self.tags.get(Tag.OUTCOME, "")

    @property
    def blank(self) -> bool:
        """Whether nothing was written to it, as after a request that was given up."""
        return not (self.params or self.metrics)


def recorded_runs(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[RecordedRun]:
    """Return the runs of an experiment that carry all these tags, oldest first."""
    return [
        RecordedRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            metrics=tuple(run.data.metrics),
        )
        for run in search_runs(client, experiment_id, tags)
    ]


def points_of_run(client: Any, run: RecordedRun) -> Points:
    """Return the values that a run has of each metric at each step."""
    points = defaultdict[tuple[str, int], list[float]](list)
    for name in run.metrics:
        for point in client.get_metric_history(run.run_id, name):
            points[name, point.step].append(point.value)
    return dict(points)


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
            self.studies = recorded_runs(*connected, identity)
            for study in self.studies:
                self.runs += recorded_runs(*connected, {PARENT: study.run_id})

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
        with explained(self._experiment.store):
            return points_of_run(client, run)

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
