"""A study's command line whose trials say where and when each epoch ran.

  python -m tests.tuning.watched FOLDER --space ... --address ...

Everything is the real study's, but that every trial waits in its third epoch until there is a file
`go` in the folder: nodes can come and go meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import ray

from benchmarks.driven import parts, run_with
from study.config import TrialConfig
from study.models import rules
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.results import EpochReport
from study.tuning.trial import TrialJob

WAITS_IN = 3
"""Epoch in which a trial waits; those before it are then in its checkpoint."""


class Ran(NamedTuple):
    """An epoch that a worker has begun."""

    digest: str
    epoch: int
    node: str  # Ray's id
    worker: int  # its process
    gpus: list[int]  # ids of the node's GPUs that the trial had a share of
    share: float  # of each
    began: float  # seconds since the epoch of Unix
    ended: float = math.inf  # where it was not seen to end


def read(folder: Path) -> list[Ran]:
    """Return the epochs of all workers by their beginning; a line being written is left out."""
    lines = [line for path in folder.glob("*.log") for line in path.read_text().split("\n")[:-1]]
    epochs = {(ran.digest, ran.began): ran for ran in (Ran(*json.loads(line)) for line in lines)}
    return sorted(epochs.values(), key=lambda ran: ran.began)


@dataclass(frozen=True, kw_only=True)
class WatchedJob(TrialJob):
    """A job whose trials write down where and when each epoch ran."""

    folder: Path

    def training(self, config: TrialConfig, device_beats: DeviceBeats | None = None) -> Any:
        """Build the members, and watch them."""
        training: Any = TrialJob.training(self, config, device_beats)
        train = training.run_epoch

        def run_epoch(tell: Callable[[str], None]) -> EpochReport:
            here = ray.get_runtime_context()
            ran = Ran(
                digest=rules.digest(config),
                epoch=training.epoch + 1,
                node=here.get_node_id(),
                worker=os.getpid(),
                gpus=[int(gpu) for gpu in ray.get_gpu_ids()],
                share=here.get_assigned_resources().get("GPU", 0.0),
                began=time.time(),
            )
            self.write(ran)
            while ran.epoch == WAITS_IN and not (self.folder / "go").exists():
                time.sleep(0.05)
            report: EpochReport = train(tell)
            self.write(ran._replace(ended=time.time()))
            return report

        training.run_epoch = run_epoch
        return training

    def write(self, ran: Ran) -> None:
        """Add a line to the log of this worker."""
        with (self.folder / f"{ran.worker}.log").open("a") as log:
            log.write(json.dumps(ran) + "\n")


def main(folder: str, *words: str) -> int:
    """Run the command line; return its exit code."""

    def wrap(job: TrialJob) -> TrialJob:
        # Not compiled: workers that start one by one would wait for the compiler.
        plain = replace(job, engine=Engine())
        return WatchedJob(**parts(plain), folder=Path(folder))

    return run_with(words, wrap)


if __name__ == "__main__":
    # By its name, so that a worker finds the job's class where the driver has it.
    from tests.tuning import watched

    sys.exit(watched.main(*sys.argv[1:]))
