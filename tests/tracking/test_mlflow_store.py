"""Where runs are kept: the default, addresses that are refused, credentials that are not shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.errors import TrackingError
from study.tracking.mlflow_store import Store, find_store


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_default_is_the_database_of_the_workspace(tmp_path: Path) -> None:
    store = find_store(None, tmp_path)
    assert store == Store(uri=f"sqlite:///{tmp_path}/mlflow.db", workspace=tmp_path, default=True)
    assert store.artifact_location("ecg: rr/1") == f"{tmp_path}/mlruns/ecg_ rr_1"


def test_address_comes_from_the_environment_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert find_store(None, tmp_path).uri == "http://tracker:5000"
    assert find_store("https://other", tmp_path).uri == "https://other"


def test_relative_sqlite_address_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_store("sqlite:///runs/all.db", tmp_path).uri == f"sqlite:///{tmp_path}/runs/all.db"
    assert find_store("sqlite:///mlflow.db", tmp_path).default


def test_server_chooses_where_artifacts_go(tmp_path: Path) -> None:
    assert find_store("http://tracker:5000", tmp_path).artifact_location("ecg") is None


@pytest.mark.parametrize(
    ("address", "shown", "secret"),
    [
        ("http://ann:s3cret@tracker:5000", "http://tracker:5000", "s3cret"),
        ("http://t0ken@tracker", "http://tracker", "t0ken"),
        ("postgresql+psycopg2://ann:p%40ss@db/runs", "postgresql+psycopg2://db/runs", "p@ss"),
        ("mysql://db/runs?user=ann&password=s3cret", "", "s3cret"),
        ("https://tracker/a@b", "https://tracker/a@b", ""),
    ],
)
def test_credentials_are_not_shown(tmp_path: Path, address: str, shown: str, secret: str) -> None:
    store = find_store(address, tmp_path)
    assert store.uri == address
    assert shown in store.shown
    text = store.redact(f"no route to {address} with {secret}")
    assert not secret or (secret not in text and secret not in store.shown)


@pytest.mark.parametrize("address", ["runs", "file:///tmp/runs", "ftp://ann:s3cret@tracker"])
def test_file_stores_and_unknown_kinds_are_refused(tmp_path: Path, address: str) -> None:
    shown = address.replace("ann:s3cret@", "")
    message = (
        f"tracking: cannot use '{shown}': MLflow keeps runs in a database or on a server (its "
        "file store is in maintenance mode); give sqlite:///FILE, postgresql://..., "
        "mysql://..., mssql://... or http(s)://..."
    )
    with pytest.raises(TrackingError, match=f"^{re.escape(message)}$"):
        find_store(address, tmp_path)


def test_old_file_store_is_explained(tmp_path: Path) -> None:
    old = tmp_path / "mlruns" / "0" / "meta.yaml"
    old.parent.mkdir(parents=True)
    old.touch()
    with pytest.raises(TrackingError, match="migrate-filestore") as caught:
        find_store(None, tmp_path)
    assert str(old) in str(caught.value)
    assert "mv mlruns mlruns-old" in str(caught.value)
    assert not (tmp_path / "mlflow.db").exists()
    assert find_store(f"sqlite:///{tmp_path}/other.db", tmp_path).uri.endswith("other.db")


def test_artifact_folders_are_not_an_old_file_store(tmp_path: Path) -> None:
    (tmp_path / "mlruns" / "1").mkdir(parents=True)
    (tmp_path / "mlruns" / "ecg" / "run").mkdir(parents=True)
    (tmp_path / "mlruns" / "ecg" / "meta.yaml").touch()
    assert find_store(None, tmp_path).default


def test_files_that_are_no_database_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("these are notes, not runs")
    with pytest.raises(TrackingError, match="is not an SQLite database; move it away"):
        find_store(None, tmp_path)
    with pytest.raises(TrackingError, match="is a folder, not an SQLite database"):
        find_store(f"sqlite:///{tmp_path}", tmp_path)


@pytest.mark.parametrize("name", ["50% done", "why?"])
def test_folders_that_mlflow_misreads_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrackingError, match="the path must have no % and no \\?"):
        find_store(None, tmp_path / name)
