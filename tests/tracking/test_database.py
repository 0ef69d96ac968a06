"""MLflow's own database is there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.tracking.mlflow_sink import MlflowSink

OPEN = (
    "import sys; from pathlib import Path\n"
    "from study.tracking.mlflow_sink import MlflowSink\n"
    "MlflowSink(tracking_uri=None, experiment='ecg', workspace=Path(sys.argv[1]))\n"
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
    sink = MlflowSink(tracking_uri=None, experiment="ecg", workspace=tmp_path)
    sink.open_study("after it", params={}, tags={})
    sink.close_study(outcome="complete", metrics={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def test_a_database_in_a_folder_that_is_not_there_yet_is_made_with_it(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/of all/runs.db"
    MlflowSink(tracking_uri=address, experiment="ecg", workspace=tmp_path)
    assert [path.name for path in (tmp_path / "of all").iterdir()] == ["runs.db"]
