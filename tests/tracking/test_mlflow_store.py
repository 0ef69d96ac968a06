"""Where runs are kept: addresses, credentials, a database that is whole or not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.errors import TrackingError
from study.tracking.experiment import Experiment
from study.tracking.mlflow_store import Store, find_store
from tests.builders import refused

OPEN = (
    "import sys; from pathlib import Path\n"
    "from study.tracking.experiment import Experiment\n"
    "workspace = Path(sys.argv[1])\n"
    "address = f'sqlite:///{workspace}/not there yet/runs.db'\n"
    "experiment = Experiment(tracking_uri=address, name='ecg', workspace=workspace)\n"
    "client, id_ = experiment.connect()\n"
    "client.create_run(id_)\n"
)


def test_the_store_is_the_address_given_that_of_the_environment_or_the_workspace_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = find_store(None, tmp_path)
    assert own == Store(uri=f"sqlite:///{tmp_path}/mlflow.db", workspace=tmp_path, default=True)
    assert own.artifact_location("ecg: rr/1") == f"{tmp_path}/mlruns/ecg_ rr_1"
    monkeypatch.chdir(tmp_path)
    assert find_store("sqlite:///runs/all.db", tmp_path).uri == f"sqlite:///{tmp_path}/runs/all.db"
    assert find_store("sqlite:///mlflow.db", tmp_path).default
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    server = find_store(None, tmp_path)
    assert (server.uri, server.artifact_location("ecg")) == ("http://tracker:5000", None)
    assert find_store("https://other", tmp_path).uri == "https://other"


def test_addresses_that_mlflow_cannot_use_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("these are notes, not runs")
    for address, said in {
        "runs": "cannot use 'runs': MLflow keeps runs in a database or on a server",
        "file:///tmp/runs": "cannot use 'file:///tmp/runs': MLflow keeps runs in a database",
        "ftp://ann:s3cret@tracker": "cannot use 'ftp://tracker': ",
        f"sqlite:///{tmp_path}/notes.db": "is not an SQLite database; move it away",
        f"sqlite:///{tmp_path}": "is a folder, not an SQLite database",
        f"sqlite:///{tmp_path}/50% done.db": "the path must have no % and no ?",
    }.items():
        assert said in refused(TrackingError, find_store, address, tmp_path)


def test_an_old_file_store_is_explained_and_folders_of_artifacts_are_none(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "1").mkdir(parents=True)
    (tmp_path / "mlruns" / "ecg" / "run").mkdir(parents=True)
    (tmp_path / "mlruns" / "ecg" / "meta.yaml").touch()
    assert find_store(None, tmp_path).default
    old = tmp_path / "mlruns" / "0" / "meta.yaml"
    old.parent.mkdir()
    old.touch()
    told = refused(TrackingError, find_store, None, tmp_path)
    assert all(said in told for said in (str(old), "migrate-filestore", "mv mlruns mlruns-old"))
    assert not (tmp_path / "mlflow.db").exists()
    assert find_store(f"sqlite:///{tmp_path}/other.db", tmp_path).uri.endswith("other.db")


def test_a_start_that_is_killed_while_tables_are_made_stops_no_later_one(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    part = folder / "runs.db.part"
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path)])
    # The first of many migrations is written: most tables are not there yet.
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert part.exists()
    assert not (folder / "runs.db").exists()
    address = f"sqlite:///{folder}/runs.db"
    client, id_ = Experiment(tracking_uri=address, name="ecg", workspace=tmp_path).connect()
    client.create_run(id_)
    assert [path.name for path in folder.iterdir()] == ["runs.db"]


def test_starts_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-W", "error", "-c", OPEN, str(tmp_path)], subprocess.PIPE
    both = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    # Silent too: no address, no line for each table, no deprecation, no telemetry.
    assert [process.communicate(timeout=120) for process in both] == [("", "")] * 2
    assert [process.returncode for process in both] == [0, 0]


def test_a_copied_workspace_keeps_its_files_in_it(tmp_path: Path, mlflow_tables: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "the o'ther \"é"
    here.mkdir()
    shutil.copy(mlflow_tables, here)
    first = Experiment(tracking_uri=None, name="studies", workspace=here)
    client, experiment_id = first.connect()
    run_id = client.create_run(experiment_id).info.run_id
    client.log_text(run_id, "before", "before.txt")
    shutil.copytree(here, there)
    client, _ = Experiment(tracking_uri=None, name="studies", workspace=there).connect()
    assert client.get_run(run_id).info.artifact_uri.startswith(f"{there}/mlruns/studies/")
    client.log_text(client.create_run(experiment_id).info.run_id, "after", "after.txt")
    files = {
        folder: sorted(path.name for path in folder.rglob("*.txt")) for folder in (here, there)
    }
    assert files == {here: ["before.txt"], there: ["after.txt", "before.txt"]}
