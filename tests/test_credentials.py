"""Credentials in addresses: the commands are run with them against ports that nobody listens at,
and neither what they print nor what they write may hold one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from study import predict, report, run
from study.command import REFUSED
from study.data.source import Source
from tests.builders import space_toml, write_split

SECRET = "s3cr3t"
USER, KEY = f"user:{SECRET}@127.0.0.1:1", f"AKIA:{SECRET}"
CLOSED = "its Optuna storage cannot be opened"
SPACE = space_toml(
    {"dropout": {"low": 0.0, "high": 0.5}},
    fixed={"fusion": "concat", "embed_dim": 8, "epochs": 2, "normal_beats_per_epoch": 50},
    settings={"sampler": "random", "trials": 1, "folds": 2},
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared beats, for all tests: they hold no address."""
    return tmp_path_factory.mktemp("beats")


@pytest.fixture
def workspace(
    records_source: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    write_split(tmp_path, records_source.development[:6])
    (tmp_path / "one.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("STUDY_CACHE_DIR", str(cache))
    return tmp_path


def check_nothing_told(
    workspace: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> str:
    """Look for the secret in all that was printed, logged and written; return what was printed."""
    output = "".join(capfd.readouterr())
    assert SECRET not in output + caplog.text
    told = [path for path in workspace.rglob("*") if path.is_file()]
    assert [path for path in told if SECRET.encode() in path.read_bytes()] == []
    return output


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (f"--study-storage postgresql://{USER}/db", CLOSED),
        (f"--study-storage mysql://127.0.0.1:1/db?user=u&password={SECRET}", CLOSED),
        (f"--tracking-uri https://{USER}", "tracking: cannot use https://127.0.0.1:1: "),
        (f"--tracking-uri ftp://{USER}/x?token={SECRET}", "'ftp://127.0.0.1:1/x?token=***'"),
        (f"--storage s3://{KEY}@bucket/x?secret_key={SECRET}", "--storage s3://...: cannot be op"),
        (f"--storage nowhere://{KEY}@bucket/x", "--storage nowhere://...: cannot be opened"),
        (f"--address ray://{USER}", "--address ray://127.0.0.1:1: "),
    ],
)
def test_a_study_tells_no_credentials(
    workspace: Path,
    records_source: Source,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    options: str,
    fault: str,
) -> None:
    records = ["--records", str(records_source.folder), "--split", "split.toml"]
    assert run.main(["-v", "--space", "one.toml", *records, *options.split()]) == REFUSED
    assert fault in check_nothing_told(workspace, capfd, caplog)


def test_other_commands_tell_no_credentials(
    workspace: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server, database = f"https://{USER}", f"postgresql://{USER}/db"
    assert predict.main(["--record", "p01", "--tracking-uri", server]) == REFUSED
    options = ["--tracking-uri", server, "--study-storage", database]
    assert report.main(["-v", "--study", "none", *options]) == REFUSED
    assert "https://127.0.0.1:1" in check_nothing_told(workspace, capfd, caplog)
