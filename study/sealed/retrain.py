"""Trains every model of a plan on all of DS1, several at once, each kept as soon as it is done.

Seeds are fresh: their indices begin where those of a study end, so that no study used a stream of
theirs. Arms share seeds, and with them the order of beats and the normal beats of every epoch.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import study
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.prepare import Cut
from study.errors import CheckpointError, DivergedError, StudyStateError
from study.files import archive_fault, write_whole
from study.models import rules
from study.sealed.plan import Arm
from study.training.device import DeviceBeats, resolve_device
from study.training.engine import WORKER_ENVIRONMENT, Engine
from study.training.final import train_on_all
from study.training.loop import TrialTraining

FIRST_SEED = 1000
"""Index of the first seed; a study has at most 1000, from 0."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all models of a plan share.

    Args:
        records: What they are trained on, in words.
        beats: All of DS1 by cut.
        folds: Folds of DS1, for arms whose thresholds need a cross-validation.
        study_seed: Root of all random streams.
        device: Device to train on.
        engine: What they compute with.
        folder: Where models are kept.
        commit: Commit of the code that trains.
    """

    records: str
    beats: Mapping[Cut, BeatSet]
    folds: Folds
    study_seed: int
    device: str
    engine: Engine
    folder: Path
    commit: str

    def of(self, arm: Arm) -> BeatSet:
        """Return the beats that an arm trains on."""
        return self.beats[arm.cut]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One model of an arm, or its cross-validation if `seed_index` is None."""

    arm: Arm
    seed_index: int | None

    def path(self, job: Job) -> Path:
        """Return the file of its result."""
        if self.seed_index is None:
            return job.folder / self.arm.name / "cross_validation.pt"
        return job.folder / self.arm.name / f"seed_{self.seed_index}.pt"

    def identity(self, job: Job) -> dict[str, Any]:
        """Return all that decides the result, as far as it is data."""
        return {
            "configuration": rules.digest(self.arm.config),
            "beats": job.of(self.arm).fingerprint,
            "study seed": job.study_seed,
            "seed index": self.seed_index,
            "engine": str(job.engine),
            "folds": job.folds.fingerprint if self.seed_index is None else "",
            "version": study.__version__,
        }

    def __str__(self) -> str:
        """Return what the progress calls it."""
        if self.seed_index is None:
            return f"{self.arm.name}: cross-validation for its thresholds"
        return f"{self.arm.name}: seed {self.seed_index}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Done:
    """What a task left.

    Args:
        weights: State dict of the model; empty of a cross-validation.
        log_probs: [1, N, C] out of fold; None of a model.
        commit: Commit of the code that made it.
    """

    weights: Mapping[str, Tensor]
    log_probs: NDArray[np.float32] | None
    commit: str


def read_done(task: Task, job: Job) -> Done | None:
    """Return what a task left, or None if it has to be done (again)."""
    path = task.path(job)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        # First: PyTorch would take altered weights for whole ones.
        if fault := archive_fault(content):
            raise CheckpointError(f"is damaged ({fault})")
        loaded = torch.load(io.BytesIO(content), weights_only=True)
        if loaded["identity"] != task.identity(job):
            raise CheckpointError("is of other beats, code or arithmetic")
        log_probs = loaded["log_probs"]
        return Done(
            weights=loaded["weights"],
            log_probs=None if log_probs is None else log_probs.numpy(),
            commit=str(loaded["commit"]),
        )
    except (
        CheckpointError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        why = (
            error if isinstance(error, CheckpointError) else f"is damaged ({type(error).__name__})"
        )
        _logger.warning("%s: %s; trained again", path, why)
        return None


class Worker:
    """Does tasks one after the other in one process.

    Args:
        job: What they share.
        goes_on: Asked between epochs; once it says no, tasks end without a result.
    """

    def __init__(self, job: Job, goes_on: Callable[[], bool] = lambda: True) -> None:
        # One thread each: several on two threads are slower than on one.
        torch.set_num_threads(1)
        self._job = job
        self._goes_on = goes_on
        self._on_device: dict[Cut, DeviceBeats] = {}

    def do(self, task: Task) -> float:
        """Train what a task says and keep it; return the seconds that it took.

        Raises:
            DivergedError: Naming the arm, if it diverged.
        """
        began = time.perf_counter()
        try:
            made = self._cross_validate(task) if task.seed_index is None else self._train(task)
        except DivergedError as error:
            raise DivergedError(f"arm {task.arm.name}: {error}") from error
        if made is not None:
            content = {"identity": task.identity(self._job), "commit": self._job.commit, **made}
            _write(task.path(self._job), content)
        return time.perf_counter() - began

    def _train(self, task: Task) -> dict[str, Any] | None:
        assert task.seed_index is not None
        model = train_on_all(
            task.arm.config,
            self._placed(task.arm),
            study_seed=self._job.study_seed,
            seed_index=task.seed_index,
            engine=self._job.engine,
            goes_on=self._goes_on,
        )
        return None if model is None else {"weights": model.weights, "log_probs": None}

    def _cross_validate(self, task: Task) -> dict[str, Any] | None:
        job = self._job
        training = TrialTraining(
            task.arm.config,
            job.of(task.arm),
            job.folds,
            n_seeds=1,
            study_seed=job.study_seed,
            device=job.device,
            device_beats=self._placed(task.arm),
            engine=job.engine,
        )
        while not training.finished:
            if not self._goes_on():
                return None
            training.run_epoch()
        log_probs = training.finish().log_probs
        return {"weights": {}, "log_probs": torch.from_numpy(log_probs)}

    def _placed(self, arm: Arm) -> DeviceBeats:
        if arm.cut not in self._on_device:
            device = resolve_device(self._job.device)
            self._on_device[arm.cut] = DeviceBeats(self._job.of(arm), device)
        return self._on_device[arm.cut]


_worker: Worker


def _begin(job: Job, stop: Any) -> None:
    """Start a worker process; it hears of Ctrl-C from the driver alone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _worker
    _worker = Worker(job, goes_on=lambda: not stop.is_set())


def _do(task: Task) -> float:
    return _worker.do(task)


def do_all(job: Job, tasks: Sequence[Task], at_once: int) -> Iterator[tuple[Task, float]]:
    """Do tasks, and yield each with its seconds as it is done.

    Interrupted, it waits until every worker has ended its epoch; what is done is kept.

    Args:
        job: What they share.
        tasks: What is still to be done.
        at_once: Processes; 1 is this one.

    Raises:
        DivergedError: If one diverged.
        StudyStateError: If a process was lost.
    """
    # A cross-validation is several models long: the others fill up what it leaves.
    ordered = sorted(tasks, key=lambda task: task.seed_index is not None)
    if not ordered:
        return
    if at_once == 1:
        worker = Worker(job)
        for task in ordered:
            yield task, worker.do(task)
        return
    os.environ.update({**WORKER_ENVIRONMENT, **os.environ})
    # Spawned, because a fork of a process with threads may hang.
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(at_once, len(ordered)), context, initializer=_begin, initargs=(job, stop)
    )
    try:
        futures = {pool.submit(_do, task): task for task in ordered}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise StudyStateError(
            "training: a process was lost, as happens when memory runs out; what is trained is "
            "kept, and the same command continues (a smaller --concurrency needs less memory)"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())
