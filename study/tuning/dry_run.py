"""The dry run: shows a study's plan, builds every branch of its space, estimates the time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.catalogue import CATALOGUE
from study.data.folds import folds_table
from study.errors import StudyError
from study.keys import UNRANKED
from study.models import rules
from study.models.classifier import Classifier, build_model
from study.reporting.arms import reference_text
from study.spaces.optuna_space import notes_on
from study.spaces.settings import SCREENING_EPOCHS
from study.spaces.space import Space
from study.store import floors
from study.store.study import Study
from study.training.batches import epoch_shape, stand_ins
from study.training.device import DeviceBeats, Inputs, resolve_device
from study.training.member import evaluation_batch
from study.tuning.progress import duration
from study.tuning.resources import available_cores
from study.tuning.setup import Setup
from study.wording import plural

TIMED_STEPS = 3
BUSY_LOAD = 1.0
"""A load of the last minute above this means other work: a dry run alone causes less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a space, as it was built."""

    arm: str
    factors: str  # what the arm is made of
    differing: str  # values that tell it from branches made of the same; empty without these
    parameters: int  # weights of one member
    routes: str  # how RR can reach its output
    reference: str  # what it takes from which template; empty without one


def branches(space: Space) -> list[tuple[str, TrialConfig]]:
    """Return every branch of a search, or every arm of a comparison, with its arm's name."""
    if space.kind == "compare":
        return list(space.arm_configurations().items())
    return [(rules.arm(config), config) for config in space.configurations()]


def build_branches(setup: Setup, *, run: bool) -> Iterator[Branch]:
    """Build each branch.

    Raises:
        ConfigError: If a branch cannot be built.
    """
    device = resolve_device(setup.job.device)
    on_device: dict[int, DeviceBeats] = {}
    every = branches(setup.space)
    for name, config in every:
        model = build_model(config.signal, config.model, seed=(0, 0, 0)).to(device)
        if run:
            placed = _placed(setup.job.beats_of(config), device, on_device)
            index = torch.arange(min(32, len(placed.label)), device=device)
            _step(model, placed.inputs(config.signal).take(index), placed.label[index])
        yield Branch(
            arm=name,
            factors=rules.arm(config),
            differing=_differing(config, [other for _, other in every]),
            parameters=sum(p.numel() for p in model.parameters()),
            routes=rules.rr_routes(config).text(),
            reference=reference_text(config),
        )


def _differing(config: TrialConfig, every: list[TrialConfig]) -> str:
    """Name the values of a configuration that others of the same arm parts do not have."""
    alike = [rules.active_parameters(c) for c in every if rules.arm(c) == rules.arm(config)]
    values = rules.active_parameters(config).items()
    return ", ".join(
        f"{name} = {value}"
        for name, value in values
        if any(name not in other or other[name] != value for other in alike)
    )


def _placed(
    beats: BeatSet, device: torch.device, on_device: dict[int, DeviceBeats]
) -> DeviceBeats:
    if id(beats) not in on_device:
        on_device[id(beats)] = DeviceBeats(beats, device)
    return on_device[id(beats)]


def _step(model: Classifier, batch: Inputs, label: torch.Tensor) -> None:
    model.train()
    torch.nn.functional.cross_entropy(batch.through(model), label).backward()


def trial_seconds(setup: Setup) -> float:
    """Estimate a full trial's seconds, the mean over arms, from a few steps on this machine.

    On a CPU the estimate uses processor seconds, which other work hardly changes.
    """
    torch.set_num_threads(1)  # one thread, as in a trial
    device = resolve_device(setup.job.device)
    on_device: dict[int, DeviceBeats] = {}
    seconds = []
    for config in setup.space.arm_configurations().values():
        placed = _placed(setup.job.beats_of(config), device, on_device)
        measure = _cpu_seconds if device.type == "cpu" else _gpu_seconds
        seconds.append(measure(setup, config, placed))
    return float(np.mean(seconds))


def _gpu_seconds(setup: Setup, config: TrialConfig, placed: DeviceBeats) -> float:
    """Time an epoch of all members together, after one to warm up: a GPU takes little time."""
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
        _step(model, inputs.take(train), placed.label[train])

    def predict() -> None:
        batch = inputs.take(held)
        with torch.inference_mode():
            batch.through(model.eval())

    step_s, eval_s = _time_of(train_step), _time_of(predict) / len(held)
    masks = setup.job.folds.masks(beats)
    shape = epoch_shape(
        [beats.label[index] for index, _ in masks],
        normal_beats=config.train.normal_beats_per_epoch,
        batch_size=config.train.batch_size,
    )
    held_out = np.concatenate([index for _, index in masks])
    stands = stand_ins(beats.label, beats.record)
    steering = int((stands[held_out] == held_out).sum())
    epochs, n_seeds = config.train.epochs, setup.job.n_seeds
    # Each seed predicts what the folds of its partition hold out.
    n_partitions = setup.job.folds.n_partitions
    predicted = n_seeds * (
        ((epochs - 1) * steering + len(held_out)) / n_partitions + _reliance_passes(config, beats)
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
    """Return how many beats pass the backbone in measuring one seed's RR reliance."""
    sample, early = beats.reliance, config.signal.option.early_rr
    # Once unchanged; then with swapped RR in the channels, in the window, and in both.
    others = early + (sample.windows is not None) * (1 + early)
    return len(sample.beats) * (1 + len(sample.donors) * others)


def floor_seconds(setup: Setup, existing: Study | None) -> float:
    """Estimate the seconds that a start spends on floors, from the slow one's first fold."""
    if setup.plan.objective == UNRANKED or (existing and floors.stored_floors(existing.folder)):
        return 0.0
    folds, began = setup.job.folds, time.perf_counter()
    with suppress(StudyError):  # a floor that cannot be fitted is left out, with a note
        first = replace(folds, validation=folds.validation[:1], n_partitions=1)
        floors.out_of_fold("logistic_regression", setup.floor_beats, first)
    return (time.perf_counter() - began) * len(folds.validation)


def plan_lines(
    setup: Setup, concurrency: int, existing: Study | None = None, *, run_branches: bool
) -> Iterator[str]:
    """Yield a description of what a study would do, line by line.

    Args:
        setup: The study.
        concurrency: How many trials would run at once.
        existing: The study of that name, if there is one already.
        run_branches: Whether each branch is run once.
    """
    plan, space = setup.plan, setup.space
    built = list(build_branches(setup, run=run_branches))
    arms = len({branch.arm for branch in built})
    yield f"study '{plan.name}': {plan.kind} of space '{plan.space}'\n  {space.description}"
    yield f"records: {setup.source.description}"
    for name in plan.databases:
        if missing := CATALOGUE[name].unknown:
            yield f"note: {name}: {missing}"
    shared = f" over {plan.n_partitions} partitions" if plan.n_partitions > 1 else ""
    yield (
        f"trials: {plan.trials}, arms: {arms}, members per trial: {plan.members} "
        f"({plural(plan.n_folds, 'fold')} x {plural(plan.n_seeds, 'seed')}{shared}), "
        f"epochs: {plan.epochs}"
    )
    if plan.kind == "search":
        size = space.grid_size()
        yield (
            f"sampler: {plan.sampler}, scheduler: {plan.scheduler}, "
            f"objective: {plan.objective}, grid: {'continuous' if size is None else size}"
        )
        if space.n_proposed < arms:
            yield f"note: {plural(space.n_proposed, 'trial')} cannot reach all {arms} arms once"
        yield from (f"note: {note}" for note in notes_on(plan.sampler, space))
    yield f"arithmetic: {plan.engine}"
    yield folds_table(setup.job.folds, setup.beats)
    yield f"branches, each built{' and run once' if run_branches else ''}:"
    for branch in built:
        yield f"  {branch.arm:<45} {branch.parameters:>8,} parameters  {branch.routes}"
        if branch.factors != branch.arm:
            yield f"    {branch.factors}"
        if branch.differing:
            yield f"    {branch.differing}"
        if branch.reference:
            yield f"    {branch.reference}"
    yield _time_line(setup, concurrency, floor_seconds(setup, existing))
    if existing:
        owed = f", {len(existing.trials.owed)} owed" if existing.trials.owed else ""
        settled = f"{len(existing.rows)} of {existing.plan.trials} trials settled"
        yield f"note: study '{existing.name}' exists: {settled}{owed}"
        for line in plan.differences(existing.plan).values():
            yield f"note: it has another plan: {line}"


def _time_line(setup: Setup, concurrency: int, floors_s: float) -> str:
    plan, space = setup.plan, setup.space
    load = os.getloadavg()[0]
    seconds = trial_seconds(setup)
    rounds = float(-(-(space.n_finals or plan.trials) // concurrency))
    if space.n_finals:
        rounds += -(-space.n_proposed // concurrency) * SCREENING_EPOCHS / plan.epochs
    most = "at most (early stopping shortens it) " if plan.scheduler == "asha" else ""
    in_full = " in full" if space.n_finals else ""
    line = (
        f"time: about {duration(seconds)} a trial{in_full} on {setup.job.device}, {concurrency} "
        f"at once: {most}{duration(seconds * rounds)} in all"
    )
    if floors_s:
        line += f", after {duration(floors_s)} for the floors"
    if load <= BUSY_LOAD:
        return line
    return (
        f"{line}, on an otherwise idle machine; this one is busy now (load {load:.1f} on "
        f"{plural(available_cores(), 'core')})"
    )
