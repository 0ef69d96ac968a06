from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from study.errors import DivergedError, StudyStateError
from study.sealed import retrain
from study.sealed.plan import Arm, SealedPlan
from study.sealed.retrain import FIRST_SEED, Job, Task, Worker, do_all, read_done
from study.spaces.settings import SETTINGS
from study.training.engine import Engine


@pytest.fixture
def tasks(plan: SealedPlan, film: Arm) -> list[Task]:
    """Two seeds of an arm without ECG, one of an arm with it."""
    rr, _ = plan.arms
    return [
        Task(arm=rr, seed_index=1000),
        Task(arm=rr, seed_index=1001),
        Task(arm=film, seed_index=1000),
    ]


def weights(task: Task, job: Job) -> dict[str, torch.Tensor]:
    done = read_done(task, job)
    assert done is not None
    return dict(done.weights)


def test_no_study_can_have_used_a_seed() -> None:
    assert FIRST_SEED >= SETTINGS["seeds"].high


def test_a_model_is_kept_and_read_back(job: Job, tasks: list[Task]) -> None:
    assert read_done(tasks[0], job) is None
    done = [task for task, seconds in do_all(job, tasks, at_once=1) if seconds > 0]
    assert done == tasks
    found = read_done(tasks[0], job)
    assert found is not None
    assert (found.commit, found.log_probs) == ("abc", None)
    assert not torch.equal(weights(tasks[0], job)["rr_mean"], torch.zeros(7)), (
        "statistics of RR belong to the weights"
    )


def test_processes_give_the_same_models_as_one(
    job: Job, tasks: list[Task], tmp_path: Path
) -> None:
    list(do_all(job, tasks, at_once=1))
    several = replace(job, folder=tmp_path / "several")
    assert {task for task, _ in do_all(several, tasks, at_once=2)} == set(tasks)
    for task in tasks:
        one, other = weights(task, job), weights(task, several)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_interrupted_processes_leave_whole_models_or_none(job: Job, plan: SealedPlan) -> None:
    long = replace(
        plan.arms[0],
        config=replace(plan.arms[0].config, train=replace(plan.arms[0].config.train, epochs=1000)),
    )
    short = Task(arm=plan.arms[1], seed_index=1000)
    endless = [Task(arm=long, seed_index=1000 + n) for n in range(3)]
    running = do_all(job, [short, *endless], at_once=2)
    assert next(running)[0] == short
    assert isinstance(running, Generator)
    running.close()  # as an exception in the loop over it does
    assert read_done(short, job) is not None
    assert [read_done(task, job) for task in endless] == [None, None, None]
    assert list(job.folder.rglob("*.part")) == []


def test_a_cross_validation_predicts_every_beat_out_of_fold(job: Job, plan: SealedPlan) -> None:
    task = Task(arm=plan.arms[0], seed_index=None)
    list(do_all(job, [task], at_once=1))
    found = read_done(task, job)
    assert found is not None and found.log_probs is not None
    assert found.log_probs.shape == (1, len(job.of(task.arm).label), 4)
    assert np.isfinite(found.log_probs).all()


def test_cross_validations_come_first(job: Job, plan: SealedPlan, tasks: list[Task]) -> None:
    long = Task(arm=plan.arms[1], seed_index=None)
    assert next(do_all(job, [*tasks, long], at_once=1))[0] == long


@pytest.mark.parametrize(
    "changed",
    [
        {"study_seed": 1},
        {"engine": Engine(precision="bf16")},
    ],
    ids=["seed", "engine"],
)
def test_a_model_of_something_else_is_trained_again(
    job: Job,
    tasks: list[Task],
    changed: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    list(do_all(job, tasks[:1], at_once=1))
    with caplog.at_level(logging.WARNING):
        assert read_done(tasks[0], replace(job, **changed)) is None  # type: ignore[arg-type]
    assert "is of other beats, code or arithmetic; trained again" in caplog.text


def test_a_damaged_model_is_trained_again(
    job: Job, tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    list(do_all(job, tasks[:1], at_once=1))
    path = tasks[0].path(job)
    whole = path.read_bytes()
    at = whole.index(b"/data/0") + 200
    altered = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for content in (whole[:-100], b"", b"no model", altered):
        path.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert read_done(tasks[0], job) is None
        assert f"{path}: is damaged" in caplog.text


def test_a_model_that_diverges_names_its_arm(job: Job, tasks: list[Task]) -> None:
    broken = {
        key: replace(beats, ecg=np.full_like(beats.ecg, np.nan))
        for key, beats in job.beats.items()
    }
    with pytest.raises(DivergedError, match="arm film: diverged: training loss not finite"):
        Worker(replace(job, beats=broken)).do(tasks[2])


def test_a_lost_process_says_what_to_do(
    job: Job, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a process is told when it starts cannot be undone there: it dies of this.
    monkeypatch.setattr(retrain, "_begin", _die)
    with pytest.raises(StudyStateError, match="a process was lost, as happens when memory"):
        list(do_all(job, tasks, at_once=2))


def _die(job: Job, stop: object) -> None:
    raise MemoryError
