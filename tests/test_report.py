"""The command line of the page on a study that was trained, and on those that never got so far."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from study import report
from study.data.source import Source
from study.keys import EPOCH, EXPERIMENTS, Outcome, Tag
from study.models import rules
from study.reporting.page.page import PAGE, table_files
from study.store.beats_file import write_exclusions
from study.store.floors import study_floors
from study.store.folder import BEATS, PLAN_FILE, SPACE_COPY
from study.store.ledger import Ledger
from study.store.storage import Storage
from study.store.trials import Proposal
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import write_result
from study.tracking.run_facts import RunFacts
from study.tuning.setup import set_up
from study.tuning.trial import METRICS, TrialRun
from tests.builders import load_text, npz, stored_beats

SPACE = """
description = "Does attention over time help?"
[compare]
draws = 1
seeds = 1
folds = 2
reference = "ecg"
contrasts = [["time", "ecg"]]
[fixed]
segmentation = "daeac"
embed_dim = 8
epochs = 1
normal_beats_per_epoch = 20
[[arms]]
name = "ecg"
input = "ecg"
fusion = "none"
[[arms]]
name = "time"
input = "opt1"
fusion = "mhca_time"
"""

NAME = "tiny"


@pytest.fixture(scope="module")
def trained(
    small_source: Source, mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A workspace with a finished study of two arms, recorded in MLflow."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(mlflow_tables, workspace)
    folder = workspace / "studies" / NAME
    folder.mkdir(parents=True)
    setup = set_up(
        load_text(folder, SPACE, SPACE_COPY.removesuffix(".toml")),
        small_source,
        name=NAME,
        study_seed=0,
        partition_seed=0,
        device="cpu",
        precision="fp32",
        storage=Storage.at(folder / "trials"),
        cache_dir=workspace / "beats",
    )
    setup.plan.save(folder)
    (folder / BEATS).write_bytes(stored_beats(setup.beats, setup.job.folds))
    write_exclusions(folder, setup.beats)
    study_floors(setup.floor_beats, setup.job.folds, folder)
    ledger = Ledger(storage_url=f"sqlite:///{folder / 'study.db'}", name=NAME, epochs=1)
    for point in setup.space.comparisons():
        proposal = Proposal(
            config=point.config,
            digest=rules.digest(point.config),
            arm=point.arm,
            params={},
            draw=point.draw,
        )
        number = ledger.open(ledger.enqueue(proposal), proposal)
        result = TrialRun(point.config, setup.job).step()
        value = result[METRICS][setup.space.objective]
        ledger.record(number, result[EPOCH], value, result[METRICS])
        ledger.close(
            number,
            Outcome.COMPLETE,
            cause="",
            metrics=result[METRICS],
            epochs=1,
            seconds=1.0,
            objective=value,
        )
    ledger.begin_start({Tag.GIT_COMMIT: "c0ffee", "version_torch": "2"})
    ledger.end_start(Outcome.COMPLETE, {})
    experiment = Experiment(tracking_uri=None, name=EXPERIMENTS["synthetic"], workspace=workspace)
    tags = {Tag.STUDY: NAME, Tag.STUDY_ID: ledger.study_id}
    study = RunFacts(kind="study", name=NAME, tags=tags, began_s=1.0, outcome="complete")
    write_result(experiment, study, [])
    return workspace


@pytest.fixture
def workspace(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace as the current folder."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of the study, to change, in a workspace without MLflow."""
    shutil.copytree(trained / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "studies" / NAME


def test_a_study_gets_its_page(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--study", NAME]) == 0
    output = workspace / "studies" / NAME / "report"
    assert capsys.readouterr().out == f"{output / PAGE}\n"
    page = (output / PAGE).read_text()
    # What trials measured, what a start wrote, and what the study knows of its start is there.
    for text in (
        "Attention on the mean beat: time",
        "Deletion check",
        "Effect of the branch",
        "Beats left out",
        "c0ffee",
        "DS2 has been opened 0 times in this workspace.",
        "No attention of attention_pool for comparison",
    ):
        assert text in page, text
    assert set(table_files([])) < {path.name for path in output.iterdir()}
    (logged,) = (workspace / "mlruns").glob(f"*/*/artifacts/report/{PAGE}")
    assert logged.read_text() == page


def test_a_tracker_that_cannot_be_used_takes_no_page_away(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--study", NAME, "--output", str(tmp_path), "--tracking-uri", "nonsense://there"]
    assert report.main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / PAGE}\n"
    assert (tmp_path / PAGE).exists()


def test_what_is_gone_or_damaged_is_told_on_the_page_or_as_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "floors")
    (folder / "exclusions.json").unlink()
    for predictions in folder.glob("trials/*/predictions.npz"):
        with np.load(predictions) as arrays:
            predictions.write_bytes(npz(log_probs=arrays["log_probs"]))
    assert report.main(["--study", NAME, "--output", "elsewhere", "--quiet"]) == 0
    page = Path("elsewhere", PAGE).read_text()
    assert "No exclusions by reason: exclusions.json is missing" in page
    assert re.search(r"trials \d+: its predictions.npz has no measurement", page)
    assert not Path("mlflow.db").exists()

    command = ["--study", NAME, "--no-track"]
    for predictions in folder.glob("trials/*/predictions.npz"):
        predictions.write_bytes(b"damaged")
    assert report.main(command) == 0
    assert "predictions.npz is damaged (BadZipFile" in (folder / "report" / PAGE).read_text()

    (folder / BEATS).write_bytes(b"damaged")
    assert report.main(command) == 2
    assert f"error: {folder / BEATS}: is damaged (BadZipFile" in capsys.readouterr().err


def test_a_study_that_has_not_begun(folder: Path) -> None:
    plan, space = ((folder / name).read_text() for name in (PLAN_FILE, SPACE_COPY))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / PLAN_FILE).write_text(plan)
    (folder / SPACE_COPY).write_text(space)
    command = ["--study", NAME, "--no-track", "--quiet"]
    assert report.main(command) == 0
    page = (folder / "report" / PAGE).read_text()
    assert "The study has no settled trial: nothing is known yet (0 of 2 trials settled)" in page
    assert not (folder / "study.db").exists(), "reading must not make a study"

    # Its command line left the screening of its space out.
    searched = {"kind": "search", "sampler": "gp", "scheduler": "none"}
    (folder / PLAN_FILE).write_text(json.dumps({**json.loads(plan), **searched}))
    (folder / SPACE_COPY).write_text(
        'description = "two"\n[search]\nsampler = "tpe"\ntrials = 2\nscheduler = "screening"\n'
        '[params.fusion]\nvalues = ["film", "mhca_time"]\n'
    )
    assert report.main(command) == 0
    assert "Search of space" in (folder / "report" / PAGE).read_text()


def test_no_such_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--study", "other"]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no study 'other' in {workspace / 'studies'}; there is: {NAME}.\n"
    )
