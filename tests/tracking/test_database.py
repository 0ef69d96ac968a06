"""MLflow's own database is there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.tracking.experiment import Experiment

OPEN = (
    "import sys; from pathlib import Path\n"
    "from study.tracking.experiment import Experiment\n"
    "Experiment(tracking_uri=None, name='ecg', workspace=Path(sys.argv[1])).connect()\n"
)


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_start_that_is_killed_while_tables_are_made_stops_no_later_one(tmp_path: Path) -> None:
    part = tmp_path / "mlflow.db.part"
    process = subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path)])
    # The first of many migrations is written: most tables are not there yet.
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert part.exists()
    assert not (tmp_path / "mlflow.db").exists()
    client, id_ = Experiment(tracking_uri=None, name="ecg", workspace=tmp_path).connect()
    client.create_run(id_)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_database_in_a_folder_that_is_not_there_yet_is_made_with_it(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/of all/runs.db"
    Experiment(tracking_uri=address, name="ecg", workspace=tmp_path).connect()
    assert [path.name for path in (tmp_path / "of all").iterdir()] == ["runs.db"]
