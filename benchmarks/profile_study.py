"""Where the wall time of a study's workers goes, in one table.

  MITDB_DIR=... python -m benchmarks.profile_study --workspace DIR [--trials 4] [-- more words]
  MITDB_DIR=... python -m benchmarks.profile_study --workspace DIR --as-written

Runs `python -m study.run` in the workspace, with clocks in its workers around the parts of a step,
an epoch and a trial; a part's time is its own, without that of the parts within it. `waiting` is
between a worker's epochs: reporting, the driver's decision, the next trial's start. `start and
end` is the time in which a worker is not there yet, or no longer. The clocks take microseconds of
a step's milliseconds. Members that a GPU trains in a pack are timed as one part: clocks within
would wait for the GPU at every step. A second run in the same workspace has beats and kernels in
the cache.

`--as-written` is the same study before the engine: float32, the network as PyTorch runs it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.driven import environment, parts, run_with
from study.models.classifier import Classifier
from study.training import loop
from study.training.device import Inputs, resolve_device, synchronise
from study.training.engine import Engine
from study.training.losses import Loss
from study.training.packs import Packed
from study.training.serial import Serial
from study.tuning import setup
from study.tuning.trial import TrialJob, TrialRun

PARTS = (
    "taking batches",
    "forward",
    "loss",
    "backward",
    "gradient clipping",
    "optimiser",
    "rest of training",
    "packed training",
    "evaluation",
    "scoring",
    "RR reliance",
    "building members",
    "checkpoints",
    "results",
    "rest of an epoch",
    "waiting",
)


class Clock:
    """Times nested parts, each without the parts within it.

    Args:
        now: Tells the time, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._now = now
        self._open: list[str] = []
        self._since = 0.0
        self._whole = 0

    @property
    def part(self) -> str:
        """The part that is being timed; empty where there is none."""
        return self._open[-1] if self._open else ""

    def enter(self, part: str, *, whole: bool = False) -> None:
        """Begin a part; within a whole one no other is told apart."""
        if self._whole or whole:
            self._whole += 1
            if self._whole > 1:
                return
        self._turn()
        self._open.append(part)

    def leave(self) -> None:
        """End the part that was entered last."""
        if self._whole:
            self._whole -= 1
            if self._whole:
                return
        self._turn()
        self._open.pop()

    def _turn(self) -> None:
        now = self._now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def time(self, owner: Any, name: str, part: str, *, whole: bool = False) -> None:
        """Time every call of a function or method of a module or class from now on."""
        timed = getattr(owner, name)

        @functools.wraps(timed)
        def call(*args: Any, **options: Any) -> Any:
            self.enter(part, whole=whole)
            try:
                return timed(*args, **options)
            finally:
                self.leave()

        setattr(owner, name, call)


@dataclass(frozen=True, kw_only=True)
class ClockedJob(TrialJob):
    """A job that puts clocks into each process that it is sent to.

    Args:
        folder: Where each process keeps what it measured.
    """

    folder: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (parts(self),)


def _arrived(content: dict[str, Any]) -> ClockedJob:
    install(Path(content["folder"]), content["device"])
    return ClockedJob(**content)


@cache
def install(folder: Path, device: str) -> None:
    """Put clocks around the parts of training in this process, once."""
    on = resolve_device(device)

    def now() -> float:
        synchronise(on)
        return time.perf_counter()

    clock = Clock(now)
    clock.time(Inputs, "take", "taking batches")
    clock.time(Classifier, "forward", "forward")
    clock.time(Loss, "__call__", "loss")
    clock.time(torch.autograd, "backward", "backward")
    clock.time(torch.nn.utils, "clip_grad_norm_", "gradient clipping")
    clock.time(torch.optim.AdamW, "step", "optimiser")
    clock.time(Serial, "train_epoch", "rest of training")
    clock.time(Packed, "train_epoch", "packed training", whole=True)
    clock.time(TrialRun, "__init__", "building members", whole=True)
    clock.time(loop.TrialTraining, "_predict", "evaluation", whole=True)
    clock.time(loop.TrialTraining, "_score", "scoring", whole=True)
    clock.time(loop, "measure_reliance", "RR reliance", whole=True)
    clock.time(TrialRun, "_save", "checkpoints", whole=True)
    clock.time(TrialRun, "_finish", "results")
    clock.time(TrialRun, "step", "rest of an epoch")
    step = TrialRun.step

    def told(run: TrialRun) -> dict[str, Any]:
        if clock.part == "waiting":
            clock.leave()
        result = step(run)
        clock.enter("waiting")
        (folder / f"{os.getpid()}.json").write_text(json.dumps(clock.seconds))
        return result

    TrialRun.step = told  # type: ignore[assignment, method-assign]


def _as_written(precision: str, **_: bool) -> Engine:
    """Return what runs the network as it is written."""
    return Engine(precision)


def main() -> int:
    """Run a study with clocks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workspace", type=Path, required=True, help="folder to run in")
    parser.add_argument("--space", default="fusion_grid", help="default fusion_grid")
    parser.add_argument("--trials", type=int, default=4, help="default 4")
    parser.add_argument("--as-written", action="store_true", help="float32, not compiled")
    parser.add_argument("--clocks", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("more", nargs="*", help="more arguments of the command, after --")
    args = parser.parse_args()
    if args.clocks:
        if args.as_written:  # its precision is in the words
            setup.Engine = _as_written  # type: ignore[attr-defined,assignment]
        return _with_clocks(args.clocks, args.more)
    name = f"profile-{time.time():.0f}"
    clocks = args.workspace.resolve() / name
    clocks.mkdir(parents=True)
    words = ["--space", args.space, "--trials", str(args.trials), "--name", name]
    own = ["--workspace", ".", "--clocks", str(clocks)]
    if args.as_written:
        words += ["--precision", "fp32"]
        own.append("--as-written")
    own += ["--", *words, *args.more]
    began = time.perf_counter()
    code = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile_study", *own],
        cwd=args.workspace,
        env=environment(),
    ).returncode
    wall = time.perf_counter() - began
    print_table([json.loads(path.read_text()) for path in sorted(clocks.iterdir())], wall)
    return code


def _with_clocks(folder: Path, words: list[str]) -> int:
    # By its name as a module: what is pickled from `__main__` brings a copy to every process.
    from benchmarks.profile_study import ClockedJob

    return run_with(words, lambda job: ClockedJob(**parts(job), folder=folder))


def print_table(workers: list[dict[str, float]], wall: float) -> None:
    """Print the seconds of each part, workers added up."""
    total = wall * len(workers)
    seconds = {part: sum(worker.get(part, 0.0) for worker in workers) for part in PARTS}
    seconds["start and end"] = total - sum(seconds.values())
    print(
        f"\n{wall:.0f} s of {len(workers)} workers, torch {torch.__version__}\n\n"
        "| part | s | share |\n|---|---:|---:|"
    )
    for part, spent in seconds.items():
        if not spent:
            continue
        print(f"| {part} | {spent:.1f} | {spent / total:.1%} |")


if __name__ == "__main__":
    sys.exit(main())
