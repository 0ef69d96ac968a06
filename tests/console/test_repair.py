"""`--repair`: every disagreement made for real, named by the status, and mended, once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from study.keys import Outcome, Tag
from tests.builders import Curves, mlflow_client, mlflow_curves, mlflow_runs
from tests.tuning.small_study import EXPERIMENT, NAME, Start, change, contents, status

AGREE = "Optuna, MLflow and the files agree"


@dataclass
class World:
    """The records of a study, to be damaged and to be looked at."""

    folder: Path
    workspace: Path

    def __post_init__(self) -> None:
        attrs = [trial.user_attrs for trial in self.trials()]
        self.digests = [str(a[Tag.DIGEST]) for a in attrs]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        storage = f"sqlite:///{self.folder / 'study.db'}"
        return optuna.load_study(study_name=NAME, storage=storage).trials

    def of(self, number: int, name: str) -> Path:
        return self.folder / "trials" / self.digests[number] / name

    @property
    def mlflow(self) -> Any:
        return mlflow_client(self.workspace)

    def runs(self) -> list[Any]:
        return mlflow_runs(self.mlflow, EXPERIMENT)

    def run_of(self, key: int | str) -> Any:
        """Return the run of a trial, by its number, or of a floor or the study, by name."""
        digest = self.digests[key] if isinstance(key, int) else key
        (run,) = [r for r in self.runs() if r.data.tags.get(Tag.DIGEST, NAME) == digest]
        return run

    def id_of(self, key: int | str) -> str:
        return str(self.run_of(key).info.run_id)

    def points(self, number: int) -> Curves:
        """Return step and value of every metric of a trial."""
        return mlflow_curves(self.mlflow, self.run_of(number))


repair = partial(status, option="--repair")

Inject = Callable[[World], None]


@pytest.fixture
def world(workspace: Path, folder: Path) -> World:
    return World(folder, workspace)


def delete_predictions(world: World) -> None:
    world.of(0, "predictions.npz").unlink()


def leave_a_checkpoint(world: World) -> None:
    world.of(2, "checkpoint.pt").parent.mkdir(exist_ok=True)
    shutil.copy(world.of(4, "checkpoint.pt"), world.of(2, "checkpoint.pt"))


def told(method: str, key: int | str, *given: Any, **more: Any) -> Inject:
    """Return what tells MLflow something of a run."""
    return lambda world: getattr(world.mlflow, method)(world.id_of(key), *given, **more)


def running(key: int | str) -> Inject:
    return told("update_run", key, status="RUNNING")


def changed(number: int, statement: str) -> Inject:
    """Return what changes MLflow's database by a statement with the run of a trial."""
    return lambda world: change(world.workspace / "mlflow.db", statement, world.id_of(number))


def make_a_blank_second_run_of_the_study(world: World) -> None:
    first = world.run_of(NAME)
    world.mlflow.create_run(first.info.experiment_id, tags=first.data.tags)


def make_a_second_run(world: World) -> None:
    first = world.run_of(0)
    second = world.mlflow.create_run(first.info.experiment_id, tags=first.data.tags)
    world.mlflow.log_metric(second.info.run_id, "val_loss", 0.3, step=1)
    world.mlflow.set_terminated(second.info.run_id)


def log_a_metric_twice(world: World) -> None:
    now_ms = int(time.time() * 1000)
    world.mlflow.log_metric(world.id_of(0), "training/val_loss", 0.77, step=2, timestamp=now_ms)


Injected = list[tuple[Inject, str, str]]

DELETE_A_RUN = told("delete_run", 1)
RUNNING = "is RUNNING, and nothing runs it: it is"
OTHER = "update metrics set value = 0.99 where step = 3 and key = 'val_auprc_sv' and run_uuid = ?"
CHANGE_A_VALUE = changed(1, OTHER)
LOSE_AN_EPOCH = changed(0, "delete from metrics where step = 2 and run_uuid = ?")
LOSE_A_PARAMETER = changed(1, "delete from params where key = 'fusion' and run_uuid = ?")
TOGETHER: list[Injected] = [
    [
        (
            delete_predictions,
            "trial   0  opt1 / daeac / concat_proj / published7 / real: predictions.npz is miss",
            "withdraw the outcome of trial 0, whose predictions.npz is missing: --resume runs it",
        ),
        (leave_a_checkpoint, "and its checkpoint.pt is still there", "delete checkpoint.pt of t"),
        (DELETE_A_RUN, "MLflow has no run of it", "log what MLflow lacks of trials 1, 2, 4"),
        (told("set_tag", 2, Tag.OUTCOME, "complete"), "outcome 'complete': it is pruned", ""),
        (running(4), f"its MLflow run {RUNNING} stopped", ""),
    ],
    [
        (running(0), f"its MLflow run {RUNNING} complete", "log what MLflow lacks of"),
        (CHANGE_A_VALUE, "has metrics of it with other values: val_auprc_sv of epoch 3", "delete"),
        (running("floor"), f"MLflow's run of floor: prevalence {RUNNING} com", ""),
        (make_a_blank_second_run_of_the_study, "MLflow has a second run of the study, ", ""),
    ],
    [
        (LOSE_AN_EPOCH, "has no val_auprc_sv of epoch 2 and training/val_loss of epoch 2", "l"),
        (told("delete_tag", 1, Tag.ARM), "its MLflow run lacks the study's arm", ""),
        (LOSE_A_PARAMETER, "its MLflow run has no parameter fusion", ""),
        (running(NAME), f"MLflow's run of the study {RUNNING} stopped", ""),
    ],
    [(make_a_second_run, "MLflow has a second run of it, ", "delete run ")],
    [(log_a_metric_twice, "has metrics of it twice: training/val_loss of epoch 2", "delete run ")],
]
"""Each with what is said of it, and with what is done about it where that is its own."""


@pytest.mark.parametrize("injected", TOGETHER)
def test_disagreements_are_named_and_repaired_once(world: World, injected: Injected) -> None:
    before = world.points(0)
    for inject, _, _ in injected:
        inject(world)
    code, lines = status()
    assert code == 1
    start = next(i for i, line in enumerate(lines) if line.startswith("Optuna, MLflow and"))
    for _, said, _ in injected:
        assert any(said in line for line in lines[start + 1 :]), lines
    assert lines[-1] == (
        "`python -m study.run --repair tiny` makes them agree where it can, after showing how"
    )

    code, done = repair()
    assert done[: len(lines)] == [*lines[:-1], "repair:"], "the same is shown before it is done"
    for _, _, step in injected:
        assert any(step in line for line in done[len(lines) :]), done
    assert not any("NOT DONE" in line for line in done), done
    assert AGREE in done[len(lines) :]
    assert code == 0
    assert repair()[1][-1] == "repair: nothing to do"

    digests = [r.data.tags.get(Tag.DIGEST) for r in world.runs()]
    assert len(digests) == len(set(digests)) == 7, "one run a digest, one of the study"
    assert {r.info.status for r in world.runs()} <= {"FINISHED", "KILLED", "FAILED"}
    assert world.points(0) == before


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(world: World) -> None:
    for inject in (delete_predictions, leave_a_checkpoint, DELETE_A_RUN):
        inject(world)
    _, told = status()
    before = contents(world.folder)
    code, shown = repair("--dry-run")
    assert code == 1
    assert [line[:6] for line in shown[-4:]] == ["repair", "  1. w", "  2. d", "  3. l"]
    assert len(world.runs()) == 6
    assert contents(world.folder) == before
    time.sleep(1.1)  # times are shown to the second
    assert repair()[0] == 0
    assert " the last start was stopped at " in told[1]
    assert status()[1][1] == told[1], "a repair is no start"


def test_a_trial_whose_results_are_lost_is_run_again_and_settled_once(world: World) -> None:
    delete_predictions(world)
    value = world.trials()[0].value
    assert repair()[0] == 0
    kept = world.run_of(0)
    assert (kept.info.status, kept.data.tags[Tag.OUTCOME]) == ("KILLED", "stopped")
    assert kept.data.tags[Tag.CAUSE] == "owed again: predictions.npz is missing"
    code, lines = status()
    assert "trials: 1 complete, 1 pruned, 1 failed, 0 running, 2 owed, 0 not proposed yet" in lines
    (owed,) = [line for line in lines if line.startswith("owed:    trial   0")]
    assert owed.endswith("(attempt 1: predictions.npz is missing)")

    start = Start(world.workspace)
    start.begin("0")
    assert start.digest("0") == world.digests[0], "what is owed comes first"
    # Others were better at its rung since: what was complete is run to its end all the same.
    start.train("0", 0.9)
    start.begin("4")
    start.train("4", 0.95, first=2)
    start.end()
    assert [(row.number, row.outcome) for row in start.rows()] == [
        *[(1, Outcome.COMPLETE), (2, Outcome.PRUNED), (3, Outcome.FAILED)],
        *[(5, Outcome.COMPLETE), (6, Outcome.COMPLETE)],
    ]
    assert world.trials()[5].value == value
    again = world.run_of(0)
    assert (again.info.run_id, again.info.status) == (kept.info.run_id, "FINISHED")
    code, lines = status()
    assert lines[1].startswith("nobody runs it; the last start ended at 20")
    assert "besides: 2 superseded attempts: trial 0 went on as 5 and trial 4 went on as 6" in lines
    assert (code, lines[-1]) == (0, AGREE)


def test_a_killed_driver_leaves_nothing_running_after_a_repair(world: World) -> None:
    start = Start(world.workspace)
    start.begin("4")
    start.epoch("4", 2, 0.95, save=True)
    start.leave()
    code, lines = status()
    assert code == 1
    assert lines[1].startswith("nobody runs it; the last start did not close it: killed, out of")
    (owed,) = [line for line in lines if line.startswith("owed:    trial   5")]
    assert owed.endswith(": goes on after epoch 2 (attempt 2: the driver ended)")
    assert "  the last start did not say how it ended" in lines
    assert "  trial   5: is RUNNING in Optuna, and no process runs it" in lines
    assert {r.info.status for r in world.runs()} >= {"RUNNING"}

    code, done = repair()
    assert code == 0, done
    assert world.trials()[5].state is TrialState.FAIL
    assert {world.run_of(key).info.status for key in (4, NAME)} == {"KILLED"}
    code, lines = status()
    assert (code, owed in lines) == (0, True)


def test_a_configuration_that_only_mlflow_has_is_named(world: World) -> None:
    change(world.folder / "study.db", "delete from trials where number = 1")
    code, lines = status()
    said = f"no row of configuration {world.digests[1]}, which MLflow shows as complete: bring"
    assert (code, any(said in line for line in lines)) == (1, True), lines


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"track": False}, "its MLflow run says KILLED, outcome 'stopped': it is complete"),
        ({"away": True}, "its MLflow run has no val_auprc_sv of epoch 2"),
    ],
    ids=["untracked", "away"],
)
def test_what_was_not_sent_to_mlflow_is_sent_by_a_repair(
    world: World, options: dict[str, bool], said: str
) -> None:
    start = Start(world.workspace, **options)
    start.begin("4")
    start.train("4", 0.96, first=2)
    start.end()
    code, lines = status()
    assert (code, world.run_of(4).info.status) == (1, "KILLED")
    assert any(line.startswith("  trial   5") and said in line for line in lines), lines
    code, done = repair()
    assert (code, done[-1]) == (0, AGREE)
    assert "1 of 1: 2 runs brought up to date" in done, done
    assert {world.run_of(key).info.status for key in (4, NAME)} == {"FINISHED"}
    assert world.points(4)["val_auprc_sv"] == [(1, 0.95), (2, 0.96), (3, 0.96)]
    assert repair()[1][-1] == "repair: nothing to do"


def test_a_run_with_more_than_the_study_has_is_left(world: World) -> None:
    run_id = world.id_of(0)
    world.mlflow.log_metric(run_id, "mine", 1.0, step=2)
    log_a_metric_twice(world)
    code, lines = repair()
    assert code == 1
    assert any("has more than the study itself; delete the one" in line for line in lines)
    assert lines[-1] == "repair: none of it can be repaired"
    assert world.id_of(0) == run_id


def test_without_its_tracker_a_repair_mends_the_rest(world: World) -> None:
    delete_predictions(world)
    code, lines = repair("--no-track")
    owed = "what is owed is run by the study's own command with --resume"
    assert (code, lines[-2:]) == (0, ["Optuna and the files agree", owed])
    assert world.run_of(0).info.status == "FINISHED"
    assert repair()[0] == 0
    assert world.run_of(0).info.status == "KILLED"


def test_a_tracker_that_has_nothing_gets_the_whole_study(world: World) -> None:
    before = world.points(0)
    other = ("--tracking-uri", f"sqlite:///{world.workspace / 'other.db'}")
    code, lines = status(*other)
    said = "other.db has nothing of this study; if another store has it, give its --tracking-uri"
    assert (code, any(said in line for line in lines)) == (1, True)
    assert lines[-1].startswith("`python -m study.run --repair tiny` with the same options makes")
    assert not (world.workspace / "other.db").exists()
    code, done = repair(*other)
    assert (code, done[-2]) == (0, AGREE)
    (world.workspace / "other.db").rename(world.workspace / "mlflow.db")
    assert world.points(0) == before
