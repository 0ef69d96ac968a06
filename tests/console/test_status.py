"""What `--status` says of a real study: real Optuna storage, real MLflow, real files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from study.store import trials
from study.store.folder import COMMAND
from study.store.ledger import Ledger
from study.store.lock import Owner, here, locked
from tests.command import Ended
from tests.command import here as run_here
from tests.tuning.small_study import NAME, PLAN, Start, checkpoint, contents, status

ARM = "opt1 / daeac / {} / published7 / real"
AGREE = "Optuna, MLflow and the files agree"
GO_ON = "to go on: python -m study.run --resume tiny"


def test_an_interrupted_study_whose_records_agree(workspace: Path) -> None:
    before = contents(workspace)
    code, lines = status()
    assert re.fullmatch(
        r"nobody runs it; .* was stopped at 20.*\+00:00: SIGINT received", lines[1]
    )
    assert [lines[0], *lines[2:]] == [
        "study 'tiny': search of space 'tiny', 5 trials of 3 epochs, objective val_auprc_sv, "
        "data: synthetic",
        "trials: 2 complete, 1 pruned, 1 failed, 0 running, 1 owed, 0 not proposed yet",
        f"owed:    trial   4  {ARM.format('film')}: goes on after epoch 1 "
        "(attempt 1: SIGINT received)",
        f"failed:  trial   3  {ARM.format('concat_proj')}: ValueError: bad",
        f"MLflow: compared with sqlite:///{workspace}/mlflow.db",
        AGREE,
        GO_ON,
    ]
    assert code == 0
    assert contents(workspace) == before, "a status changes nothing and leaves nothing"


def test_a_study_that_runs_is_read_and_not_repaired(workspace: Path, folder: Path) -> None:
    """Its driver writes ahead and has trials and runs open, which is no disagreement."""
    with locked(folder):
        start = Start(workspace)
        start.begin("4")
        start.epoch("4", 2, 0.95)
        assert start.mirror is not None
        start.mirror.finish()
        start.mirror = None  # its thread has ended: to finish it again would wait for its patience
        before = contents(workspace)
        code, lines = status()
        said = f"error: study 'tiny' is being run by {Owner.current()}; wait for it, or stop it\n"
        for dry in ((), ("--dry-run",)):
            assert run_here(Path.cwd(), ["--repair", NAME, *dry]) == Ended(2, "", said)
        assert contents(workspace) == before
        start.leave()
    assert lines[1] == f"it is being run by {Owner.current()}"
    assert lines[2].endswith(" 1 failed, 1 running, 0 owed, 0 not proposed yet")
    assert f"running: trial   5  {ARM.format('film')}: epoch 2 of 3 reported" in lines
    assert (code, lines[-1]) == (0, f"{AGREE}, as far as they can while it runs")


def test_a_study_that_a_copy_of_its_folder_runs_is_not_repaired(
    workspace: Path, folder: Path
) -> None:
    """Both have the plan, and the Optuna storage is neither's."""
    storage = ("--study-storage", f"sqlite:///{workspace / 'shared.db'}")
    shutil.copy(folder / "study.db", workspace / "shared.db")
    ledger = Ledger(storage_url=storage[1], name=NAME)
    ledger.note(trials.CLOSED, False)
    ledger.note(trials.PLACE, here(workspace / "copy"))
    assert status(*storage)[1][1] == f"it is being run by {Owner.current()}"
    said = f"error: study 'tiny' is being run by {Owner.current()}; wait for it, or stop it\n"
    assert run_here(Path.cwd(), ["--repair", NAME, *storage]) == Ended(2, "", said)


def test_what_starts_again_says_why(folder: Path) -> None:
    (path,) = (folder / "trials").glob("*/checkpoint.pt")
    for content, said in (
        (checkpoint(2)[:-200], "its checkpoint is damaged (BadZipFile: File is not a zip file)"),
        (checkpoint(2, "0.0.9"), "its checkpoint is of version 0.0.9, this is 0.1.0"),
        (None, "it has no checkpoint"),
    ):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        code, lines = status()
        (owed,) = [line for line in lines if line.startswith("owed:")]
        assert owed.endswith(f": starts again: {said} (attempt 1: SIGINT received)")
        assert code == 0, "the next start begins it anew: nothing is lost that another record has"


@pytest.mark.parametrize("lost", ["study.db", "nothing"])
def test_a_storage_that_is_gone_is_named_and_not_made(folder: Path, lost: str) -> None:
    if lost == "nothing":  # a start that ended before it proposed anything
        shutil.rmtree(folder)
        PLAN.save(folder)
    else:
        (folder / lost).unlink()
    code, lines = status()
    assert lines[1].endswith(f"nothing is known of its trials: {folder}/study.db does not exist")
    assert lines[2] == "MLflow: not compared: what it should have is in the Optuna storage"
    assert code == (1 if lost == "study.db" else 0)
    assert status(option="--repair")[0] == code
    assert not (folder / "study.db").exists()


@pytest.mark.parametrize("option", ["--status", "--repair", "--resume"])
def test_a_renamed_folder_is_refused_before_anything_else(folder: Path, option: str) -> None:
    (folder / COMMAND).write_text("python -m study.run --space tiny --data synthetic")
    other = folder.rename(folder.with_name("other"))
    said = f"error: {other}: is the folder of study 'tiny', renamed: rename it back to tiny\n"
    assert run_here(Path.cwd(), [option, "other"]) == Ended(2, "", said)


def test_what_could_not_be_compared_is_not_known_to_agree(folder: Path, tmp_path: Path) -> None:
    code, lines = status("--tracking-uri", f"sqlite:///{tmp_path}")
    assert f"NOT COMPARED: tracking: {tmp_path} is a folder, not an SQLite database" in lines[-3]
    assert (code, lines[-2:]) == (1, ["Optuna and the files agree", GO_ON])

    ledger = Ledger(storage_url=f"sqlite:///{folder / 'study.db'}", name=NAME)
    ledger.note(trials.TRACKER, "http://host:5000")
    ledger.release()
    code, lines = status()
    said = "NOT COMPARED: the study is mirrored in http://host:5000, and this is sqlite:///"
    assert (code, said in lines[-3]) == (1, True)


def test_without_a_tracker_nothing_of_it_is_read_or_owed(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "mlflow.db").unlink()
    code, lines = status("--no-track")
    said = ["MLflow: left out (--no-track)", "Optuna and the files agree", GO_ON]
    assert (code, lines[-3:]) == (0, said)
    assert not (workspace / "mlflow.db").exists()

    monkeypatch.chdir(tmp_path)
    start = Start(tmp_path, track=False)
    start.begin("0")
    start.train("0", 0.5)
    start.end("SIGINT received")
    code, lines = status()
    assert lines[-3].startswith("MLflow: no tracker has this study; the study's own command")
    assert (code, lines[-2:]) == (0, [AGREE, GO_ON])
    assert not (tmp_path / "mlflow.db").exists()


def test_a_damaged_storage_is_named_by_what_the_database_says_of_it(folder: Path) -> None:
    with (folder / "study.db").open("r+b") as file:
        file.truncate(20_000)
    code, lines = status()
    said = "\n".join(lines)
    assert "study.db cannot be read (database disk image is malformed)" in said
    assert (code, "--repair" in said) == (1, False), "it can repair nothing"
