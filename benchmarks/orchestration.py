"""What a study costs beside its training: to start, and for each further trial.

  MITDB_DIR=... python -m benchmarks.orchestration [--trials 10 100 1000] [--rounds 5]

First the wall time of `python -m study.run --help`, and from the command to the end of the first
training step of `fusion_grid` on DS1, beats and kernels in the cache, the study tracked.

Then `fusion_tuning` with trials that train nothing. Sampler, ledger, Ray, workers, reports of six
epochs, asha, results on disk and MLflow are the real ones; scores follow from the configuration's
digest, records are short synthetic ones. Every row is a process of its own. The cost of a trial is
the wall time between the ends of successive trials, over the whole study and over its last tenth,
so that growth shows; `closing` is what remains to be done after the last trial. The first trial of
each worker waits for the other workers, as one that trains would.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from benchmarks.driven import environment, parts, run_with
from study.config import TrialConfig
from study.data.source import synthetic_source
from study.keys import AUPRC_SV, CLASSES
from study.models import rules
from study.spaces.load import load_space, override
from study.store.storage import Storage
from study.store.study import Places
from study.tracking.experiment import Experiment
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.loop import TrialTraining
from study.training.results import EpochReport, TrialResult
from study.training.scores import score
from study.tuning.resources import Demand
from study.tuning.session import Options, run_study
from study.tuning.setup import Setup, set_up
from study.tuning.trial import TrialJob

COMMAND = [sys.executable, "-m", "study.run"]
SAMPLER, CONCURRENCY = "tpe", 2
SLOWEST_START_S = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the trials of one study cost, in seconds.

    Args:
        trial: Between the ends of successive trials.
        last_tenth: The same over the last tenth of them.
        driver: Processor time of the driver, by trial.
        closing: From the end of the last trial to the end of the study.
    """

    trial: float
    last_tenth: float
    driver: float
    closing: float


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=5, help="starts (default 5)")
    parser.add_argument("--first-step", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--study", nargs=2, help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.first_step:
        mark = args.first_step
        sys.exit(run_with(rest, lambda job: MarkedJob(**parts(job), mark=mark)))
    if args.study:
        print(json.dumps(asdict(run_study_of(int(args.study[0]), tracked=args.study[1] == "yes"))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    helps = [_seconds([*COMMAND, "--help"]) for _ in range(args.rounds)]
    print(f"`--help`: {_spread(helps, 2)} s, {args.rounds} times")
    starts = first_steps(args.rounds)
    print(f"to the first training step: {_spread(starts, 1)} s, {args.rounds} times\n")
    print("| tracked | trials | s a trial | of the last tenth | driver's processor | closing |")
    print("|---|---:|---:|---:|---:|---:|")
    for tracked in ("no", "yes"):
        for trials in args.trials:
            cost = _in_a_process(trials, tracked)
            print(
                f"| {tracked} | {trials:,} | {cost.trial:.3f} | {cost.last_tenth:.3f} | "
                f"{cost.driver:.3f} | {cost.closing:.1f} |",
                flush=True,
            )


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def first_steps(rounds: int) -> list[float]:
    """Return the seconds from a command to its first training step; what is cached is warm."""
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        return [_first_step(workspace, index) for index in range(rounds + 1)][1:]


def _first_step(workspace: Path, index: int) -> float:
    mark = workspace / f"mark-{index}"
    words = ["--space", "fusion_grid", "--name", f"start-{index}", "--device", "cpu"]
    command = [sys.executable, "-m", "benchmarks.orchestration", "--first-step", str(mark), *words]
    began = time.time()
    started = subprocess.Popen(
        command, cwd=workspace, env=environment(), stdout=subprocess.DEVNULL, stderr=None
    )
    try:
        while not mark.exists():
            if started.poll() is not None or time.time() - began > SLOWEST_START_S:
                raise RuntimeError("the study ended before its first training step")
            time.sleep(0.01)
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait()
    return float(mark.read_text()) - began


@dataclass(frozen=True, kw_only=True)
class MarkedJob(TrialJob):
    """A job that leaves the time of the first training step in a file."""

    mark: Path

    def training(
        self, config: TrialConfig, device_beats: DeviceBeats | None = None
    ) -> TrialTraining:
        """Build the members, and watch their optimisers."""

        def leave(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            handle.remove()
            part = self.mark.with_suffix(f".{os.getpid()}")
            part.write_text(str(time.time()))
            if not self.mark.exists():
                part.rename(self.mark)

        handle = register_optimizer_step_post_hook(leave)
        return TrialJob.training(self, config, device_beats)


def _in_a_process(trials: int, tracked: str) -> Cost:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--study", str(trials), tracked]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def idle_setup(workspace: Path, trials: int, workers: int) -> Setup:
    """Return a study of `fusion_tuning` whose trials train nothing."""
    setup = set_up(
        override(load_space("fusion_tuning"), trials=trials, sampler=SAMPLER),
        synthetic_source(workspace / "records", duration_s=60),
        name="nothing",
        study_seed=0,
        partition_seed=0,
        device="cpu",
        storage=Storage.at(workspace / "studies" / "nothing" / "trials"),
        cache_dir=workspace / "cache",
    )
    job = replace(setup.job, engine=Engine())
    gate = workspace / "gate"
    idle = IdleJob(**parts(job), gate=gate, result=made_up_result(job), workers=workers)
    return replace(setup, job=idle)


def run_study_of(trials: int, *, tracked: bool) -> Cost:
    """Run a study whose trials train nothing, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        folder = workspace / "studies" / "nothing"
        setup = idle_setup(workspace, trials, CONCURRENCY)
        experiment = None
        if tracked:
            experiment = Experiment(tracking_uri=None, name="nothing", workspace=workspace)
            experiment.connect()
        url = f"sqlite:///{folder / 'study.db'}"
        options = Options(
            resume=False,
            address=None,
            places=Places(folder=folder),
            demand=Demand(device="cpu", concurrency=CONCURRENCY),
            quiet=True,
            began=time.monotonic(),
        )
        cpu = time.process_time()
        run_study(setup, options, experiment)
        ended, cpu = time.time(), time.process_time() - cpu
        return cost_of(ends_of(url), ended, cpu)


def ends_of(url: str) -> list[float]:
    """Return when each trial of the study ended, in order, in seconds since the epoch."""
    trials = optuna.load_study(study_name="nothing", storage=url).trials
    ends = [trial.datetime_complete for trial in trials]
    return sorted(end.timestamp() for end in ends if end is not None)


def cost_of(ends: list[float], ended: float, cpu: float) -> Cost:
    """Return what trials cost by when they ended, when all did, and the driver's seconds."""
    between = np.diff(ends)
    tenth = max(1, len(between) // 10)
    return Cost(
        trial=float(between.mean()),
        last_tenth=float(between[-tenth:].mean()),
        driver=cpu / len(ends),
        closing=ended - ends[-1],
    )


def made_up_result(job: TrialJob) -> TrialResult:
    """Return a result with all that a real one has, of predictions drawn by chance."""
    beats = next(iter(job.beats.values()))
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), (1, len(beats.label)))
    log_probs = np.log(drawn).astype(np.float32)
    fold = job.folds.of_beats(beats)
    scores = score(log_probs, beats.label, beats.record, fold, record_names=beats.record_names)
    return TrialResult.without_networks(log_probs, scores)


class NoTraining:
    """Takes the place of `TrialTraining`: its scores are there at once.

    Args:
        config: The configuration, whose digest gives the objective.
        result: All other scores, and what a finished trial leaves.
    """

    def __init__(self, config: TrialConfig, result: TrialResult) -> None:
        digest = rules.digest(config)
        self._metrics = {**result.metrics, AUPRC_SV: int(digest, 16) / 16 ** len(digest)}
        self._result, self._epochs = result, config.train.epochs
        self.epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs were reported."""
        return self.epoch >= self._epochs

    def run_epoch(self) -> EpochReport:
        """Report the next epoch."""
        self.epoch += 1
        return EpochReport(
            epoch=self.epoch,
            metrics=self._metrics,
            undefined={},
            seconds_train=0.0,
            seconds_eval=0.0,
        )

    def finish(self) -> TrialResult:
        """Return the result."""
        return replace(self._result, metrics=self._metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return all that continuing would need."""
        return {"epoch": self.epoch}


@dataclass(frozen=True, kw_only=True)
class IdleJob(TrialJob):
    """A job whose trials train nothing; its first ones wait until all workers are there."""

    gate: Path
    result: TrialResult
    workers: int = CONCURRENCY

    def training(self, config: TrialConfig, device_beats: DeviceBeats | None = None) -> Any:
        """Return what takes the place of training."""
        self.gate.mkdir(exist_ok=True)
        (self.gate / str(os.getpid())).touch()
        while len(list(self.gate.iterdir())) < self.workers:
            time.sleep(0.01)
        return NoTraining(config, self.result)


if __name__ == "__main__":
    main()
