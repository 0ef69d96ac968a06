"""Writes the runs of a study into MLflow, each of their values once.

What a run has is known, or read, before anything is added, and what is added has the time at which
it happened, by which the store itself tells a repeated value from a new one.
"""

from __future__ import annotations

import getpass
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.keys import Outcome, Tag
from study.tracking.experiment import PARENT, Experiment, upload, view_tag
from study.tracking.mlflow_store import explained
from study.tracking.recorded import RecordedRun, points_of_run, recorded_runs
from study.tracking.run_facts import RUNNING, STATUS, STUDY, Point, RunFacts, as_text, in_ms

MOST_POINTS = 800
"""Metrics in one batch, which takes 1,000 metrics, parameters and tags together."""

ABANDONED = "the driver ended without closing it"

_logger = logging.getLogger(__name__)


class StudyRuns:
    """Writes the runs of one study: its own, and under it one for each kind and digest.

    After an error nothing is taken for known: the next call looks what arrived.

    Args:
        experiment: Where to.
        suspects: Kind and digest of runs that may lack something, whatever their end says.
    """

    def __init__(self, experiment: Experiment, suspects: Iterable[tuple[str, str]] = ()) -> None:
        self._experiment = experiment
        self._suspects = set(suspects)
        self._parent = ""
        self._known: dict[tuple[str, str], RecordedRun] = {}
        self._steps: dict[tuple[str, str], set[tuple[str, int]]] = {}
        """Names and steps of the metrics of runs whose metrics were read, or written here."""

    @property
    def open(self) -> bool:
        """Whether the study's run is known to exist."""
        return bool(self._parent)

    def open_study(self, study: RunFacts) -> bool:
        """Find or make the study's own run; return whether it had to be made.

        Raises:
            TrackingError: If the store cannot be used.
        """
        with self._told():
            client, experiment_id = self._experiment.connect()
            self._known.clear()
            self._steps.clear()
            run = _one_of(client, recorded_runs(client, experiment_id, study.identity))
            made = run is None
            parent = self._create(study) if run is None else run
            self._known[study.key] = parent
            for key, runs in self._children(parent.run_id).items():
                if (child := _one_of(client, runs)) is not None:
                    self._known[key] = child
            view = view_tag(study.name, study.tags.get(Tag.STAGE, "validation"))
            client.set_experiment_tag(experiment_id, *view)
            self._parent = parent.run_id
        return made

    def has(self, facts: RunFacts) -> bool:
        """Say whether the store is known to have all of a run, without asking it."""
        run = self._known.get(facts.key)
        if run is None or run.status != facts.status or facts.key in self._suspects:
            return False
        if not facts.all_tags().items() <= run.tags.items():
            return False
        # A run gets its end last: one that has it has everything before it.
        steps = self._steps.get(facts.key)
        return bool(facts.outcome) or not (steps is None or _new_points(facts, steps))

    def write(self, facts: RunFacts, files: Iterable[Path] = ()) -> None:
        """Log what the store lacks of a run, and end the run if it has ended.

        Args:
            facts: What it is to show.
            files: Files, and folders under their own names, that it is to have.

        Raises:
            RefusedError: If the store works, and does not take this.
            TrackingError: If the store cannot be used.
        """
        if self.has(facts):
            return
        with self._told():
            client, _ = self._experiment.connect()
            run = self._reopened(facts) if facts.key in self._known else self._create(facts)
            self._log(run, facts)
            for path in files:
                upload(client, run.run_id, path)
            if facts.outcome:
                ended_ms = None if facts.ended_s is None else in_ms(facts.ended_s)
                client.set_terminated(run.run_id, facts.status, ended_ms)
                run.status = facts.status
            self._suspects.discard(facts.key)

    def run_id(self, kind: str, digest: str = "") -> str:
        """Return the id of a run that was written."""
        return self._known[kind, digest].run_id

    def close_abandoned(self, known: Collection[tuple[str, str]]) -> None:
        """End the runs under the study that nothing is known of, and that nothing runs.

        Args:
            known: Kind and digest of the runs that the study has.

        Raises:
            TrackingError: If the store cannot be used.
        """
        with self._told():
            client, _ = self._experiment.connect()
            for key, runs in self._children(self._parent).items():
                _one_of(client, runs)  # what a request made that was given up is deleted
                for run in () if key in known else runs:
                    if run.status == RUNNING:
                        for tag, value in (Tag.OUTCOME, Outcome.STOPPED), (Tag.CAUSE, ABANDONED):
                            client.set_tag(run.run_id, tag, value)
                        client.set_terminated(run.run_id, STATUS[Outcome.STOPPED])

    def _children(self, parent: str) -> dict[tuple[str, str], list[RecordedRun]]:
        """Return the runs under the study's by kind and digest, oldest first."""
        client, experiment_id = self._experiment.connect()
        runs = defaultdict[tuple[str, str], list[RecordedRun]](list)
        for run in recorded_runs(client, experiment_id, {PARENT: parent}):
            runs[run.key].append(run)
        return runs

    def _create(self, facts: RunFacts) -> RecordedRun:
        client, experiment_id = self._experiment.connect()
        tags = facts.own_tags() | ({} if facts.kind == STUDY else {PARENT: self._parent})
        created = client.create_run(
            experiment_id,
            start_time=in_ms(facts.began_s),
            run_name=facts.name,
            tags={**origin(tags), **tags},
        )
        run = RecordedRun(run_id=created.info.run_id, name=facts.name, status=RUNNING, tags=tags)
        self._known[facts.key] = run
        return run

    def _reopened(self, facts: RunFacts) -> RecordedRun:
        """Return what the store has of a run, which is RUNNING then, until its end is written."""
        client, _ = self._experiment.connect()
        run = self._known[facts.key]
        if facts.key not in self._steps:
            self._steps[facts.key] = set(points_of_run(client, run))
        ended = facts.all_tags()
        for tag in (Tag.OUTCOME, Tag.CAUSE):
            # A run that goes on must not show how it ended before.
            if tag in run.tags and tag not in ended:
                client.delete_tag(run.run_id, tag)
                del run.tags[tag]
        if run.status != RUNNING or run.name != facts.name:
            client.update_run(run.run_id, status=RUNNING, name=facts.name)
            run.status, run.name = RUNNING, facts.name
        return run

    def _log(self, run: RecordedRun, facts: RunFacts) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client, _ = self._experiment.connect()
        steps = self._steps.setdefault(facts.key, set())
        points = _new_points(facts, steps)
        tags = {n: v for n, v in facts.all_tags().items() if run.tags.get(n) != v}
        params = as_text(facts.params)
        new = {name: value for name, value in params.items() if name not in run.params}
        for name in sorted(params.keys() - new.keys()):
            if run.params[name] != params[name]:
                _logger.warning(
                    "run '%s': parameter %s is %s in MLflow and %s now; MLflow keeps the first",
                    *(facts.name, name, run.params[name], params[name]),
                )
        metrics = [Metric(point.name, point.value, point.at_ms, point.step) for point in points]
        while len(metrics) > MOST_POINTS:
            client.log_batch(run.run_id, metrics=metrics[:MOST_POINTS])
            metrics = metrics[MOST_POINTS:]
        if metrics or new or tags:
            client.log_batch(
                run.run_id,
                metrics=metrics,
                params=[Param(name, value) for name, value in new.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
        steps |= {(point.name, point.step) for point in points}
        run.tags |= tags
        run.params |= params

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with explained(self._experiment.store, self._works):
                yield
        except BaseException:
            # Whether it arrived is not known: the next call looks.
            self._parent = ""
            raise

    def _works(self) -> bool:
        """Whether the store has the study: an emptied or broken one refuses anything."""
        try:
            client, _ = self._experiment.connect()
            return bool(client.get_run(self._parent).info.lifecycle_stage == "active")
        except Exception:  # MLflow raises what its stores raise: no common base
            return False


def _one_of(client: Any, runs: Sequence[RecordedRun]) -> RecordedRun | None:
    """Return the one run of several with the same tags, or None of none.

    Another is what a request made that nobody waited for any more: it is empty, and deleted.
    """
    first = next((run for run in runs if run.params), runs[0] if runs else None)
    for run in runs:
        if run is not first and run.blank:
            client.delete_run(run.run_id)
    return first


def _new_points(facts: RunFacts, steps: Collection[tuple[str, int]]) -> list[Point]:
    return [point for point in facts.points if (point.name, point.step) not in steps]


def origin(tags: Mapping[str, str]) -> dict[str, str]:
    """Return what MLflow's UI shows as user, source and version of a run."""
    about = {"mlflow.source.name": "python -m study.run", "mlflow.source.type": "LOCAL"}
    if Tag.GIT_COMMIT in tags:
        about["mlflow.source.git.commit"] = tags[Tag.GIT_COMMIT]
    try:
        about["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        pass
    return about


def write_result(
    experiment: Experiment, whole: RunFacts, parts: Iterable[RunFacts], files: Iterable[Path] = ()
) -> None:
    """Write a result that is final: a run of the whole with files, and one for each part.

    Raises:
        TrackingError: If the store cannot be used.
    """
    runs = StudyRuns(experiment)
    runs.open_study(whole)
    for part in parts:
        runs.write(part)
    runs.write(whole, files)
