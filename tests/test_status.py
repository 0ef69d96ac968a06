"""What `--status` says of a real study: real Optuna storage, real MLflow, real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from study import run
from study.data.fetch import sha256_of
from study.keys import Outcome
from study.store import trials
from study.store.ledger import Ledger
from study.store.lock import Owner, here, locked
from study.store.study import Study
from study.store.trials import CLOSED
from tests.tuning.small_study import NAME, PLAN, Start, checkpoint

ROOT = Path(__file__).parents[1]

ARM = "opt1 / daeac / {} / seed7 / real"


GO_ON = "to go on: the command that started it, with --resume"


def status(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """Return exit code and lines of `--status tiny`."""
    code = run.main(["--status", NAME, *words])
    told = capsys.readouterr()
    assert told.err == ""
    return code, told.out.splitlines()


def contents(workspace: Path) -> dict[str, str]:
    """Return a checksum of every file."""
    return {str(p): sha256_of(p) for p in sorted(workspace.rglob("*")) if p.is_file()}


def test_an_interrupted_study_whose_records_agree(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(workspace)
    code, lines = status(capsys)
    assert lines[1].startswith("nobody runs it; the last start was stopped at 20")
    assert lines[1].endswith("+00:00: SIGINT received")
    assert [lines[0], *lines[2:]] == [
        "study 'tiny': search of space 'tiny', 5 trials of 3 epochs, objective val_auprc_sv, "
        "data: synthetic",
        "trials: 2 complete, 1 pruned, 1 failed, 0 running, 1 owed, 0 not proposed yet",
        f"owed:    trial   4  {ARM.format('film')}: goes on after epoch 1 "
        "(attempt 1: SIGINT received)",
        f"failed:  trial   3  {ARM.format('concat_proj')}: ValueError: bad",
        f"MLflow: compared with sqlite:///{workspace}/mlflow.db",
        "the three records agree",
        GO_ON,
    ]
    assert code == 0
    assert contents(workspace) == before, "a status changes nothing and leaves nothing"


def test_a_finished_study_counts_its_superseded_attempts(
    workspace: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Start(workspace)
    start.begin("4")
    start.train("4", 0.95, first=2)
    assert start.ledger.noted("superseded:4") == 5
    start.end()
    code, lines = status(capsys)
    assert lines[1].startswith("nobody runs it; the last start ended at 20")
    assert lines[2:4] == [
        "trials: 3 complete, 1 pruned, 1 failed, 0 running, 0 owed, 0 not proposed yet",
        "besides: 1 superseded attempt, 0 repeats",
    ]
    assert (code, lines[-1]) == (0, "the three records agree")


def test_a_study_that_runs_is_read_beside_its_driver(
    workspace: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its driver writes ahead and has trials and runs open, which is no disagreement."""
    with locked(folder):
        start = Start(workspace)
        start.begin("4")
        start.epoch("4", 2, 0.95)
        assert start.mirror is not None
        start.mirror.finish()
        start.mirror = None  # its thread has ended: to finish it again would wait for its patience
        before = contents(workspace)
        code, lines = status(capsys)
        changed = {path for path, sum_ in contents(workspace).items() if before.get(path) != sum_}
        start.leave()
    assert lines[1] == f"it is being run by {Owner.current()}"
    assert lines[2] == (
        "trials: 2 complete, 1 pruned, 1 failed, 1 running, 0 owed, 0 not proposed yet"
    )
    assert f"running: trial   5  {ARM.format('film')}: epoch 2 of 3 reported" in lines
    assert (code, lines[-1]) == (0, "the three records agree, as far as they can while it runs")
    # SQLite's shared memory has its readers.
    assert {Path(path).name for path in changed} <= {"study.db-shm"}


def test_a_held_study_names_its_process_and_is_not_repaired(
    workspace: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(folder):
        code, lines = status(capsys)
        assert (code, lines[1]) == (0, f"it is being run by {Owner.current()}")
        before = contents(workspace)
        refuse_repair(capsys)
        assert contents(workspace) == before


def refuse_repair(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """See that a study that is being run is not repaired, shown only or not."""
    for dry in ((), ("--dry-run",)):
        assert run.main(["--repair", NAME, *words, *dry]) == 2
        told = capsys.readouterr()
        assert (told.out, told.err) == (
            "",
            f"error: study 'tiny' is being run by {Owner.current()}; wait for it, or stop it\n",
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "it has no checkpoint"),
        (checkpoint(2)[:-200], "its checkpoint is damaged (BadZipFile: File is not a zip file)"),
        (checkpoint(2, "0.0.9"), "its checkpoint is of version 0.0.9, this is 0.1.0"),
    ],
    ids=["none", "cut", "other version"],
)
def test_an_owed_trial_that_starts_again_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    (path,) = (folder / "trials").glob("*/checkpoint.pt")
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    code, lines = status(capsys)
    (owed,) = [line for line in lines if line.startswith("owed:")]
    assert owed.endswith(f": starts again: {said} (attempt 1: SIGINT received)")
    assert code == 0, "the next start begins it anew: nothing is lost that another record has"


def test_no_trial_has_files_where_another_place_was_meant(
    workspace: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the option that the study was started with, nothing may count as lost."""
    elsewhere = tmp_path / "elsewhere"
    shutil.move(folder / "trials", elsewhere / NAME)
    code, lines = status(capsys)
    assert code == 1
    assert (
        f"  {folder}/trials has no file of any complete trial; give the --storage that the "
        "study was started with, or bring the folder back from a copy"
    ) in lines
    assert run.main(["--repair", NAME]) == 1
    assert "repair: none of it can be repaired" in capsys.readouterr().out
    assert status(capsys, "--storage", str(elsewhere))[0] == 0


@pytest.mark.parametrize("lost", ["study.db", "nothing"])
def test_a_storage_that_is_gone_is_named_and_not_made(
    workspace: Path, folder: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    if lost == "nothing":  # a start that ended before it proposed anything
        shutil.rmtree(folder)
        PLAN.save(folder)
    else:
        (folder / lost).unlink()
    code, lines = status(capsys)
    assert (
        f"nobody runs it; nothing is known of its trials: {folder}/study.db does not exist"
    ) in lines
    assert code == (1 if lost == "study.db" else 0)
    assert run.main(["--repair", NAME]) == code
    assert not (folder / "study.db").exists()


def test_what_could_not_be_compared_is_said_and_not_known_to_agree(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = status(capsys, "--tracking-uri", f"sqlite:///{tmp_path}")
    assert f"NOT COMPARED: tracking: {tmp_path} is a folder, not an SQLite database" in lines[-3]
    assert (code, lines[-2:]) == (1, ["the records but MLflow's agree", GO_ON])

    ledger = Ledger(storage_url=f"sqlite:///{folder / 'study.db'}", name=NAME)
    ledger.note(trials.TRACKER, "http://host:5000")
    ledger.release()
    code, lines = status(capsys)
    assert code == 1
    said = "NOT COMPARED: the study is mirrored in http://host:5000, and this is sqlite:///"
    assert any(said in line for line in lines)


def test_without_a_tracker_nothing_of_it_is_read_or_owed(
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (workspace / "mlflow.db").unlink()
    code, lines = status(capsys, "--no-track")
    said = ["MLflow: left out (--no-track)", "the records but MLflow's agree", GO_ON]
    assert (code, lines[-3:]) == (0, said)
    assert not (workspace / "mlflow.db").exists()

    monkeypatch.chdir(tmp_path)
    start = Start(tmp_path, track=False)
    start.begin("0")
    start.train("0", 0.5)
    start.end("SIGINT received")
    code, lines = status(capsys)
    told = (
        "MLflow: nothing was told to any tracker; the study's own command with --resume, without "
        "--no-track, tells all of it"
    )
    assert (code, lines[-3:]) == (0, [told, "the three records agree", GO_ON])
    assert not (tmp_path / "mlflow.db").exists()


def test_a_study_that_a_copy_of_its_folder_runs_is_held(
    workspace: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have the plan, and the Optuna storage is neither's."""
    storage = ("--study-storage", f"sqlite:///{workspace / 'shared.db'}")
    shutil.copy(folder / "study.db", workspace / "shared.db")
    ledger = Ledger(storage_url=storage[1], name=NAME)
    ledger.note(CLOSED, False)
    ledger.note(trials.PLACE, here(workspace / "copy"))
    code, lines = status(capsys, *storage)
    assert lines[1] == f"it is being run by {Owner.current()}"
    refuse_repair(capsys, *storage)


def test_facts_can_be_taken_by_a_program(folder: Path) -> None:
    facts = Study.open(folder.parents[1], NAME)
    outcomes = [row.outcome for row in facts.rows]
    assert outcomes == [Outcome.COMPLETE, Outcome.COMPLETE, Outcome.PRUNED, Outcome.FAILED]
    assert [trial.number for trial in facts.trials.owed] == [4]
    assert (facts.tracker, facts.held, facts.not_proposed) == ("mlflow.db", False, 0)


def test_a_damaged_storage_is_named_by_what_the_database_says_of_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "study.db").open("r+b") as file:
        file.truncate(20_000)
    assert run.main(["--status", NAME]) == 1
    said = capsys.readouterr().out
    assert "study.db cannot be read (database disk image is malformed)" in said
    assert "--repair" not in said, "it can repair nothing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "tini"], "there is no study 'tini' in {}/studies; there is: tiny. Did you"),
        (["--repair", "tini"], "there is no study 'tini' in {}/studies; there is: tiny. Did you"),
        (["--status", "../tiny"], "study '../tiny': a study's name has letters"),
        (["--status", "tiny", "--repair", "tiny"], "--status, --repair: give one; --repair shows"),
        (
            ["--status", "tiny", "--space", "smoke", "--resume"],
            "--space, --resume: means nothing with --status, which goes by the study's own plan; "
            "it takes --study-storage, --storage, --tracking-uri, --no-track, -v and -q",
        ),
        (["--status", "tiny", "--dry-run"], "--dry-run: means nothing with --status"),
        (["--repair", "tiny", "--name", "x"], "--name: means nothing with --repair"),
        (["--status", "tiny", "--list"], "--list: means nothing with --status"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    workspace: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    before = contents(workspace)
    assert run.main(words) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said.format(workspace) in told.err
    assert contents(workspace) == before
