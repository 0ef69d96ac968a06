"""Whole studies under a real Ray: killed, interrupted, resumed, and with two trials at once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from study.keys import Outcome, Tag
from study.store.plan import StudyPlan
from study.store.trial_files import PREDICTIONS
from study.tuning.ray_tune import Guarded, LostWorker, ProposalSearcher, Stops, StopSignal
from tests.builders import space_of, space_toml
from tests.command import Ended
from tests.driver import Driver
from tests.studies import Start, Studies

SCREENING = space_toml(
    {"fusion": ["film", "concat_proj"], "learning_rate": [0.003, 1e-8]},
    fixed={"embed_dim": 8, "batch_size": 32, "epochs": 2, "normal_beats_per_epoch": 40},
    settings={"sampler": "grid", "trials": 3, "scheduler": "screening", "folds": 2},
)


def test_a_search_whose_driver_is_killed_is_as_one_that_was_not(studies: Studies) -> None:
    """`-m faults` kills more of them, at moments that are drawn."""
    start = studies.start("fast", "killed")
    start.wait_for(lambda: studies.events("killed") >= 3, "an epoch")
    start.process.send_signal(signal.SIGKILL)
    assert start.ended().code == -signal.SIGKILL
    studies.run("fast", "killed", "--resume").succeeded()
    outcomes = studies.audit("killed")
    assert list(outcomes.values()) == [Outcome.COMPLETE, *[Outcome.PRUNED] * 3]
    assert studies.left() == [], "the next start deletes what a killed one left"

    studies.here("fast", "whole").succeeded()
    assert studies.audit("whole") == outcomes
    studies.assert_same_curves("killed", "whole")


def test_a_screening_trains_the_best_of_each_arm_in_full(studies: Studies) -> None:
    (studies.folder / "screening.toml").write_text(SCREENING)
    words = ("screening", "screening", "--concurrency", "2")
    ended = studies.run(*words).succeeded()
    for said in (
        "\ntrials: 3 screened for 1 epoch + 2 in full for ",
        "screened AUPRC S+V .",
        "  [1/5, best screened .",
        "3 configurations screened; the best of each arm is trained in full",
    ):
        assert said in ended.err
    assert " screened " in ended.out
    assert "note: it is unknown whether the screening chose each arm's best" in ended.out
    outcomes = [*studies.audit("screening").values()]
    assert outcomes == [Outcome.SCREENED] * 3 + [Outcome.COMPLETE] * 2
    status = studies.status("screening")
    assert "trials: 2 complete, 3 screened, 0 failed, 0 running, 0 owed, 0 not" in status.out
    again = studies.here(*words)
    assert "study 'screening' was complete already: nothing was run" in again.out


@pytest.fixture(scope="module")
def interrupted(studies: Studies) -> Ended:
    """A study that gets Ctrl-C in its second trial, as from a terminal."""
    start = studies.start("random", "random", "--trials", "2")

    def in_the_second() -> bool:
        # The driver may not yet have deleted the checkpoint of the trial that is complete.
        unfinished = [
            p for p in studies.checkpoints("random") if not (p.parent / PREDICTIONS).exists()
        ]
        return "trial   0 complete" in start.said() and bool(unfinished)

    start.wait_for(in_the_second, "a checkpoint of the second trial")
    os.killpg(start.process.pid, signal.SIGINT)
    return start.ended(within_s=20.0)


def test_ctrl_c_ends_with_130_and_keeps_what_is_done(interrupted: Ended, studies: Studies) -> None:
    assert interrupted.code == 130, interrupted
    said = "stopped: SIGINT received; 1 of 2 trials settled\nstarted by: python -m study.run "
    assert said in interrupted.out
    assert "\nNext:\n  python -m study.run --resume random " in interrupted.out
    assert "Traceback" not in interrupted.err
    assert studies.left() == []
    outcomes = [trial.user_attrs[Tag.OUTCOME] for trial in studies.trials("random")]
    assert outcomes == [Outcome.COMPLETE, Outcome.STOPPED]
    statuses = Counter(run.info.status for run in studies.runs("random", "trial"))
    assert (statuses["FINISHED"], statuses["RUNNING"]) == (1, 0)
    (parent,) = studies.runs("random", "study")
    assert (parent.info.status, parent.data.tags[Tag.OUTCOME]) == ("KILLED", "stopped")
    refused = studies.here("random", "random", "--trials", "2")
    assert refused.code == 2
    assert refused.err.startswith("error: study 'random' is unfinished (1 of 2 trials settled): ")


@pytest.fixture(scope="module")
def resumed(interrupted: Ended, studies: Studies) -> Ended:
    """The interrupted study with one more trial; its worker is killed after an epoch."""
    began = time.time()
    by_name = ("--resume", "random", "--trials", "3")
    start = Start(by_name, studies.folder, studies.folder / "by_name", studies.program)

    def saved() -> bool:
        return any(p.stat().st_mtime > began for p in studies.checkpoints("random"))

    start.wait_for(saved, "an epoch is saved")
    (worker,) = start.workers()
    niceness = [os.getpriority(os.PRIO_PROCESS, process) for process in (worker, 0)]
    assert niceness[0] == niceness[1], "trials are as nice as we are"
    os.kill(worker, signal.SIGKILL)
    return start.ended()


def test_a_resumed_study_survives_a_killed_worker(resumed: Ended, studies: Studies) -> None:
    assert resumed.code == 0, resumed
    assert "resuming 'random': 1 of 3 trials settled, 1 interrupted" in resumed.err
    assert " continued after epoch " in resumed.err and "(attempt 2)  " in resumed.err
    assert resumed.err.count("retried  its worker was lost") == 1 and "failed" not in resumed.err
    assert [*studies.audit("random").values()] == [Outcome.COMPLETE] * 3
    # A random search runs what it would have run.
    by_index = {t.user_attrs["index"]: t.user_attrs[Tag.DIGEST] for t in studies.trials("random")}
    assert sorted(by_index) == [0, 1, 2]
    assert set(by_index.values()) == studies.outcomes("random").keys()


@pytest.fixture
def driver(tmp_path: Path, plan: StudyPlan) -> Driver:
    return Driver(tmp_path, space_of(SCREENING), plan=plan)


def test_a_time_limit_stops_what_runs_and_nothing_more_is_proposed(driver: Driver) -> None:
    guarded, stop = Guarded(driver.conductor), StopSignal()
    search = ProposalSearcher(guarded)
    assert isinstance(search.suggest("a"), dict)
    assert not Stops(guarded, stop, time.monotonic() + 3600).stop_all()
    assert Stops(guarded, stop, time.monotonic() - 1).stop_all()
    assert (stop.cause, stop.interrupted) == ("the study's --time-limit was reached", False)
    assert not driver.conductor.runs("a")


def test_ray_asks_again_while_a_screened_trial_runs(driver: Driver) -> None:
    search = ProposalSearcher(Guarded(driver.conductor))
    asked = [search.suggest(key) for key in "abcd"]
    assert [isinstance(config, dict) for config in asked[:3]] == [True] * 3
    assert asked[3] is None, "which of them is trained in full is not known yet"


KILLED = "The actor died unexpectedly.\n\tpid: 7\nIts worker process has died."
RAISED = "\x1b[36mray::ResourceTrainable.train()\x1b[39m (pid=7)\n  File ...\nMemoryError: no more"


def test_the_cause_of_a_lost_worker_is_its_first_and_last_line() -> None:
    for said, reason in (
        (KILLED, "The actor died unexpectedly. Its worker process has died."),
        (RAISED, "MemoryError: no more"),
        ("", "no reason, as when memory runs out"),
    ):
        loss = LostWorker(said)
        assert (loss.text(), loss.faulty) == (f"its worker was lost: {reason}", False)
        assert loss.text(3) == f"its worker was lost 3 times: {reason}"
    disk = LostWorker("ray::train()\nstudy.errors.DiskError: /x: cannot be written (full)")
    assert (disk.text(3), disk.faulty) == ("/x: cannot be written (full)", True)
