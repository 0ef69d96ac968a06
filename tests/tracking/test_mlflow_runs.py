"""What ends up in MLflow, read back through MLflow's own client."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from study.errors import RefusedError, TrackingError
from study.keys import Outcome, Tag
from study.tracking.experiment import PARENT, Experiment
from study.tracking.mlflow_runs import StudyRuns
from study.tracking.names import ABSENT
from study.tracking.run_facts import STATUS, STUDY, TRIAL, UNDEFINED, Point, RunFacts, points_of
from study.tracking.view import NOTE
from tests.builders import mlflow_client, mlflow_curves, mlflow_runs, refused

PARAMS = {"input": "opt3", "fusion": "film", "embed_dim": 64, "gate_init": -2.0}
EPOCH = {"val_auprc_sv": 0.5, "train_loss": 0.7}


@pytest.fixture(scope="module")
def workspace(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests here, whose studies differ."""
    folder = tmp_path_factory.mktemp("workspace with a space")
    shutil.copy(mlflow_tables, folder)
    return folder


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def experiment(workspace: Path, **changes: Any) -> Experiment:
    return Experiment(**{"tracking_uri": None, "name": "ecg", "workspace": workspace, **changes})


def study(name: str, outcome: str = "", **changes: Any) -> RunFacts:
    facts = {
        "params": {"trials": 2},
        "tags": {Tag.STUDY: name, Tag.STUDY_ID: "1"},
        "began_s": 100.0,
        "ended_s": 104.0 if outcome else None,
    }
    return RunFacts(kind=STUDY, name=name, outcome=outcome, **{**facts, **changes})


def trial(
    digest: str = "d1",
    epochs: Mapping[int, Mapping[str, float]] | None = None,
    outcome: str = "",
    **changes: Any,
) -> RunFacts:
    """Return a trial with metrics by epoch; every epoch has a time of its own."""
    logged = [points_of(metrics, n, 101.0 + n) for n, metrics in (epochs or {}).items()]
    facts = {
        "kind": TRIAL,
        "name": f"{digest} film",
        "params": PARAMS,
        "tags": {Tag.FUSION: "film", Tag.ATTEMPT: "1"},
        "points": tuple(point for points, _ in logged for point in points),
        "undefined": frozenset(name for _, undefined in logged for name in undefined),
        "began_s": 101.0,
        "ended_s": 103.0 if outcome else None,
    }
    return RunFacts(digest=digest, outcome=outcome, **{**facts, **changes})


def search(workspace: Path, terms: str) -> list[Any]:
    return mlflow_runs(mlflow_client(workspace), "ecg", terms)


def run_of(workspace: Path, name: str, digest: str = "") -> Any:
    """Return the only run of a study, or the only one of a digest below it."""
    (run,) = search(workspace, f"tags.study = '{name}' and tags.kind = 'study'")
    if digest:
        terms = f"tags.`{PARENT}` = '{run.info.run_id}' and tags.digest = '{digest}'"
        (run,) = search(workspace, terms)
    return run


def history(workspace: Path, run: Any, metric: str) -> list[tuple[int, float]]:
    return mlflow_curves(mlflow_client(workspace), run)[metric]


def opened(workspace: Path, name: str, **changes: Any) -> StudyRuns:
    runs = StudyRuns(experiment(workspace))
    runs.open_study(study(name, **changes))
    return runs


def test_a_study_is_a_run_with_one_below_it_for_each_trial_however_often_it_is_told(
    workspace: Path, name: str, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text("trials = 1\n")
    tags = {Tag.FUSION: "film", Tag.GIT_COMMIT: "abc"}
    epochs = {1: EPOCH, 2: {**EPOCH, "val_auprc_sv": 0.6, "rr_reliance_total_S": 0.1}}
    # As after a kill at any moment: a new process knows nothing of what was written.
    for _ in range(3):
        runs = opened(workspace, name)
        runs.write(trial(epochs={1: EPOCH}, tags=tags))
        runs.write(trial(epochs=epochs, outcome="complete", tags=tags), tmp_path)
        figures = (Point("n_complete", 1, 1.0, 104_000),)
        runs.write(study(name, "complete", points=figures), tmp_path)

    top, run = run_of(workspace, name), run_of(workspace, name, "d1")
    assert (run.info.run_name, run.info.status) == ("d1 film", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (101_000, 103_000)
    assert run.data.params == {key: str(value) for key, value in PARAMS.items()}
    assert history(workspace, run, "val_auprc_sv") == [(1, 0.5), (2, 0.6)]
    assert history(workspace, run, "reliance/total_S") == [(2, 0.1)]
    expected = {
        PARENT: top.info.run_id,
        Tag.KIND: "trial",
        Tag.DIGEST: "d1",
        Tag.OUTCOME: "complete",
        "mlflow.source.git.commit": "abc",
        **tags,
    }
    assert expected.items() <= run.data.tags.items()
    assert not {Tag.CAUSE, UNDEFINED} & run.data.tags.keys()
    assert (top.info.run_name, top.info.status) == (name, "FINISHED")
    assert top.data.params == {"trials": "2"}
    assert history(workspace, top, "n_complete") == [(1, 1.0)]
    for written in (top, run):
        copy = workspace / "mlruns" / "ecg" / written.info.run_id / "artifacts" / "plan.toml"
        assert copy.read_text() == "trials = 1\n"


def test_outcomes_are_told_apart_and_undefined_metrics_named(workspace: Path, name: str) -> None:
    runs = opened(workspace, name)
    first = {"val_auprc_F": math.nan, "train_loss": math.inf, "val_loss": 1.0}
    epochs = {1: first, 2: {"val_auprc_S": -math.inf}}
    statuses = {}
    for outcome in Outcome:
        runs.write(trial(outcome, epochs, outcome, cause="because\n" + "x" * 9000))
        run = run_of(workspace, name, outcome)
        statuses[Outcome(run.data.tags[Tag.OUTCOME])] = run.info.status
        assert run.data.tags[Tag.CAUSE].startswith("because\nxx")
        assert run.data.tags[Tag.CAUSE].endswith("x (...)")
        assert run.data.metrics == {"training/val_loss": 1.0}
        assert run.data.tags[UNDEFINED] == "train_loss, val_auprc_F, val_auprc_S"
    assert statuses == STATUS


def test_a_resumed_trial_continues_its_run_and_repeats_nothing(
    workspace: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    epochs = {1: {"val_auprc_sv": 0.1, "val_auprc_S": 0.1}, 2: {"val_auprc_sv": 0.2}}
    # An earlier version wrote no groups before the names of metrics.
    points = trial(epochs=epochs).points
    ungrouped = [point._replace(name=point.name.replace("class/", "val_")) for point in points]
    opened(workspace, name).write(trial(points=ungrouped, outcome="stopped", cause="Ctrl-C"))
    run_id = run_of(workspace, name, "d1").info.run_id

    second = opened(workspace, name)
    again: dict[str, Any] = {"name": "7 film", "tags": {Tag.FUSION: "film", Tag.ATTEMPT: "2"}}
    second.write(trial(epochs=epochs, params={**PARAMS, "heads": 4, "gate": ABSENT}, **again))
    run = run_of(workspace, name, "d1")
    assert (run.info.status, run.info.run_name) == ("RUNNING", "7 film")
    assert not {Tag.OUTCOME, Tag.CAUSE} & run.data.tags.keys()
    assert run.data.params["heads"] == "4" and "gate" not in run.data.params
    assert caplog.records == []
    epochs[3] = {"val_auprc_sv": 0.3, "val_auprc_S": 0.3}
    params = {**PARAMS, "fusion": "mhca"}
    second.write(trial(epochs=epochs, outcome="complete", params=params, **again))
    run = run_of(workspace, name, "d1")
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert (run.data.tags[Tag.ATTEMPT], run.data.params["fusion"]) == ("2", "film")
    assert mlflow_curves(mlflow_client(workspace), run) == {
        "val_auprc_sv": [(1, 0.1), (2, 0.2), (3, 0.3)],
        "val_auprc_S": [(1, 0.1)],
        "class/auprc_S": [(3, 0.3)],
    }
    assert "parameter fusion is film in MLflow and mhca now; MLflow keeps" in caplog.text


def test_unknown_runs_do_not_stay_running_and_blank_ones_go(workspace: Path, name: str) -> None:
    killed = opened(workspace, name)
    killed.write(trial("d1", {1: EPOCH}))
    killed.write(trial("d2"))
    client, run = mlflow_client(workspace), run_of(workspace, name, "d2")
    for time_ms in (1, 10**14):  # before it in the list, and after
        client.create_run(run.info.experiment_id, start_time=time_ms, tags=run.data.tags)
    opened(workspace, name).close_abandoned([(TRIAL, "d2"), (STUDY, "")])
    left = run_of(workspace, name, "d1")
    assert (left.info.status, left.data.tags[Tag.OUTCOME]) == ("KILLED", "stopped")
    assert left.data.tags[Tag.CAUSE] == "the driver ended without closing it"
    only = run_of(workspace, name, "d2")
    assert (only.info.run_id, only.info.status) == (run.info.run_id, "RUNNING")


def test_a_study_id_tells_studies_of_one_name_apart(workspace: Path, name: str) -> None:
    for id_ in ("a", "b", "a"):
        opened(workspace, name, tags={Tag.STUDY: name, Tag.STUDY_ID: id_})
    ids = [run.data.tags[Tag.STUDY_ID] for run in search(workspace, f"tags.study = '{name}'")]
    assert sorted(ids) == ["a", "b"]


def test_what_a_store_that_works_does_not_take_is_refused(workspace: Path, name: str) -> None:
    runs = opened(workspace, name)
    runs.write(trial())
    gone = run_of(workspace, name, "d1").info.run_id
    mlflow_client(workspace).delete_run(gone)
    with pytest.raises(RefusedError, match="sqlite:.* refuses it: .*deleted"):
        runs.write(trial(epochs={1: EPOCH}))
    assert not runs.open, "the next call looks what there is"
    runs.open_study(study(name))
    runs.write(trial(epochs={1: EPOCH}))
    run = run_of(workspace, name, "d1")
    assert run.info.run_id != gone, "a run that the user deleted stays so"
    for lost in (run, run_of(workspace, name)):
        mlflow_client(workspace).delete_run(lost.info.run_id)
    with pytest.raises(TrackingError) as caught:
        runs.write(trial(epochs={1: EPOCH, 2: EPOCH}))
    assert not isinstance(caught.value, RefusedError), "a store that lost the study"
    assert runs.open_study(study(name)), "it is made again"


def test_an_epoch_is_one_call_and_many_points_are_several(workspace: Path, name: str) -> None:
    place = experiment(workspace)
    client, _ = place.connect()
    runs = StudyRuns(place)
    runs.open_study(study(name))
    metrics = {f"metric_{i}": float(i) for i in range(90)}
    with mock.patch.object(client, "log_batch", wraps=client.log_batch) as logged:
        runs.write(trial(epochs={1: dict(list(metrics.items())[:40])}))
        runs.write(trial(epochs=dict.fromkeys(range(1, 13), metrics), outcome="complete"))
    sizes = [len(call.kwargs["metrics"]) for call in logged.call_args_list]
    assert sizes == [40, 800, 12 * 90 - 40 - 800]
    assert len(history(workspace, run_of(workspace, name, "d1"), "metric_89")) == 12


def test_where_names_the_command_and_the_table(workspace: Path, name: str) -> None:
    place = experiment(workspace, name="view")
    StudyRuns(place).open_study(study(name))
    there = mlflow_client(workspace).get_experiment_by_name("view")
    page = f"experiments/{there.experiment_id}/runs?viewStateShareKey={name}&compareRunsMode=CHART"
    assert place.where(name) == (
        f"MLflow: run `mlflow ui` in {workspace}, then open http://127.0.0.1:5000/#/{page}"
    )
    view = there.tags[f"mlflow.sharedViewState.{name}"]
    assert f"tags.study = '{name}' and tags.kind != 'study' and tags.outcome = 'complete'" in view
    charts = {chart["type"]: chart for chart in json.loads(view)["compareRunCharts"]}
    assert charts["SCATTER"]["xaxis"] == {"key": "fusion", "type": "PARAM"}
    assert charts["PARALLEL"]["selectedParams"] == ["fusion", "heads", "gate", "embed_dim"]
    assert f"[{name}](#/{page})" in there.tags[NOTE]
    mlflow_client(workspace).set_experiment_tag(there.experiment_id, NOTE, "my own")
    StudyRuns(place).open_study(study(name))
    assert mlflow_client(workspace).get_experiment_by_name("view").tags[NOTE] == "my own"


def test_a_look_makes_nothing_and_a_deletion_is_explained(workspace: Path, tmp_path: Path) -> None:
    for address in (None, f"sqlite:///{tmp_path}/not there/runs.db"):
        assert experiment(tmp_path, tracking_uri=address).look() is None
    assert list(tmp_path.iterdir()) == []
    _, id_ = experiment(workspace, name="gone").connect()
    mlflow_client(workspace).delete_experiment(id_)
    message = (
        "tracking: experiment 'gone' was deleted in MLflow; bring it back with "
        f"`mlflow experiments restore -x {id_}`"
    )
    for use in (Experiment.connect, Experiment.look):
        assert refused(TrackingError, use, experiment(workspace, name="gone")) == message
