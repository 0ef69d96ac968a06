"""The command line of the page on a study that was trained, and on those that never got so far."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study import report
from study.data.source import Source, find_source
from study.keys import EPOCH, Outcome, Tag
from study.models import rules
from study.reporting.page.page import PAGE, table_files
from study.spaces.load import load_space
from study.spaces.optuna_space import distributions
from study.store.beats_file import write_exclusions
from study.store.floors import study_floors
from study.store.folder import BEATS, SPACE_COPY
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.trials import Proposal
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import write_result
from study.tracking.run_facts import RunFacts
from study.tuning.setup import Setup, set_up
from study.tuning.trial import METRICS, TrialRun
from tests.builders import npz, stored_beats, write_split

SPACE = """
description = "Does attention over time help?"
[compare]
draws = 1
seeds = 2
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
def trained(records_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished study of two arms, recorded in MLflow."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_split(workspace, records_source.development[:6])
    folder = workspace / "studies" / NAME
    folder.mkdir(parents=True)
    (folder / SPACE_COPY).write_text(SPACE)
    source = find_source(
        records_dir=records_source.folder,
        split_file=workspace / "split.toml",
        workspace=workspace,
    )
    setup = set_up(
        load_space(folder / SPACE_COPY),
        source,
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
        train(setup, ledger, point.arm, point.draw)
    experiment = Experiment(
        tracking_uri=None, name="ecg-rr-fusion-own-records", workspace=workspace
    )
    ledger.begin_start({Tag.GIT_COMMIT: "c0ffee", "version_torch": "2"})
    ledger.end_start(Outcome.COMPLETE, {})
    tags = {Tag.STUDY: NAME, Tag.STUDY_ID: ledger.study_id}
    study = RunFacts(kind="study", name=NAME, tags=tags, began_s=1.0, outcome="complete")
    write_result(experiment, study, [])
    return workspace


def train(setup: Setup, ledger: Ledger, arm: str, draw: int) -> None:
    """Train one configuration in this process, and write its outcome down."""
    space = setup.space
    point = next(p for p in space.comparisons() if (p.arm, p.draw) == (arm, draw))
    params = {"arm": arm}
    proposal = Proposal(
        config=point.config,
        digest=rules.digest(point.config),
        arm=arm,
        params={},
        distributions=distributions(space, params),
        draw=draw,
    )
    number = ledger.open(ledger.enqueue(proposal), proposal)
    result = TrialRun(point.config, setup.job).step()
    value = result[METRICS][space.objective]
    ledger.record(number, result[EPOCH], value, {})
    ledger.close(
        number,
        Outcome.COMPLETE,
        cause="",
        metrics=result[METRICS],
        epochs=1,
        seconds=1.0,
        objective=value,
    )


@pytest.fixture
def workspace(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace as the current folder."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("STUDY_CACHE_DIR", str(trained / "beats"))
    return trained


def test_a_study_gets_its_page(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--study", NAME]) == 0
    output = workspace / "studies" / NAME / "report"
    said = capsys.readouterr()
    assert said.out == f"{output / PAGE}\n"
    page = (output / PAGE).read_text()
    # What trials measured, what a start wrote, and what the tracker knows is there.
    for found in (
        "Attention on the mean beat: time",
        "Deletion check",
        "What the branch moves",
        "Beats left out",
        "c0ffee",
        "DS2 has been opened 0 times in this workspace.",
        "No attention of attention_pool beside it",
    ):
        assert found in page, found
    assert set(table_files([])) < {path.name for path in output.iterdir()}
    logged = list((workspace / "mlruns").glob(f"*/*/artifacts/report/{PAGE}"))
    assert len(logged) == 1 and logged[0].read_text() == page

    assert report.main(["--study", NAME, "--no-track"]) == 0
    again = (output / PAGE).read_text()
    assert "Attention on the mean beat: time" in again
    assert "c0ffee" in again, "the study itself says what computed it"


def test_a_tracker_that_cannot_be_used_takes_no_page_away(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--study", NAME, "--output", str(tmp_path), "--tracking-uri", "nonsense://there"]
    assert report.main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / PAGE}\n"
    assert (tmp_path / PAGE).exists()


def test_a_page_says_what_a_study_has_not_got(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workspace / "studies", tmp_path / "studies")
    folder = tmp_path / "studies" / NAME
    shutil.rmtree(folder / "floors", ignore_errors=True)
    (folder / "exclusions.json").unlink(missing_ok=True)
    monkeypatch.chdir(tmp_path)
    assert report.main(["--study", NAME, "--output", "elsewhere", "--quiet"]) == 0
    page = (tmp_path / "elsewhere" / PAGE).read_text()
    assert "No exclusions by reason: exclusions.json is not there" in page
    assert not (tmp_path / "mlflow.db").exists()


def test_damaged_files_are_told_on_the_page_or_as_an_error(
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(workspace / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "studies" / NAME
    command = ["--study", NAME, "--no-track"]
    for predictions in folder.glob("trials/*/predictions.npz"):
        with np.load(predictions) as arrays:
            predictions.write_bytes(npz(log_probs=arrays["log_probs"]))
    assert report.main(command) == 0
    page = (folder / "report" / PAGE).read_text()
    assert re.search(r"trials \d+: its predictions.npz has no measurement", page)

    for predictions in folder.glob("trials/*/predictions.npz"):
        predictions.write_bytes(b"damaged")
    assert report.main(command) == 0
    assert "predictions.npz is damaged (BadZipFile" in (folder / "report" / PAGE).read_text()

    (folder / BEATS).write_bytes(b"damaged")
    assert report.main(command) == 2
    assert f"error: {folder / BEATS}: is damaged (BadZipFile" in capsys.readouterr().err


def test_a_study_that_has_not_begun(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies" / NAME
    folder.mkdir(parents=True)
    for name in ("plan.json", SPACE_COPY):
        shutil.copy(workspace / "studies" / NAME / name, folder / name)
    monkeypatch.chdir(tmp_path)
    assert report.main(["--study", NAME, "--no-track", "--quiet"]) == 0
    page = (folder / "report" / PAGE).read_text()
    assert (
        "The study has not settled a trial: nothing is known yet (0 of 2 trials settled)" in page
    )
    assert not (folder / "study.db").exists(), "reading must not make a study"


def test_a_study_whose_command_line_left_the_screening_of_its_space_out(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies" / NAME
    folder.mkdir(parents=True)
    plan = StudyPlan.load(workspace / "studies" / NAME)
    replace(plan, kind="search", sampler="gp", scheduler="none", epochs=1).save(folder)
    (folder / SPACE_COPY).write_text(
        'description = "two"\n[search]\nsampler = "tpe"\ntrials = 2\nscheduler = "screening"\n'
        '[params.fusion]\nvalues = ["film", "mhca_time"]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert report.main(["--study", NAME, "--no-track", "--quiet"]) == 0
    assert (folder / "report" / PAGE).exists()


def test_no_such_study(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--study", "other"]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no study 'other' in {workspace / 'studies'}; there is: {NAME}.\n"
    )
