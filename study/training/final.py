"""Trains a configuration on every beat of a data set, and predicts another one with it.

Nothing is held out: there is no validation, and the epochs are those that the configuration says.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.config import TrialConfig
from study.errors import DivergedError
from study.models.classifier import Classifier
from study.models.rules import check_combination, digest
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.loop import check_cut
from study.training.member import build_members, predict, seed_inputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinalModel:
    """A model after its last epoch.

    Args:
        weights: Its state dict, on the CPU.
        losses: Mean training loss of every epoch.
    """

    weights: dict[str, Tensor]
    losses: tuple[float, ...]


def train_on_all(
    config: TrialConfig,
    beats: DeviceBeats,
    *,
    study_seed: int,
    seed_index: int,
    engine: Engine,
    goes_on: Callable[[], bool] = lambda: True,
) -> FinalModel | None:
    """Train one model on all beats.

    Args:
        config: The configuration.
        beats: All beats, on the device.
        study_seed: Root of all random streams.
        seed_index: Which of the study's seeds.
        engine: What it computes with.
        goes_on: Asked before each epoch whether to train it.

    Returns:
        The model, or None if it was not to go on.

    Raises:
        ConfigError: If the configuration is not allowed, or wants beats cut otherwise.
        DivergedError: If a loss or a weight is not finite.
    """
    check_combination(config.signal, config.model)
    check_cut(config, beats.beats)
    everything = np.arange(len(beats.beats.label))
    (member,) = build_members(
        config,
        beats,
        [(everything, everything[:0])],
        seeds=(seed_index,),
        study_seed=study_seed,
        dtype=engine.weights,
        run_backbone=engine.backbone(beats.device),
    )
    trainer = engine.trainer([member])
    losses: list[float] = []
    for epoch in range(config.train.epochs):
        if not goes_on():
            return None
        losses.append(float(trainer.train_epoch(epoch)))
        if not np.isfinite(losses[-1]):
            raise _diverged(config, seed_index, f"training loss not finite in epoch {epoch + 1}")
    weights = {
        name: values.detach().to("cpu", copy=True)
        for name, values in member.scored.state_dict().items()
    }
    if not all(bool(values.isfinite().all()) for values in weights.values()):
        raise _diverged(config, seed_index, "a weight is not finite")
    return FinalModel(weights=weights, losses=tuple(losses))


def predict_all(
    models: Sequence[Classifier],
    config: TrialConfig,
    beats: DeviceBeats,
    *,
    study_seed: int,
    seeds: Sequence[int],
    engine: Engine,
) -> NDArray[np.float32]:
    """Return each model's log-probabilities of all beats, [S, N, C].

    Args:
        models: One a seed; they are moved to the beats' device.
        config: Their configuration.
        beats: Beats that they may never have seen, on the device.
        study_seed: That of their training: under a placebo it permutes RR within these records.
        seeds: Their seeds.
        engine: What they were trained with.

    Raises:
        ConfigError: If the configuration wants beats cut otherwise.
        DivergedError: If a prediction is not finite.
    """
    check_cut(config, beats.beats)
    run_backbone = engine.backbone(beats.device)
    index = torch.arange(len(beats.beats.label), device=beats.device)
    predictions = []
    for model, seed_index in zip(models, seeds, strict=True):
        inputs = seed_inputs(config, beats, study_seed=study_seed, seed_index=seed_index)
        model.to(beats.device).run_backbone = run_backbone
        log_probs = predict(model, inputs, index)
        if not bool(log_probs.isfinite().all()):
            raise _diverged(config, seed_index, "a prediction is not finite")
        predictions.append(log_probs.cpu().numpy())
    return np.stack(predictions)


def _diverged(config: TrialConfig, seed_index: int, what: str) -> DivergedError:
    return DivergedError(
        f"diverged: {what}, seed {seed_index}; configuration {digest(config)}: {config.flat()}"
    )
