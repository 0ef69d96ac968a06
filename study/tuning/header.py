"""Lines printed before a study's trials: its question, trials and time, and how to stop it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from study.data.folds import ALL, PUBLISHED
from study.spaces.optuna_space import notes_on
from study.spaces.settings import SCREENING_EPOCHS
from study.spaces.space import Space
from study.store.study import Study
from study.store.trials import Trials
from study.tuning.estimate import seconds_left
from study.tuning.progress import duration
from study.tuning.resources import available_cores
from study.tuning.setup import Setup
from study.wording import plural

BUSY_LOAD = 1.0
"""A load of the last minute above this means other work; the estimate itself causes less."""


def content_lines(space: Space, name: str) -> Iterator[str]:
    """Yield the question that a study asks."""
    yield f"study '{name}': {space.kind} of space '{space.name}'"
    yield f"  {space.description}"


def trials_line(space: Space, arms: int | None = None) -> str:
    """Say how many trials a study has, of which arms and of how many members."""
    epochs = max(config.train.epochs for config in space.configurations())
    up_to = "up to " if space.scheduler == "asha" else ""
    trials = f"{space.n_trials:,} of {up_to}{plural(epochs, 'epoch')}"
    if space.n_finals:
        trials = (
            f"{space.n_proposed} screened for {plural(SCREENING_EPOCHS, 'epoch')} + "
            f"{space.n_finals} in full for {epochs}"
        )
    n_arms = arms or len(space.arm_configurations())
    return f"trials: {trials}, {plural(n_arms, 'arm')}, {_members(space)}"


def _members(space: Space) -> str:
    """Say how many members each trial trains."""
    if space.folds == ALL:
        return f"each on all records with {plural(space.seeds, 'seed')}"
    n_folds = 1 if space.folds == PUBLISHED else int(space.folds)
    shared = f" over {space.partitions} partitions" if space.partitions > 1 else ""
    of_each = f"{plural(n_folds, 'fold')} x {plural(space.seeds, 'seed')}{shared}"
    return f"{plural(n_folds * space.seeds, 'member')} each ({of_each})"


def time_text(setup: Setup, at_once: int, epoch_s: float, trials: Trials) -> str:
    """Say how long a study will take from here."""
    if math.isnan(epoch_s):
        return "time: known after the first epoch; --dry-run estimates it"
    full = duration(epoch_s * setup.plan.epochs)
    most = "at most " if setup.plan.scheduler == "asha" else "about "
    total = duration(seconds_left(setup, at_once, epoch_s, trials))
    which = "the trials that are left" if trials.rows else "all trials"
    in_full = " in full" if setup.space.n_finals else ""
    line = (
        f"time: {most}{total} for {which}, {at_once} at once, {full} each{in_full} on "
        f"{setup.job.device}"
    )
    load = os.getloadavg()[0]
    if load <= BUSY_LOAD or trials.rows or setup.job.device != "cpu":
        return line
    cores = plural(available_cores(), "core")
    return f"{line}, if this machine were idle: expect more (load {load:.1f} on {cores})"


def before_trials(
    setup: Setup, at_once: int, epoch_s: float, existing: Study | None, resume: str
) -> Iterator[str]:
    """Yield the state, time and notes of a study whose beats are prepared.

    Args:
        setup: The study.
        at_once: How many trials run at once.
        epoch_s: Seconds of an epoch of a trial; NaN if unknown.
        existing: The study as earlier starts left it.
        resume: The command that goes on with it.
    """
    if existing:
        yield f"so far: {existing.state}"
    time = time_text(setup, at_once, epoch_s, existing.trials if existing else Trials())
    on_top = "; missing floors and the start of Ray come on top"
    yield time if math.isnan(epoch_s) else f"{time}{on_top}"
    yield f"stop: Ctrl-C keeps what is done; go on: {resume}"
    for note in notes_on(setup.plan.sampler, setup.space, at_once):
        yield f"note: {note}"
