"""Estimates what a study will take, from a few steps on this machine or from its own trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.errors import StudyError
from study.keys import FLOORS, UNRANKED
from study.models.classifier import Classifier, build_model
from study.spaces.settings import SCREENING_EPOCHS
from study.spaces.space import Space
from study.store.floors import stored_floors
from study.store.plan import StudyPlan
from study.store.study import Study
from study.store.trials import Trials
from study.training.batches import epoch_shape, stand_ins
from study.training.device import DeviceBeats, Inputs, resolve_device
from study.training.floors import out_of_fold
from study.training.member import evaluation_batch
from study.tuning.setup import Setup

TIMED_STEPS, TIMED_ARMS = 3, 6


def epochs_left(space: Space, plan: StudyPlan, trials: Trials) -> int:
    """Return the number of epochs left in all trials that have not settled."""
    total = plan.trials * plan.epochs
    if space.n_finals:
        total = space.n_proposed * SCREENING_EPOCHS + space.n_finals * plan.epochs
    counted = {row.number for row in trials.counted}
    settled = [proposal for row, proposal in trials.proposals if row.number in counted]
    return max(0, total - sum(proposal.config.train.epochs for proposal in settled))


def epoch_seconds(setup: Setup, trials: Trials) -> float:
    """Return the seconds of an epoch of a trial: from settled trials, else from a few steps.

    NaN on a GPU or a cluster before a trial has settled: there the steps themselves take long.
    """
    timed = [row for row in trials.rows if row.seconds and row.epochs]
    if timed:
        return sum(row.seconds for row in timed) / sum(row.epochs for row in timed)
    if setup.job.device != "cpu":
        return math.nan
    return trial_seconds(setup) / setup.plan.epochs


def seconds_left(setup: Setup, at_once: int, epoch_s: float, trials: Trials) -> float:
    """Return the seconds that the remaining trials will take, `at_once` in parallel."""
    left = epochs_left(setup.space, setup.plan, trials)
    return epoch_s * max(left / at_once, min(left, setup.plan.epochs))


def trial_seconds(setup: Setup) -> float:
    """Estimate a full trial's seconds, the mean over some arms, from a few steps on this machine.

    On a CPU the estimate uses processor seconds, which other work hardly changes.
    """
    torch.set_num_threads(1)  # one thread, as in a trial
    device = resolve_device(setup.job.device)
    on_device: dict[int, DeviceBeats] = {}
    seconds = []
    configs = list(setup.space.arm_configurations().values())
    # At most `TIMED_ARMS` arms, spread over their list: timing all would take too long.
    for config in configs[:: -(-len(configs) // TIMED_ARMS)]:
        placed = placed_beats(setup.job.beats_of(config), device, on_device)
        measure = _cpu_seconds if device.type == "cpu" else _gpu_seconds
        seconds.append(measure(setup, config, placed))
    return float(np.mean(seconds))


def _gpu_seconds(setup: Setup, config: TrialConfig, placed: DeviceBeats) -> float:
    """Time an epoch of all members together, after one to warm up."""
    training = setup.job.training(replace(config, train=replace(config.train, epochs=2)), placed)
    training.run_epoch()
    report = training.run_epoch()
    return config.train.epochs * (report.seconds_train + report.seconds_eval)


def _cpu_seconds(setup: Setup, config: TrialConfig, placed: DeviceBeats) -> float:
    """Time a few steps of one member, and scale the time up to the trial."""
    device, beats = torch.device("cpu"), setup.job.beats_of(config)
    model = build_model(config.signal, config.model, seed=(0, 0, 0))
    model.run_by(setup.job.engine.backbone(device))
    inputs = placed.inputs(config.signal)
    train = torch.arange(min(config.train.batch_size, len(beats.label)))
    held = torch.arange(min(evaluation_batch(device), len(beats.label)))

    def train_step() -> None:
        train_on(model, inputs.take(train), placed.label[train])

    def predict() -> None:
        batch = inputs.take(held)
        with torch.inference_mode():
            batch.through(model.eval())

    step_s, eval_s = _time_of(train_step), _time_of(predict) / len(held)
    masks = setup.job.folds.splits(beats)
    shape = epoch_shape(
        [beats.label[index] for index, _ in masks],
        normal_beats=config.train.normal_beats_per_epoch,
        batch_size=config.train.batch_size,
    )
    held_out = np.concatenate([index for _, index in masks])
    stands = stand_ins(beats.label, beats.record)
    # Only the last epoch scores every beat.
    n_steered = int((stands[held_out] == held_out).sum())
    epochs, n_seeds = config.train.epochs, setup.job.n_seeds
    # Each seed predicts what the folds of its partition hold out.
    n_partitions = setup.job.folds.n_partitions
    predicted = n_seeds * (
        ((epochs - 1) * n_steered + len(held_out)) / n_partitions + _reliance_passes(config, beats)
    )
    return epochs * setup.plan.members * shape.batches * step_s + predicted * eval_s


def _time_of(step: Callable[[], None]) -> float:
    """Return the processor seconds of a step, after one step to warm up."""
    step()
    began = time.process_time()
    for _ in range(TIMED_STEPS):
        step()
    return (time.process_time() - began) / TIMED_STEPS


def _reliance_passes(config: TrialConfig, beats: BeatSet) -> int:
    """Return how many beats pass the backbone to measure one seed's RR reliance."""
    sample, early = beats.reliance, config.signal.option.early_rr
    # Once unchanged; then with swapped RR in the channels, in the window, and in both.
    others = early + (sample.windows is not None) * (1 + early)
    return len(sample.beats) * (1 + len(sample.donors) * others)


def floor_seconds(setup: Setup, existing: Study | None) -> float:
    """Estimate the processor seconds that floors take, from the first fold of each."""
    if setup.plan.objective == UNRANKED or (existing and stored_floors(existing.folder)):
        return 0.0
    folds = setup.job.folds
    first = replace(folds, validation=folds.validation[:1], n_partitions=1)

    def fit(name: str) -> None:
        with suppress(StudyError):  # a floor that cannot be fitted is left out, with a note
            out_of_fold(name, setup.floor_beats, first)

    fit("logistic_ratios")  # imports scikit-learn, which takes longer than the fits
    began = time.process_time()
    for name in FLOORS:
        fit(name)
    return (time.process_time() - began) * len(folds.validation)


def placed_beats(
    beats: BeatSet, device: torch.device, on_device: dict[int, DeviceBeats]
) -> DeviceBeats:
    """Return beats on a device, and keep them there for the next call."""
    if id(beats) not in on_device:
        on_device[id(beats)] = DeviceBeats(beats, device)
    return on_device[id(beats)]


def train_on(model: Classifier, batch: Inputs, label: torch.Tensor) -> None:
    """Run a model forward and backward."""
    model.train()
    torch.nn.functional.cross_entropy(batch.through(model), label).backward()
