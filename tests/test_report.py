"""The command line of the page on a study that was trained, and on those that never got so far."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from study import report
from study.files import write_whole
from study.reporting.page.page import PAGE, table_files
from study.store.folder import BEATS, PLAN_FILE, SPACE_COPY
from tests.builders import npz
from tests.command import Ended, here
from tests.studies import Studies

SPACE = """
description = "Does attention over time help?"
compare = { draws = 1, seeds = 1, folds = 2, reference = "ecg", contrasts = [["time", "ecg"]] }
fixed = { segmentation = "daeac", embed_dim = 8, epochs = 1, normal_beats_per_epoch = 20 }
arms = [
    { name = "ecg", input = "ecg", fusion = "none" },
    { name = "time", input = "opt1", fusion = "mhca_time" },
]
"""

NAME = "tiny"


@pytest.fixture(scope="module")
def trained(studies: Studies, mlflow_tables: Path) -> Path:
    """A workspace with a finished study of two arms, recorded in MLflow."""
    shutil.copy(mlflow_tables, studies.folder)
    (studies.folder / "attention.toml").write_text(SPACE)
    ended = studies.here("attention", NAME)
    assert ended.code == 0, ended
    return studies.folder


@pytest.fixture
def workspace(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of the study, to change, in a workspace without MLflow."""
    shutil.copytree(trained / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "studies" / NAME


def told(*words: str) -> Ended:
    return here(Path.cwd(), ["--study", NAME, *words], report.main)


def test_a_study_gets_its_page(workspace: Path) -> None:
    output = workspace / "studies" / NAME / "report"
    write_whole(output / "notes.txt", "of the user")
    assert told().out == f"{output / PAGE}\n"
    page = (output / PAGE).read_text()
    # What trials measured, what a start wrote, and what the study knows of its start is there.
    for text in (
        "Attention on the mean beat: time",
        "Deletion check",
        "Effect of the branch",
        "Beats left out",
        "version_<wbr>torch",
        "none are set aside of the records of this study",
        "No attention of attention_pool for comparison",
    ):
        assert text in page, text
    assert set(table_files([])) < {path.name for path in output.iterdir()}
    (logged,) = (workspace / "mlruns").glob(f"*/*/artifacts/report/{PAGE}")
    assert logged.read_text() == page
    assert not logged.with_name("notes.txt").exists()


def test_a_tracker_that_cannot_be_used_takes_no_page_away(workspace: Path, tmp_path: Path) -> None:
    ended = told("--output", str(tmp_path), "--tracking-uri", "nonsense://there")
    assert (ended.code, ended.out) == (0, f"{tmp_path / PAGE}\n")
    assert (tmp_path / PAGE).exists()
    refused = Ended(2, "", "error: --output: attention.toml: must be a folder; name another\n")
    assert told("--output", "attention.toml") == refused


def test_what_is_gone_or_damaged_is_told_on_the_page_or_as_an_error(folder: Path) -> None:
    shutil.rmtree(folder / "floors")
    (folder / "exclusions.json").unlink()
    for predictions in folder.glob("trials/*/predictions.npz"):
        with np.load(predictions) as arrays:
            predictions.write_bytes(npz(log_probs=arrays["log_probs"]))
    assert told("--output", "elsewhere", "--quiet").code == 0
    page = Path("elsewhere", PAGE).read_text()
    assert "No exclusions by reason: exclusions.json is missing" in page
    assert re.search(r"trials \d+: its predictions.npz has no measurement", page)
    assert not Path("mlflow.db").exists()

    for predictions in folder.glob("trials/*/predictions.npz"):
        predictions.write_bytes(b"damaged")
    assert told("--no-track").code == 0
    assert "predictions.npz is damaged (BadZipFile" in (folder / "report" / PAGE).read_text()

    (folder / BEATS).write_bytes(b"damaged")
    refused = told("--no-track")
    assert refused.code == 2
    assert f"error: {folder / BEATS}: is damaged (BadZipFile" in refused.err


def test_a_study_that_has_not_begun(folder: Path) -> None:
    given = {name: (folder / name).read_text() for name in (PLAN_FILE, SPACE_COPY)}
    shutil.rmtree(folder)
    folder.mkdir()
    for name, text in given.items():
        (folder / name).write_text(text)
    assert told("--no-track", "--quiet").code == 0
    page = (folder / "report" / PAGE).read_text()
    assert "The study has no settled trial: nothing is known yet (0 of 2 trials settled)" in page
    assert not (folder / "study.db").exists(), "reading must not make a study"

    # Its command line left the screening of its space out.
    searched = {"kind": "search", "sampler": "gp", "scheduler": "none"}
    (folder / PLAN_FILE).write_text(json.dumps({**json.loads(given[PLAN_FILE]), **searched}))
    (folder / SPACE_COPY).write_text(
        'description = "two"\n[search]\nsampler = "tpe"\ntrials = 2\nscheduler = "screening"\n'
        '[params.fusion]\nvalues = ["film", "mhca_time"]\n'
    )
    assert told("--no-track", "--quiet").code == 0
    assert "Search of space" in (folder / "report" / PAGE).read_text()
