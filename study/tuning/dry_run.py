"""Before a study: build every branch of its space, run each once, and estimate the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.keys import CLASSES
from study.models import rules
from study.models.classifier import Classifier, build_model
from study.spaces.space import Space
from study.training.batches import epoch_shape, stand_ins
from study.training.device import DeviceBeats, Inputs, resolve_device, synchronise
from study.training.member import evaluation_batch
from study.tuning.setup import Setup, arm_configurations, configurations

TIMED_STEPS = 4
_NORMAL = CLASSES.index("N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a space, built and run once.

    Args:
        arm: Its arm.
        factors: What the arm is made of.
        parameters: Weights of one member.
        routes: How RR can reach its output.
    """

    arm: str
    factors: str
    parameters: int
    routes: str


def branches(space: Space) -> list[tuple[str, TrialConfig]]:
    """Return every branch of a search, or every arm of a comparison, with its arm's name."""
    if space.kind == "compare":
        return list(arm_configurations(space).items())
    return [(rules.arm(config), config) for config in configurations(space)]


def build_branches(setup: Setup) -> Iterator[Branch]:
    """Build each branch and run a small batch forward and backward.

    Raises:
        ConfigError: If a branch cannot be built.
    """
    on_device: dict[int, DeviceBeats] = {}
    named = branches(setup.space)
    for name, config in named:
        beats = setup.job.of(config)
        device = resolve_device(setup.job.device)
        if id(beats) not in on_device:
            on_device[id(beats)] = DeviceBeats(beats, device)
        placed = on_device[id(beats)]
        model = build_model(config.signal, config.model, seed=(0, 0, 0)).to(device)
        index = torch.arange(min(32, len(beats.label)), device=device)
        _step(model, placed.inputs(config.signal).take(index), placed.label[index])
        yield Branch(
            arm=name,
            factors=rules.arm(config),
            parameters=sum(p.numel() for p in model.parameters()),
            routes=rules.rr_routes(config).text(),
        )


def _step(model: Classifier, batch: Inputs, label: torch.Tensor) -> None:
    model.train()
    output = model(batch.ecg, batch.early_rr, batch.late_rr)
    torch.nn.functional.cross_entropy(output, label).backward()


def trial_seconds(setup: Setup) -> float:
    """Estimate a full trial's seconds, the mean over arms, from a few steps on this machine."""
    torch.set_num_threads(1)  # as in a trial
    configs = list(arm_configurations(setup.space).values())
    return float(np.mean([_seconds(setup, config) for config in configs]))


def _seconds(setup: Setup, config: TrialConfig) -> float:
    beats, device = setup.job.of(config), resolve_device(setup.job.device)
    placed = DeviceBeats(beats, device)
    if device.type != "cpu":
        # Whole epochs, all members together, are short there; the first one warms up.
        short = replace(config, train=replace(config.train, epochs=2))
        training = setup.job.training(short, placed)
        training.run_epoch()
        report = training.run_epoch()
        return config.train.epochs * (report.seconds_train + report.seconds_eval)
    model = build_model(config.signal, config.model, seed=(0, 0, 0)).to(device)
    model.run_backbone = setup.job.engine.backbone(device)
    inputs = placed.inputs(config.signal)
    train = torch.arange(min(config.train.batch_size, len(beats.label)), device=device)
    held = torch.arange(min(evaluation_batch(device), len(beats.label)), device=device)

    def time_steps(n_steps: int, *, training: bool) -> float:
        began = time.perf_counter()
        for _ in range(n_steps):
            if training:
                _step(model, inputs.take(train), placed.label[train])
            else:
                batch = inputs.take(held)
                with torch.inference_mode():
                    model.eval()(batch.ecg, batch.early_rr, batch.late_rr)
        synchronise(device)
        return (time.perf_counter() - began) / n_steps

    time_steps(2, training=True)
    step_s = time_steps(TIMED_STEPS, training=True)
    time_steps(1, training=False)
    eval_s = time_steps(2 * TIMED_STEPS, training=False) / len(held)
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
    predicted = n_seeds * (
        (epochs - 1) * steering + len(held_out) + _reliance_passes(config, beats)
    )
    return epochs * setup.plan.members * shape.batches * step_s + predicted * eval_s


def _reliance_passes(config: TrialConfig, beats: BeatSet) -> int:
    """Return the beats that pass the backbone to measure one seed's RR reliance."""
    sample, early = beats.reliance, config.signal.option.early_rr
    # As it is; and with other RR in the channels, in the window, in both.
    others = early + (sample.windows is not None) * (1 + early)
    return len(sample.beats) * (1 + len(sample.donors) * others)
