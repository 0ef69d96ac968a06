"""Records a study in MLflow: a parent run, and under it one run for each configuration digest.

A tracker must never stop a trial: only building a sink and opening a study raise. Later failures
are caught in one place, told once and counted; what could not be written is kept and goes with
the run's next write.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from study.keys import Outcome, Tag
from study.tracking.mlflow_client import PARENT, Client, brief, explained
from study.tracking.run import Run, as_text, trial_name
from study.tracking.store import find_store
from study.tracking.view import view_key, view_tag

_logger = logging.getLogger(__name__)

STUDY, TRIAL, FLOOR = "study", "trial", "floor"
"""Values of the tag `kind`."""

STATUS = {
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.STOPPED: "KILLED",
    Outcome.FAILED: "FAILED",
}
"""MLflow's word for each outcome; the tag `outcome` has ours."""

_PAUSE_S = 30.0
"""For this long after a failed write reports are only kept: a dead server must not slow trials."""


class MlflowSink:
    """The MLflow tracker of one study at a time.

    Args:
        tracking_uri: Database or server; None takes MLFLOW_TRACKING_URI, else `mlflow.db` and
            `mlruns/` in the workspace.
        experiment: Name of the MLflow experiment; created where it does not exist.
        workspace: Folder of the study.

    Raises:
        TrackingError: If the store cannot be used.
    """

    def __init__(self, *, tracking_uri: str | None, experiment: str, workspace: Path) -> None:
        self.failures = 0
        self._store = find_store(tracking_uri, workspace)
        with explained(self._store):
            self._client = Client(store=self._store, experiment=experiment)
        self._name = ""
        self._study: Run | None = None
        self._runs: dict[str, Run] = {}
        self._known: dict[str, str] = {}
        self._recorded: dict[str, str] = {}
        self._paused_until = 0.0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
    ) -> str:
        """Open or reopen the parent run of a study and return its id.

        A study is found by its name and, where given, its tag `study_id`. Trial runs that a
        killed driver left running are closed as stopped.

        Raises:
            TrackingError: If the store cannot be used.
        """
        identity = {Tag.STUDY: name, Tag.KIND: STUDY}
        if Tag.STUDY_ID in tags:
            identity[Tag.STUDY_ID] = tags[Tag.STUDY_ID]
        study = Run(name=name, tags=as_text({**tags, **identity}), params=as_text(params))
        with explained(self._store):
            found = self._client.search(identity)
            study.run_id = found[0].info.run_id if found else None
            self._client.write(study)
            parent = str(study.run_id)
            trials = self._client.search({Tag.KIND: TRIAL, PARENT: parent})
            self._close_abandoned(trials)
        self._name, self._study = name, study
        self._known = {run.data.tags[Tag.DIGEST]: run.info.run_id for run in reversed(trials)}
        self._recorded = {
            run.data.tags[Tag.DIGEST]: run.data.tags.get(Tag.OUTCOME, str(Outcome.STOPPED))
            for run in reversed(trials)
        }
        self._upload(study, artifacts)
        view = view_tag(name, tags.get(Tag.STAGE, "validation"))
        self._attempt("the view of the study", self._client.tag_experiment, *view)
        return parent

    def recorded(self) -> Mapping[str, str]:
        """Return the outcome tag of each trial in the store, by digest, as it was at the start."""
        return self._recorded

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> str:
        """Open or reopen the run of a configuration under the parent and return its id.

        Where the store does not answer, the id is a stand-in and the run is created with a later
        write.
        """
        fixed = {Tag.KIND: TRIAL, Tag.DIGEST: digest}
        if self._study is not None:
            fixed |= {Tag.STUDY: self._study.name, PARENT: str(self._study.run_id)}
        run = Run(
            name=trial_name(number, params),
            tags=as_text({**tags, **fixed}),
            params=as_text(params),
            run_id=self._known.get(digest),
            digest=digest,
        )
        key = run.run_id or f"unsent:{digest}"
        if key in self._runs:
            run.points = self._runs.pop(key).points
        self._send(run)
        key = run.run_id or key
        self._runs[key] = run
        return key

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record one epoch's metrics in one write; an epoch already recorded is left as it is."""
        run = self._open_run(run_id)
        if run is not None:
            run.add_metrics(metrics, epoch)
            self._send(run)

    def close_trial(
        self,
        run_id: str,
        *,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Record how a trial ended, its final metrics (at its last epoch) and its files."""
        run = self._open_run(run_id)
        if run is None:
            return
        run.add_metrics(metrics, run.last_step)
        run.end(STATUS[outcome], outcome, cause, tags=tags or {}, artifacts=artifacts)
        for closed in [run for run in self._runs.values() if run.ending]:
            self._finish(closed)
        if run.ending is not None and run.ending.artifacts:
            folder = Path(tempfile.mkdtemp(dir=self._kept_files()))
            self._attempt(f"files of run '{run.name}'", run.ending.keep_files, folder)

    def add_floor(
        self,
        digest: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Record a floor under the open study; one that is recorded already is left as it is."""
        if self._study is None:
            self._count(f"floor '{name}'", "no study is open")
            return
        fixed = {Tag.KIND: FLOOR, Tag.DIGEST: digest, PARENT: str(self._study.run_id)}
        always = {**fixed, Tag.STUDY: self._study.name, Tag.OUTCOME: Outcome.COMPLETE}
        run = Run(name=name, tags=as_text({**tags, **always}), params=as_text(params))
        run.add_metrics(metrics, 0)
        self._attempt(f"floor '{name}'", self._write_floor, run, fixed, artifacts)

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Record how the study ended; trials that are still open are closed as stopped.

        Metrics get a step of their own at every closing: a resumed study has new ones.
        """
        study, self._study = self._study, None
        if study is None:
            return
        study.add_metrics(metrics, study.last_step + 1)
        status = STATUS[Outcome(outcome)] if outcome in set(Outcome) else "FINISHED"
        study.end(status, outcome, "", tags=tags or {}, artifacts=artifacts)
        self._paused_until = 0.0
        for run in [*self._runs.values(), study]:
            if run.ending is None:
                run.end(STATUS[Outcome.STOPPED], Outcome.STOPPED, "the study ended first")
            self._finish(run, last=True)
        self._runs.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def where(self) -> str:
        """Return one line for the user: how to see the study in MLflow."""
        page = f"/#/experiments/{self._client.experiment_id}/runs"
        if self._name:
            page += f"?viewStateShareKey={quote(view_key(self._name))}"
        if self._store.is_server:
            return f"MLflow: {self._store.shown.rstrip('/')}{page}"
        option = "" if self._store.default else f" --backend-store-uri '{self._store.shown}'"
        return (
            f"MLflow: run `mlflow ui{option}` in {self._store.workspace}, "
            f"then open http://127.0.0.1:5000{page}"
        )

    def _write_floor(
        self, run: Run, identity: Mapping[str, str], artifacts: Sequence[Path]
    ) -> None:
        status, found = STATUS[Outcome.COMPLETE], self._client.search(identity)
        if found and found[0].info.status == status:
            return
        # A killed driver may have left it half written.
        run.run_id = found[0].info.run_id if found else None
        self._client.write(run)
        for path in artifacts:
            self._client.upload(str(run.run_id), path)
        self._client.terminate(str(run.run_id), status)

    def _open_run(self, run_id: str) -> Run | None:
        run = self._runs.get(run_id)
        if run is None or run.ending is not None:
            self._count(f"run '{run_id}'", "it is not open")
            return None
        return run

    def _send(self, run: Run) -> bool:
        """Write what a run holds unsent, unless the store failed a moment ago."""
        if time.monotonic() < self._paused_until:
            return False
        sent = self._attempt(f"run '{run.name}'", self._client.write, run)
        if not sent:
            self._paused_until = time.monotonic() + _PAUSE_S
        elif run.digest:
            self._known[run.digest] = str(run.run_id)
        return sent

    def _finish(self, run: Run, *, last: bool = False) -> None:
        """Send the rest of a run and close it; at the very last close it whatever was lost."""
        if time.monotonic() < self._paused_until:
            return
        ending, sent = run.ending, self._send(run)
        if ending is None or run.run_id is None or not (sent or last):
            return
        if sent:
            self._upload(run, ending.artifacts)
            ending.artifacts.clear()
        what = f"the end of run '{run.name}'"
        if self._attempt(what, self._client.terminate, run.run_id, ending.status):
            self._paused_until = 0.0
            self._runs = {key: other for key, other in self._runs.items() if other is not run}

    def _kept_files(self) -> str:
        """Return the folder of files that wait for the store; it goes with the sink."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="study-tracking-")
        return self._folder.name

    def _upload(self, run: Run, paths: Sequence[Path]) -> None:
        for path in paths:
            what = f"file {path.name} of run '{run.name}'"
            self._attempt(what, self._client.upload, str(run.run_id), path)

    def _close_abandoned(self, trials: Sequence[Any]) -> None:
        """Close runs that a killed driver left running; a resumed trial is reopened."""
        for trial in trials:
            if trial.info.status == "RUNNING":
                run = Run(name="", tags={}, params={}, run_id=trial.info.run_id, opened=True)
                cause = "the driver ended without closing it"
                run.end(STATUS[Outcome.STOPPED], Outcome.STOPPED, cause)
                self._client.write(run)
                self._client.terminate(trial.info.run_id, STATUS[Outcome.STOPPED])

    def _attempt(self, what: str, action: Callable[..., None], *args: object) -> bool:
        """Do what a broken tracker can break: the one place where its failures are caught."""
        try:
            action(*args)
        except Exception as error:  # MLflow raises what its stores raise: no common base
            self._count(what, brief(self._store, error))
            return False
        return True

    def _count(self, what: str, why: str) -> None:
        self.failures += 1
        level = logging.WARNING if self.failures == 1 else logging.DEBUG
        _logger.log(
            level,
            "MLflow did not take %s: %s. The study goes on, and later failures are only counted.",
            *(what, why),
        )
