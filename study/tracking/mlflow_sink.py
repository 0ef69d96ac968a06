"""Records a study in MLflow: a parent run, and under it one run for each configuration digest.

Every call may be made again, as after an answer that was lost: before anything is written to a run
that may have changed, what the store has of it is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote

from study.errors import RefusedError, TrackingError
from study.keys import Outcome, Tag
from study.tracking.mlflow_client import PARENT, Client, explained
from study.tracking.mlflow_store import find_store
from study.tracking.run import Run, as_text, trial_name
from study.tracking.view import view_key, view_tag

STUDY, TRIAL, FLOOR = "study", "trial", "floor"
"""Values of the tag `kind`."""

STATUS = {
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.SCREENED: "FINISHED",
    Outcome.STOPPED: "KILLED",
    Outcome.FAILED: "FAILED",
}
"""MLflow's word for each outcome; the tag `outcome` has ours."""


class MlflowSink:
    """The MLflow tracker of one study at a time.

    Args:
        tracking_uri: Database or server; None takes MLFLOW_TRACKING_URI, else `mlflow.db` and
            `mlruns/` in the workspace.
        experiment: Name of the MLflow experiment; created where it does not exist.
        workspace: Folder of the study.
        patient: Whether a store that cannot be used now may be used later: each call then tries
            again. Who is told late keeps what it tells.

    Raises:
        TrackingError: If the address is none of a store, or the store cannot be used and the sink
            is not patient.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None,
        experiment: str,
        workspace: Path,
        patient: bool = False,
    ) -> None:
        self._store = find_store(tracking_uri, workspace)
        self._experiment = experiment
        self._connected: Client | None = None
        self._name = ""
        self._study: Run | None = None
        self._runs: dict[str, Run] = {}
        with suppress(TrackingError) if patient else nullcontext(), self._told():
            self._connected = self._client

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> str:
        """Open or reopen the parent run of a study and return its id.

        A study is found by its name and, where given, its tag `study_id`. Trial runs that a
        killed driver left running are closed as stopped.
        """
        identity = {Tag.STUDY: name, Tag.KIND: STUDY}
        if Tag.STUDY_ID in tags:
            identity[Tag.STUDY_ID] = tags[Tag.STUDY_ID]
        study = _new(name, identity, params, tags, at_s)
        self._name, self._study = name, None
        self._runs.clear()
        with self._told():
            self._client.write(study)
            parent = str(study.run_id)
            self._close_abandoned(parent, "the driver ended without closing it")
            for path in artifacts:
                self._client.upload(parent, path)
            view = view_tag(name, tags.get(Tag.STAGE, "validation"))
            self._client.tag_experiment(*view)
        self._study = study
        return parent

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        at_s: float | None = None,
    ) -> str:
        """Open or reopen the run of a configuration under the parent and return its id."""
        study = self._opened()
        identity = {Tag.KIND: TRIAL, Tag.DIGEST: digest, PARENT: str(study.run_id)}
        every = {**tags, Tag.STUDY: study.name}
        run = _new(trial_name(number, params), identity, params, every, at_s)
        with self._told():
            self._client.write(run)
        self._runs[str(run.run_id)] = run
        return str(run.run_id)

    def log_epoch(
        self, run_id: str, epoch: int, metrics: Mapping[str, float], *, at_s: float | None = None
    ) -> None:
        """Record one epoch's metrics in one write; an epoch already recorded is left as it is."""
        run = self._opened(run_id)
        run.add_metrics(metrics, epoch, _ms(at_s))
        with self._told():
            self._client.write(run)

    def close_trial(
        self,
        run_id: str,
        *,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record how a trial ended, its final metrics (at its last epoch) and its files."""
        run = self._opened(run_id)
        run.add_metrics(metrics, run.last_step, _ms(at_s))
        run.end(outcome, cause, tags)
        self._finish(run, STATUS[outcome], artifacts, at_s)
        del self._runs[run_id]

    def add_floor(
        self,
        digest: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record a floor under the open study; one that is recorded already is left as it is."""
        study = self._opened()
        identity = {Tag.KIND: FLOOR, Tag.DIGEST: digest, PARENT: str(study.run_id)}
        run = _new(name, identity, params, {**tags, Tag.STUDY: study.name}, at_s)
        status = STATUS[Outcome.COMPLETE]
        with self._told():
            found = self._client.find(identity)
        if found is None or found.info.status != status:  # half written by a killed driver
            run.add_metrics(metrics, 0, _ms(at_s))
            run.end(Outcome.COMPLETE, "")
            self._finish(run, status, artifacts, at_s)

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record how the study ended; trials that are still open are closed as stopped.

        Metrics get a step of their own at every ending: a resumed study has new ones. One that
        ended at the same time is the same.
        """
        study = self._opened()
        with self._told():
            self._close_abandoned(str(study.run_id), "the study ended first")
        at_ms = _ms(at_s)
        study.add_metrics(metrics, study.step_at.get(at_ms, study.last_step + 1), at_ms)
        study.end(outcome, "", tags)
        status = STATUS[Outcome(outcome)] if outcome in set(Outcome) else "FINISHED"
        self._finish(study, status, artifacts, at_s)
        self._study = None
        self._runs.clear()

    def store(self) -> str:
        """The address without credentials; of the workspace's own, which may move, its name."""
        return self._store.name

    def where(self) -> str:
        """Return one line for the user: how to see the study in MLflow."""
        page = ""
        if self._connected is not None:
            page = f"/#/experiments/{self._connected.experiment_id}/runs"
            if self._name:
                page += f"?viewStateShareKey={quote(view_key(self._name))}"
        if self._store.is_server:
            return f"MLflow: {self._store.shown.rstrip('/')}{page}"
        option = "" if self._store.default else f" --backend-store-uri '{self._store.shown}'"
        return (
            f"MLflow: run `mlflow ui{option}` in {self._store.workspace}, "
            f"then open http://127.0.0.1:5000{page}"
        )

    @property
    def _client(self) -> Client:
        if self._connected is None:
            self._connected = Client(store=self._store, experiment=self._experiment)
        return self._connected

    def _opened(self, run_id: str | None = None) -> Run:
        """Return the study's run, or that of a trial."""
        run = self._study if run_id is None else self._runs.get(run_id)
        if run is None:
            what = "no study" if run_id is None else f"no run '{run_id}'"
            raise RefusedError(f"tracking: {what} is open; open it first")
        return run

    def _finish(
        self, run: Run, status: str, artifacts: Sequence[Path], at_s: float | None
    ) -> None:
        with self._told():
            self._client.write(run)
            for path in artifacts:
                self._client.upload(str(run.run_id), path)
            self._client.terminate(str(run.run_id), status, _ms(at_s))

    def _close_abandoned(self, parent: str, cause: str) -> None:
        """Close trial runs that nobody runs any more; a resumed trial is reopened."""
        identity = {Tag.KIND: TRIAL, PARENT: parent}
        trials = self._client.search(identity)
        counts = Counter(trial.data.tags[Tag.DIGEST] for trial in trials)
        twins = [digest for digest, count in counts.items() if count > 1]
        for digest in twins:
            self._client.find({**identity, Tag.DIGEST: digest})
        for trial in self._client.search(identity) if twins else trials:
            if trial.info.status == "RUNNING":
                # With an outcome only the last word was lost.
                outcome = trial.data.tags.get(Tag.OUTCOME)
                if outcome is None:
                    run = _new("", {}, {}, {}, None)
                    run.run_id, run.opened = trial.info.run_id, True
                    run.end(Outcome.STOPPED, cause)
                    self._client.write(run)
                status = STATUS[Outcome(outcome or Outcome.STOPPED)]
                self._client.terminate(trial.info.run_id, status)

    def _told(self) -> AbstractContextManager[None]:
        return explained(self._store, self._works)

    def _works(self) -> bool:
        """Whether the store has the open study: an emptied or broken one refuses anything."""
        try:
            return self._study is not None and self._client.has(str(self._study.run_id))
        except Exception:  # MLflow raises what its stores raise: no common base
            return False


def _new(
    name: str,
    identity: Mapping[str, str],
    params: Mapping[str, object],
    tags: Mapping[str, str],
    at_s: float | None,
) -> Run:
    return Run(
        name=name,
        identity=identity,
        tags=as_text({**tags, **identity}),
        params=as_text(params),
        began_ms=_ms(at_s),
    )


def _ms(at_s: float | None) -> int:
    """Return a time as MLflow keeps it; None is now."""
    return int(1000 * (time.time() if at_s is None else at_s))
