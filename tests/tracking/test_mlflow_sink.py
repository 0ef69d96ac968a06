"""What ends up in MLflow, read back through MLflow's own client."""

from __future__ import annotations

import http.client
import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from study.errors import RefusedError, TrackingError
from study.keys import Outcome, Tag
from study.tracking.mlflow_client import PARENT
from study.tracking.mlflow_sink import MlflowSink
from study.tracking.run import UNDEFINED
from tests.mlflow_server import Server

PARAMS = {"input": "opt3", "fusion": "film", "embed_dim": 64, "gate_init": -2.0}
EPOCH = {"val_auprc_sv": 0.5, "train_loss": 0.7}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests here: making MLflow's tables takes seconds. Studies differ."""
    return tmp_path_factory.mktemp("workspace with a space")


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def study(request: pytest.FixtureRequest) -> str:
    """A study name of the test's own."""
    return str(request.node.name)


def new_sink(workspace: Path, **changes: Any) -> MlflowSink:
    return MlflowSink(
        **{"tracking_uri": None, "experiment": "ecg", "workspace": workspace, **changes}
    )


def opened(workspace: Path, study: str) -> MlflowSink:
    sink = new_sink(workspace)
    sink.open_study(study, params={"trials": 2}, tags={})
    return sink


def trial(sink: MlflowSink, digest: str = "d1", number: int = 0) -> str:
    return sink.open_trial(digest, number=number, params=PARAMS, tags={Tag.FUSION: "film"})


def finish(sink: MlflowSink, run_id: str, outcome: Outcome = Outcome.COMPLETE) -> None:
    sink.close_trial(run_id, outcome=outcome, cause="", metrics={})


def end(sink: MlflowSink) -> None:
    sink.close_study(outcome=Outcome.COMPLETE, metrics={})


def reader(address: str | Path) -> Any:
    from mlflow import MlflowClient

    path = address / "mlflow.db" if isinstance(address, Path) else None
    return MlflowClient(tracking_uri=f"sqlite:///{path}" if path else str(address))


def stored(address: str | Path, run_id: str) -> Any:
    return reader(address).get_run(run_id)


def history(address: str | Path, run_id: str, name: str) -> list[tuple[int, float]]:
    points = reader(address).get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in points)


def trials_of(address: str | Path, study: str) -> list[Any]:
    client = reader(address)
    experiment = client.get_experiment_by_name("ecg").experiment_id
    terms = f"tags.study = '{study}' and tags.kind = 'trial'"
    return list(client.search_runs([experiment], filter_string=terms))


def test_a_study_is_a_parent_run_with_a_nested_run_for_each_trial(
    workspace: Path, study: str, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("trials = 1\n")
    sink = new_sink(workspace)
    parent = sink.open_study(
        study, params={"trials": 1}, tags={Tag.SPACE: "smoke"}, artifacts=[plan]
    )
    run_id = sink.open_trial(
        "d1", number=12, params=PARAMS, tags={Tag.FUSION: "film", Tag.GIT_COMMIT: "abc"}
    )
    sink.log_epoch(run_id, 1, EPOCH)
    sink.log_epoch(run_id, 2, {**EPOCH, "val_auprc_sv": 0.6})
    sink.close_trial(
        run_id,
        outcome=Outcome.COMPLETE,
        cause="",
        metrics={"val_auprc_sv": 0.6, "rr_reliance_total_S": 0.1},
        tags={Tag.ATTEMPT: "1"},
        artifacts=[plan],
    )
    sink.close_study(outcome="complete", metrics={"n_complete": 1})

    run = stored(workspace, run_id)
    assert run.info.run_name == "12 opt3/film d=64 g=-2"
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in PARAMS.items()}
    assert run.data.metrics == {**EPOCH, "val_auprc_sv": 0.6, "rr_reliance_total_S": 0.1}
    assert history(workspace, run_id, "val_auprc_sv") == [(1, 0.5), (2, 0.6)]
    assert history(workspace, run_id, "rr_reliance_total_S") == [(2, 0.1)]
    expected = {
        PARENT: parent,
        Tag.STUDY: study,
        Tag.KIND: "trial",
        Tag.DIGEST: "d1",
        Tag.FUSION: "film",
        Tag.OUTCOME: "complete",
        Tag.ATTEMPT: "1",
        "mlflow.source.git.commit": "abc",
    }
    assert expected.items() <= run.data.tags.items()
    assert Tag.CAUSE not in run.data.tags
    assert UNDEFINED not in run.data.tags

    top = stored(workspace, parent)
    assert (top.info.run_name, top.info.status) == (study, "FINISHED")
    assert top.data.params == {"trials": "1"}
    assert top.data.metrics == {"n_complete": 1}
    assert top.data.tags[Tag.SPACE] == "smoke"
    for id_ in (parent, run_id):
        copy = workspace / "mlruns" / "ecg" / id_ / "artifacts" / "plan.toml"
        assert copy.read_text() == "trials = 1\n"


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.COMPLETE, "FINISHED"),
        (Outcome.PRUNED, "KILLED"),
        (Outcome.STOPPED, "KILLED"),
        (Outcome.FAILED, "FAILED"),
    ],
)
def test_outcomes_are_told_apart(
    workspace: Path, study: str, outcome: Outcome, status: str
) -> None:
    sink = opened(workspace, study)
    run_id = trial(sink)
    sink.close_trial(run_id, outcome=outcome, cause="because\n" + "x" * 9000, metrics={})
    sink.close_study(outcome=outcome, metrics={})
    run = stored(workspace, run_id)
    assert run.info.status == status
    assert run.data.tags[Tag.OUTCOME] == outcome
    assert run.data.tags[Tag.CAUSE].startswith("because\nxx")
    assert run.data.tags[Tag.CAUSE].endswith("x (...)")
    assert stored(workspace, run.data.tags[PARENT]).info.status == status


def test_undefined_metrics_are_left_out_and_named(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    run_id = trial(sink)
    sink.log_epoch(run_id, 1, {"val_auprc_F": math.nan, "train_loss": math.inf, "val_loss": 1.0})
    sink.close_trial(
        run_id, outcome=Outcome.COMPLETE, cause="", metrics={"val_auprc_S": -math.inf}
    )
    end(sink)
    run = stored(workspace, run_id)
    assert run.data.metrics == {"val_loss": 1.0}
    assert run.data.tags[UNDEFINED] == "train_loss, val_auprc_F, val_auprc_S"


def test_a_resumed_trial_continues_its_run_and_repeats_nothing(
    workspace: Path, study: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(workspace, study)
    run_id = trial(first)
    first.log_epoch(run_id, 1, {"val_auprc_sv": 0.1, "val_auprc_F": math.nan})
    first.log_epoch(run_id, 2, {"val_auprc_sv": 0.2})
    first.close_trial(run_id, outcome=Outcome.STOPPED, cause="Ctrl-C", metrics={})
    first.close_study(outcome=Outcome.STOPPED, metrics={"n_complete": 0})

    second = opened(workspace, study)
    again = second.open_trial("d1", number=0, params={**PARAMS, "heads": 4}, tags={})
    assert again == run_id
    reopened = stored(workspace, run_id)
    assert reopened.info.status == "RUNNING"
    assert Tag.OUTCOME not in reopened.data.tags
    assert Tag.CAUSE not in reopened.data.tags
    for epoch in (2, 3):  # from a checkpoint of epoch 1: the second is done again
        second.log_epoch(run_id, epoch, {"val_auprc_sv": epoch / 10})
    second.close_trial(run_id, outcome=Outcome.COMPLETE, cause="", metrics={"val_auprc_sv": 0.3})
    second.close_study(outcome=Outcome.COMPLETE, metrics={"n_complete": 1})

    assert len(trials_of(workspace, study)) == 1
    assert history(workspace, run_id, "val_auprc_sv") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    run = stored(workspace, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["heads"] == "4"
    assert run.data.tags[UNDEFINED] == "val_auprc_F"
    parent = run.data.tags[PARENT]
    assert history(workspace, parent, "n_complete") == [(1, 0.0), (2, 1.0)]
    assert caplog.records == []


def test_a_parameter_keeps_its_first_value(
    workspace: Path, study: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = opened(workspace, study)
    finish(sink, trial(sink))
    run_id = sink.open_trial("d1", number=0, params={**PARAMS, "fusion": "mhca"}, tags={})
    finish(sink, run_id)
    end(sink)
    assert stored(workspace, run_id).data.params["fusion"] == "film"
    assert "parameter fusion is film in MLflow and mhca now; MLflow keeps" in caplog.text


def test_runs_of_a_killed_driver_do_not_stay_running(workspace: Path, study: str) -> None:
    killed = opened(workspace, study)
    left, done = trial(killed, "d1"), trial(killed, "d2", number=1)
    killed.log_epoch(left, 1, EPOCH)
    finish(killed, done)

    sink = opened(workspace, study)
    run = stored(workspace, left)
    assert run.info.status == "KILLED"
    assert run.data.tags[Tag.OUTCOME] == "stopped"
    assert run.data.tags[Tag.CAUSE] == "the driver ended without closing it"
    assert stored(workspace, done).info.status == "FINISHED"
    assert trial(sink, "d1") == left
    end(sink)


def test_a_run_with_an_outcome_that_was_not_closed_keeps_it(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    run_id = trial(sink)
    finish(sink, run_id)
    reader(workspace).update_run(run_id, status="RUNNING")
    end(sink)
    run = stored(workspace, run_id)
    assert (run.info.status, run.data.tags[Tag.OUTCOME]) == ("FINISHED", "complete")


def test_closing_a_study_closes_its_open_trials(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    run_id = trial(sink)
    sink.close_study(outcome=Outcome.STOPPED, metrics={})
    run = stored(workspace, run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags[Tag.CAUSE] == "the study ended first"


def test_a_floor_is_a_run_under_the_study_and_recorded_once(
    workspace: Path, study: str, tmp_path: Path
) -> None:
    file = tmp_path / "scores.json"
    file.write_text("{}")

    def add(sink: MlflowSink, digest: str = "f1") -> None:
        sink.add_floor(
            digest,
            name="floor: prevalence",
            params={"floor": "prevalence"},
            tags={Tag.SPACE: "smoke"},
            metrics={"val_auprc_sv": 0.05, "val_auprc_sv_seed_sd": math.nan},
            artifacts=[file],
            at_s=100.0,
        )

    sink = opened(workspace, study)
    add(sink)
    end(sink)
    again = opened(workspace, study)
    add(again)
    add(again, "f2")
    end(again)
    client = reader(workspace)
    experiment = client.get_experiment_by_name("ecg").experiment_id
    terms = f"tags.study = '{study}' and tags.kind = 'floor'"
    runs = {r.data.tags[Tag.DIGEST]: r for r in client.search_runs([experiment], terms)}
    assert sorted(runs) == ["f1", "f2"]
    floor = runs["f1"]
    assert (floor.info.run_name, floor.info.status) == ("floor: prevalence", "FINISHED")
    assert (floor.info.start_time, floor.info.end_time) == (100_000, 100_000)
    assert floor.data.metrics == {"val_auprc_sv": 0.05}
    assert floor.data.tags[UNDEFINED] == "val_auprc_sv_seed_sd"
    assert floor.data.tags[Tag.SPACE] == "smoke"
    assert [item.path for item in client.list_artifacts(floor.info.run_id)] == ["scores.json"]
    assert trials_of(workspace, study) == []

    with pytest.raises(RefusedError, match="^tracking: no study is open; open it first$"):
        add(again)


def test_a_floor_that_was_half_written_is_completed(workspace: Path, study: str) -> None:
    client = reader(workspace)
    sink = opened(workspace, study)
    sink.add_floor("f", name="floor", params={}, tags={}, metrics={"val_auprc_sv": 0.1})
    experiment = client.get_experiment_by_name("ecg").experiment_id
    terms = f"tags.study = '{study}' and tags.kind = 'floor'"
    (half,) = client.search_runs([experiment], terms)
    client.update_run(half.info.run_id, status="RUNNING")
    more = {"val_auprc_sv": 0.1, "val_auroc_sv": 0.6}
    sink.add_floor("f", name="floor", params={}, tags={}, metrics=more)
    (floor,) = client.search_runs([experiment], terms)
    assert (floor.info.run_id, floor.info.status) == (half.info.run_id, "FINISHED")
    assert floor.data.metrics == more
    end(sink)


def test_a_study_id_tells_studies_of_one_name_apart(workspace: Path, study: str) -> None:
    ids = []
    for id_ in ("a", "b", "a"):
        sink = new_sink(workspace)
        ids.append(sink.open_study(study, params={}, tags={"study_id": id_}))
        end(sink)
    assert ids[0] == ids[2] != ids[1]


def test_what_is_not_open_is_refused(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    with pytest.raises(RefusedError, match="^tracking: no run 'r' is open; open it first$"):
        sink.log_epoch("r", 1, EPOCH)
    end(sink)


def test_what_a_store_that_works_does_not_take_is_refused(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    gone = trial(sink)
    reader(workspace).delete_run(gone)
    with pytest.raises(RefusedError, match="sqlite:.* does not take it: .*deleted"):
        sink.log_epoch(gone, 1, EPOCH)
    again = trial(sink)
    assert again != gone, "a run that the user deleted stays so"
    finish(sink, again)
    end(sink)


def test_a_store_that_lost_the_study_is_no_refusal(workspace: Path, study: str) -> None:
    sink = new_sink(workspace)
    parent = sink.open_study(study, params={}, tags={})
    run_id = trial(sink)
    for id_ in (run_id, parent):
        reader(workspace).delete_run(id_)
    with pytest.raises(TrackingError) as caught:
        sink.log_epoch(run_id, 1, EPOCH)
    assert not isinstance(caught.value, RefusedError)


def test_a_repeated_call_changes_nothing(workspace: Path, study: str, tmp_path: Path) -> None:
    """As after a kill between sending and noting it: a new process sends all of it again."""
    plan = tmp_path / "plan.toml"
    plan.write_text("trials = 1\n")

    def tell(sink: MlflowSink, times: int) -> tuple[str, str]:
        for _ in range(times):
            parent = sink.open_study(study, params={"trials": 1}, tags={}, at_s=100.0)
        for _ in range(times):
            run_id = sink.open_trial("d1", number=0, params=PARAMS, tags={}, at_s=101.0)
        for _ in range(times):
            sink.log_epoch(run_id, 1, EPOCH, at_s=102.0)
        sink.close_trial(
            run_id,
            outcome=Outcome.COMPLETE,
            cause="",
            metrics={**EPOCH, "n": 1},
            artifacts=[plan],
            at_s=103.0,
        )
        sink.close_study(outcome="complete", metrics={"trials_complete": 1}, at_s=104.0)
        return parent, run_id

    ids = tell(new_sink(workspace), 1)
    for times in (1, 2):
        assert tell(new_sink(workspace), times) == ids
    parent, run_id = ids
    assert len(trials_of(workspace, study)) == 1
    assert history(workspace, run_id, "val_auprc_sv") == [(1, 0.5)]
    assert history(workspace, run_id, "n") == [(1, 1.0)]
    assert history(workspace, parent, "trials_complete") == [(1, 1.0)]
    for id_, began_ms, ended_ms in ((parent, 100_000, 104_000), (run_id, 101_000, 103_000)):
        info = stored(workspace, id_).info
        assert (info.start_time, info.end_time, info.status) == (began_ms, ended_ms, "FINISHED")


def test_a_run_that_a_lost_request_made_beside_its_own_is_deleted(
    workspace: Path, study: str
) -> None:
    sink = opened(workspace, study)
    run_id = trial(sink)
    tags = stored(workspace, run_id).data.tags
    client = reader(workspace)
    experiment = client.get_experiment_by_name("ecg").experiment_id
    for time_ms in (1, 10**14):  # before it in the list, and after
        client.create_run(experiment, start_time=time_ms, tags=tags)
    sink.log_epoch(run_id, 1, EPOCH)
    finish(sink, run_id)
    end(sink)
    assert [run.info.run_id for run in trials_of(workspace, study)] == [run_id]


def test_a_report_costs_the_same_whatever_its_number_of_metrics(
    workspace: Path, study: str
) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    commits: list[object] = []

    def count(connection: object) -> None:
        commits.append(connection)

    sink = opened(workspace, study)
    run_id = trial(sink)
    costs = []
    event.listen(Engine, "commit", count)
    for epoch, n_metrics in enumerate((1, 40), start=1):
        commits.clear()
        sink.log_epoch(run_id, epoch, {f"metric_{i}": float(i) for i in range(n_metrics)})
        costs.append(len(commits))
    event.remove(Engine, "commit", count)
    end(sink)
    assert costs[0] == costs[1] <= 2
    assert len(stored(workspace, run_id).data.metrics) == 40


def test_studies_that_start_at_once_in_a_new_folder_do_not_harm_each_other(
    tmp_path: Path,
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from study.tracking.mlflow_sink import MlflowSink\n"
        "sink = MlflowSink(tracking_uri=None, experiment='ecg', workspace=Path(sys.argv[1]))\n"
        "sink.open_study(sys.argv[2], params={}, tags={})\n"
        "sink.close_study(outcome='complete', metrics={})\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen([*command, name], stdout=pipe, stderr=pipe, text=True)
        for name in ("first", "second")
    ]
    output = [process.communicate(timeout=120) for process in both]
    # Silent too: no address, no line for each table, no deprecation, no telemetry.
    assert output == [("", ""), ("", "")]
    assert [process.returncode for process in both] == [0, 0]


def test_where_names_the_command_and_the_table(workspace: Path, study: str) -> None:
    sink = opened(workspace, study)
    end(sink)
    experiment = reader(workspace).get_experiment_by_name("ecg")
    page = f"experiments/{experiment.experiment_id}/runs?viewStateShareKey={study}"
    assert sink.where() == (
        f"MLflow: run `mlflow ui` in {workspace}, then open http://127.0.0.1:5000/#/{page}"
    )
    view = experiment.tags[f"mlflow.sharedViewState.{study}"]
    assert f"tags.study = '{study}' and tags.kind = 'trial' and tags.outcome = 'complete'" in view
    assert experiment.artifact_location == str(workspace / "mlruns" / "ecg")


def test_deleted_experiment_is_explained(workspace: Path) -> None:
    new_sink(workspace, experiment="gone")
    client = reader(workspace)
    id_ = client.get_experiment_by_name("gone").experiment_id
    client.delete_experiment(id_)
    message = (
        "tracking: experiment 'gone' was deleted in MLflow; bring it back with "
        f"`mlflow experiments restore -x {id_}`"
    )
    with pytest.raises(TrackingError) as caught:
        new_sink(workspace, experiment="gone")
    assert str(caught.value) == message


def test_tables_of_another_version_are_refused(workspace: Path, tmp_path: Path) -> None:
    new_sink(workspace)
    copy = tmp_path / "mlflow.db"
    copy.write_bytes((workspace / "mlflow.db").read_bytes())
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    with pytest.raises(TrackingError, match="out-of-date database schema.*mlflow db upgrade"):
        new_sink(tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def server(served: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, whose clients make no second try by themselves."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return served


def test_a_call_is_made_again_when_its_server_returns(server: Server, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("trials = 2\n")
    sink = new_sink(tmp_path, tracking_uri=server.address)
    sink.open_study("outage", params={}, tags={})
    run_id = trial(sink)
    sink.log_epoch(run_id, 1, EPOCH)
    server.stop()
    for _ in range(2):
        with pytest.raises(TrackingError) as caught:
            sink.log_epoch(run_id, 2, EPOCH)
    assert str(caught.value).startswith(f"tracking: cannot use http://127.0.0.1:{server.port}: ")
    assert "s3cret" not in str(caught.value)
    late = new_sink(tmp_path, tracking_uri=server.address, patient=True)
    assert late.where() == f"MLflow: http://127.0.0.1:{server.port}"
    with pytest.raises(TrackingError, match="^tracking: cannot use http"):
        late.open_study("late", params={}, tags={})
    server.start()
    assert late.open_study("late", params={}, tags={})
    end(late)
    for epoch in (2, 3):
        sink.log_epoch(run_id, epoch, EPOCH)
    sink.close_trial(
        run_id, outcome=Outcome.COMPLETE, cause="", metrics={"n": 1}, artifacts=[plan]
    )
    end(sink)
    (run,) = trials_of(server.address, "outage")
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert [step for step, _ in history(server.address, run_id, "train_loss")] == [1, 2, 3]
    assert run.data.metrics == {**EPOCH, "n": 1.0}
    assert [file.path for file in reader(server.address).list_artifacts(run_id)] == ["plan.toml"]
    assert sink.where().startswith(f"MLflow: http://127.0.0.1:{server.port}/#/experiments/")


TIMEOUT_S = 1
WAYS = ("fails", "passes on and fails", "is late", "hangs up")
"""What a bad server does, in turn, with the first requests of each kind."""
KINDS = ("create", "log-batch", "update", "upload")
"""Last part of the paths of what writes runs and experiments, and files."""


class Proxy(ThreadingHTTPServer):
    """Stands before a server and serves badly: each kind of write fails once in each way."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Badly)
        self.port = port
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.writes = Counter[str]()
        self.late = list[threading.Thread]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def way(self, command: str, path: str) -> str:
        """Return what is to be done with a request; empty where all goes well."""
        kind = "upload" if "/artifacts/" in path else path.partition("?")[0].rpartition("/")[2]
        if command == "GET" or kind not in KINDS:
            return ""
        self.writes[kind] += 1
        return WAYS[self.writes[kind] - 1] if self.writes[kind] <= len(WAYS) else ""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Badly(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    server: Proxy

    def serve(self) -> None:
        way = self.server.way(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = way == "hangs up"
        if way == "hangs up":
            return
        if way == "fails":
            self.send_error(500)
            return
        if way == "is late":
            self.server.late.append(threading.current_thread())
            time.sleep(TIMEOUT_S + 0.3)  # the client has given up
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        with suppress(OSError):  # nobody waits any more
            if way == "passes on and fails":
                self.send_error(500)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def insist(call: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Make a call until it works, as the sender does."""
    for _ in range(30):
        try:
            return call(*given, **named)
        except TrackingError as error:
            assert not isinstance(error, RefusedError), error
    raise AssertionError("it never worked")


def test_a_server_that_fails_hangs_up_or_is_late_gets_everything_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT_S))
    proxy = Proxy(server.port)
    plan = tmp_path / "plan.toml"
    plan.write_text("trials = 2\n")
    sink = insist(new_sink, tmp_path, tracking_uri=proxy.address)
    insist(sink.open_study, "bad", params={"trials": 2}, tags={}, artifacts=[plan], at_s=1.0)
    for number, digest in enumerate(("d1", "d2")):
        run_id = insist(
            sink.open_trial, digest, number=number, params=PARAMS, tags={}, at_s=2.0 + number
        )
        for epoch in range(1, 4):
            insist(sink.log_epoch, run_id, epoch, EPOCH, at_s=10.0 * number + epoch)
        end_of = {"outcome": Outcome.PRUNED, "cause": "asha", "metrics": {"n": 1.0}}
        insist(sink.close_trial, run_id, **end_of, artifacts=[plan], at_s=50.0)
    for thread in proxy.late:
        thread.join()
    insist(sink.close_study, outcome="complete", metrics={"trials_pruned": 2.0}, at_s=60.0)
    proxy.stop()
    for kind in KINDS:
        assert proxy.writes[kind] > len(WAYS), kind
    runs = trials_of(server.address, "bad")
    assert sorted(run.data.tags[Tag.DIGEST] for run in runs) == ["d1", "d2"]
    for run in runs:
        assert run.info.status == "KILLED"
        for name in EPOCH:
            steps = [step for step, _ in history(server.address, run.info.run_id, name)]
            assert steps == [1, 2, 3], name
        assert history(server.address, run.info.run_id, "n") == [(3, 1.0)]


def test_a_server_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = "http://ann:s3cret@127.0.0.1:9"
    with pytest.raises(TrackingError) as caught:
        new_sink(tmp_path, tracking_uri=address)
    assert str(caught.value).startswith("tracking: cannot use http://127.0.0.1:9: ")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
