"""Reads a study's runs in MLflow, compares them with the study's facts, and writes differences.

Before it adds to a run, it reads the run, unless it knows its content. Each added value has the
time of its event, so that the store can tell a repeated value from a new one.
"""

from __future__ import annotations

import getpass
import logging
import math
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.keys import Outcome, Tag, current_word
from study.store.scratch import scratch
from study.store.study import Study
from study.tracking.experiment import PARENT, Experiment, search_runs
from study.tracking.mlflow_store import explained
from study.tracking.names import ABSENT, metric_shown
from study.tracking.run_facts import (
    RUNNING,
    STATUS,
    STUDY,
    Key,
    Point,
    RunFacts,
    as_text,
    in_ms,
)

MOST_POINTS = 800
"""Metrics in one batch, which takes 1,000 metrics, parameters and tags together."""

ABANDONED = "the driver ended without closing it"

_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class MlflowRun:
    """A run as MLflow has it."""

    run_id: str
    name: str  # what the UI shows
    status: str  # RUNNING, FINISHED, KILLED or FAILED
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()  # names
    # Values of its metrics by name and step, normally one each. None until they are read
    points: dict[tuple[str, int], list[float]] | None = None

    @property
    def key(self) -> Key:
        """Kind and digest, its key among the runs of its study."""
        return self.tags.get(Tag.KIND, ""), self.tags.get(Tag.DIGEST, "")

    @property
    def outcome(self) -> str:
        """Its tag `outcome`; empty while it has none."""
        return self.tags.get(Tag.OUTCOME, "")

    @property
    def blank(self) -> bool:
        """Whether it was created but nothing was written to it."""
        return not (self.params or self.metrics)


def read_points(client: Any, run: MlflowRun) -> dict[tuple[str, int], list[float]]:
    """Return the values of a run's metrics by name and step; they are read once."""
    if run.points is None:
        points = defaultdict[tuple[str, int], list[float]](list)
        for name in run.metrics:
            for point in client.get_metric_history(run.run_id, name):
                # Earlier versions logged the names as they are in the study.
                points[metric_shown(name), point.step].append(point.value)
        run.points = dict(points)
    return run.points


def find_runs(experiment: Experiment, study: Study) -> tuple[list[MlflowRun], list[MlflowRun]]:
    """Return a study's own runs (normally one), and those of its trials and floors.

    The oldest come first. Nothing is created.

    Raises:
        TrackingError: If the store cannot be used, or the experiment was deleted.
    """
    connected = experiment.look()
    if connected is None:
        return [], []
    identity = {Tag.STUDY: study.name, Tag.KIND: STUDY}
    identity |= {Tag.STUDY_ID: study.study_id} if study.study_id else {}
    with explained(experiment.store):
        own = _runs_with(*connected, identity)
        below = [_runs_with(*connected, {PARENT: run.run_id}) for run in own]
        return own, [run for runs in below for run in runs]


def first_and_others(runs: Sequence[MlflowRun]) -> tuple[MlflowRun, list[MlflowRun]]:
    """Of runs with the same kind and digest, return the one that counts, and the others.

    A blank run comes from a request whose answer came too late.
    """
    first, *others = sorted(runs, key=lambda run: run.blank)
    return first, others


def _runs_with(client: Any, experiment_id: str, tags: Mapping[str, str]) -> list[MlflowRun]:
    """Return the runs of an experiment that carry all these tags, oldest first."""
    return [
        MlflowRun(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            tags=dict(run.data.tags),
            params={name: current_word(value) for name, value in run.data.params.items()},
            metrics=tuple(run.data.metrics),
        )
        for run in search_runs(client, experiment_id, tags)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a run in MLflow differs from the facts that it should show."""

    points: Sequence[Point]  # metrics that it lacks
    params: Mapping[str, str]  # parameters that it lacks
    tags: Mapping[str, str]  # tags that it lacks, or has with another value
    past_tags: Sequence[str]  # tags of an end that no longer holds
    status: str  # MLflow's word for the right state; empty where the state is right
    fixed_params: Sequence[str]  # parameters with another value: MLflow never changes one
    other_points: Sequence[tuple[str, int]]  # metrics with another value
    twice: Sequence[tuple[str, int]]  # metrics with several values

    @property
    def lacks(self) -> bool:
        """Whether something is to be logged."""
        return bool(self.points or self.params or self.tags or self.past_tags or self.status)


def difference(facts: RunFacts, run: MlflowRun) -> Difference:
    """Compare the facts of a run with MLflow.

    Unread metrics count as complete: a run gets its end last, so that a run with the right end has
    everything before it.
    """
    tags, params, points = facts.all_tags(), as_text(facts.params), run.points
    if points is None:
        points = {point.key: [point.value] for point in facts.points}
    return Difference(
        points=[point for point in facts.points if point.key not in points],
        params={
            name: value
            for name, value in params.items()
            # An earlier version logged no parameters that the arm does not have.
            if name not in run.params and not (value == ABSENT and run.params)
        },
        tags={name: value for name, value in tags.items() if run.tags.get(name) != value},
        past_tags=[n for n in (Tag.OUTCOME, Tag.CAUSE) if n in run.tags and n not in tags],
        status=facts.status if run.status != facts.status else "",
        fixed_params=[
            n for n, value in sorted(params.items()) if run.params.get(n, value) != value
        ],
        other_points=[
            point.key
            for point in facts.points
            for value in points.get(point.key, [])
            if not math.isclose(point.value, value)
        ],
        twice=[key for key, values in points.items() if len(values) > 1],
    )


class StudyRuns:
    """Writes the runs of one study: its own, and under it one for each kind and digest.

    After an error, what arrived is unknown: the next call reads the runs again.

    Args:
        experiment: Where to.
        suspects: Kind and digest of runs whose metrics are read and compared, although MLflow
            says that they have ended: something of them is missing there.
    """

    def __init__(self, experiment: Experiment, suspects: Iterable[Key] = ()) -> None:
        self._experiment = experiment
        self._suspects = set(suspects)
        self._parent = ""
        self._known: dict[Key, MlflowRun] = {}

    @property
    def open(self) -> bool:
        """Whether the study's run is known to exist."""
        return bool(self._parent)

    def open_study(self, study: RunFacts) -> bool:
        """Find or create the study's own run; return whether it was created."""
        with self._request():
            client, experiment_id = self._experiment.connect()
            self._known.clear()
            runs = _runs_with(client, experiment_id, study.identity)
            if len(runs) > 1:
                # All may be blank while trials train: the one that counts has their runs below.
                runs.sort(key=lambda run: not self._children(run.run_id))
            parent = _without_blanks(client, runs) if runs else self._create(study)
            self._known[study.key] = parent
            for key, children in self._children(parent.run_id).items():
                self._known[key] = _without_blanks(client, children)
            self._experiment.show(study.name, study.tags.get(Tag.STAGE, "validation"))
            self._parent = parent.run_id
        return not runs

    def has(self, facts: RunFacts) -> bool:
        """Say whether the store is known to have all of a run, without asking it."""
        run = self._known.get(facts.key)
        if run is None or facts.key in self._suspects:
            return False
        if run.points is None and not facts.outcome:
            return False
        return not difference(facts, run).lacks

    def write(self, facts: RunFacts, files: Path | None = None) -> None:
        """Log what the store lacks of a run, and end the run if it has ended.

        The content of the folder `files` becomes its files.

        Raises:
            RefusedError: If the store works but refuses this.
            TrackingError: If the store cannot be used.
        """
        if self.has(facts):
            return
        with self._request():
            client, _ = self._experiment.connect()
            run = self._known.get(facts.key) or self._create(facts)
            read_points(client, run)
            lack = difference(facts, run)
            _reopen(client, run, facts.name, lack)
            _log(client, run, lack)
            for name in lack.fixed_params:
                _logger.warning(
                    "run '%s': parameter %s is %s in MLflow and %s now; MLflow keeps the old "
                    "value",
                    *(facts.name, name, run.params[name], facts.params[name]),
                )
            if files is not None and any(files.iterdir()):
                client.log_artifacts(run.run_id, str(files))
            if facts.outcome:
                ended_ms = None if facts.ended_s is None else in_ms(facts.ended_s)
                client.set_terminated(run.run_id, facts.status, ended_ms)
                run.status = facts.status
            self._suspects.discard(facts.key)

    def close_abandoned(self, known: Collection[Key]) -> None:
        """End open runs under the study's run that belong to no part of the study.

        `known` has kind and digest of the runs that the study has.
        """
        with self._request():
            client, _ = self._experiment.connect()
            for key, runs in self._children(self._parent).items():
                _without_blanks(client, runs)
                for run in () if key in known else runs:
                    if run.status == RUNNING:
                        for tag, value in (Tag.OUTCOME, Outcome.STOPPED), (Tag.CAUSE, ABANDONED):
                            client.set_tag(run.run_id, tag, value)
                        client.set_terminated(run.run_id, STATUS[Outcome.STOPPED])

    def _children(self, parent: str) -> dict[Key, list[MlflowRun]]:
        """Return the runs under the study's by kind and digest, oldest first."""
        runs = defaultdict[Key, list[MlflowRun]](list)
        for run in _runs_with(*self._experiment.connect(), {PARENT: parent}):
            runs[run.key].append(run)
        return runs

    def _create(self, facts: RunFacts) -> MlflowRun:
        client, experiment_id = self._experiment.connect()
        tags = facts.own_tags() | ({} if facts.kind == STUDY else {PARENT: self._parent})
        created = client.create_run(
            experiment_id,
            start_time=in_ms(facts.began_s),
            run_name=facts.name,
            tags={**origin(tags), **tags},
        )
        run = MlflowRun(
            run_id=created.info.run_id, name=facts.name, status=RUNNING, tags=tags, points={}
        )
        self._known[facts.key] = run
        return run

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Name the store in errors, and read the runs again after one."""
        try:
            with explained(self._experiment.store, self._works):
                yield
        except BaseException:
            # What arrived is unknown.
            self._parent = ""
            raise

    def _works(self) -> bool:
        """Whether the store has the study: an emptied or broken store refuses everything."""
        try:
            client, _ = self._experiment.connect()
            return bool(client.get_run(self._parent).info.lifecycle_stage == "active")
        except Exception:  # MLflow passes on its stores' errors, which share no base class
            return False


def _without_blanks(client: Any, runs: Sequence[MlflowRun]) -> MlflowRun:
    """Return the run that counts; of the others, delete the blank ones."""
    first, others = first_and_others(runs)
    for run in others:
        if run.blank:
            client.delete_run(run.run_id)
    return first


def _reopen(client: Any, run: MlflowRun, name: str, lack: Difference) -> None:
    """Set a run to RUNNING until its end is written: a continued trial shows no earlier end."""
    for tag in lack.past_tags:
        client.delete_tag(run.run_id, tag)
        del run.tags[tag]
    if run.status != RUNNING or run.name != name:
        client.update_run(run.run_id, status=RUNNING, name=name)
        run.status, run.name = RUNNING, name


def _log(client: Any, run: MlflowRun, lack: Difference) -> None:
    """Log the metrics, parameters and tags that a run lacks; its metrics were read before."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(point.name, point.value, point.at_ms, point.step) for point in lack.points]
    while len(metrics) > MOST_POINTS:
        client.log_batch(run.run_id, metrics=metrics[:MOST_POINTS])
        metrics = metrics[MOST_POINTS:]
    if metrics or lack.params or lack.tags:
        client.log_batch(
            run.run_id,
            metrics=metrics,
            params=[Param(name, value) for name, value in lack.params.items()],
            tags=[RunTag(name, value) for name, value in lack.tags.items()],
        )
    run.points = (run.points or {}) | {point.key: [point.value] for point in lack.points}
    run.tags |= lack.tags
    run.params |= lack.params


def origin(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that MLflow's UI shows as user, source and version of a run."""
    about = {"mlflow.source.name": "python -m study.run", "mlflow.source.type": "LOCAL"}
    if Tag.GIT_COMMIT in tags:
        about["mlflow.source.git.commit"] = tags[Tag.GIT_COMMIT]
    try:
        about["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        pass
    return about


def write_result(
    experiment: Experiment, parent: RunFacts, parts: Iterable[RunFacts], files: Iterable[Path] = ()
) -> None:
    """Write a final result: a parent run with files, and a run for each part."""
    runs = StudyRuns(experiment)
    runs.open_study(parent)
    for part in parts:
        runs.write(part)
    with scratch() as temporary:
        folder = temporary / "files"
        folder.mkdir()
        for path in files:
            shutil.copy(path, folder)
        runs.write(parent, folder)
