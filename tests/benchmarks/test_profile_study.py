"""The clock of nested parts, by a clock of the test's own; and clocks in a worker's real trial."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.driven import parts
from benchmarks.profile_study import PARTS, Clock, ClockedJob
from study.config import TrialConfig
from study.tuning.trial import TrialJob, TrialRun


def test_a_part_is_timed_without_the_parts_within_it_even_when_it_raises() -> None:
    now = [0.0]
    clock = Clock(lambda: now[0])

    def work(seconds: float) -> str:
        now[0] += seconds
        if seconds > 5:
            raise ValueError("broken")
        return "done"

    module = SimpleNamespace(work=work)
    clock.time(module, "work", "working")
    clock.enter("outer")
    now[0] += 100
    assert module.work(2) == "done"
    with pytest.raises(ValueError, match="^broken$"):
        module.work(10)
    assert clock.part == "outer"
    clock.enter("evaluation", whole=True)  # in which no other is told apart
    for part, whole in (("forward", False), ("another whole one", True)):
        clock.enter(part, whole=whole)
        now[0] += 3
        clock.leave()
    clock.leave()
    now[0] += 1
    clock.leave()
    now[0] += 1000
    assert clock.part == ""
    assert clock.seconds == {"outer": 101, "working": 12, "evaluation": 6}


def test_a_job_brings_clocks_to_the_process_it_is_sent_to(job: TrialJob, tmp_path: Path) -> None:
    clocks = tmp_path / "clocks"
    clocks.mkdir()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_train, ClockedJob(**parts(job), folder=clocks)).result()
    (measured,) = clocks.iterdir()
    seconds = json.loads(measured.read_text())
    only_on_a_gpu = {"packed training"}
    assert set(seconds) == set(PARTS) - only_on_a_gpu
    assert all(spent > 0 for spent in seconds.values())


def _train(job: TrialJob) -> None:
    torch.set_num_threads(1)  # as a worker has it: two threads of a busy machine spin
    shape = {"epochs": 2, "batch_size": 32, "normal_beats_per_epoch": 40, "gradient_clip": 1.0}
    run = TrialRun(TrialConfig.from_flat(shape), job)
    for _ in range(2):
        run.step()
