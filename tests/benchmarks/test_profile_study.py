"""The clocks of a worker's real trial."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.driven import parts
from benchmarks.profile_study import PARTS, ClockedJob
from study.config import TrialConfig
from study.tuning.trial import TrialJob, TrialRun


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
