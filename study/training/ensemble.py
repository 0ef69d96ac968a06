"""Builds the members of a trial: one model for every seed and fold.

Shapes: N beats, R RR features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.config import TrainConfig, TrialConfig
from study.data.placebo import placebo_order
from study.models.classifier import Classifier, build_model
from study.training.batches import MemberBeats, epoch_shape
from study.training.device import DeviceBeats, Inputs, to_device
from study.training.engine import Engine
from study.training.losses import Loss, class_weights
from study.training.member import Member
from study.training.seeding import Streams
from study.training.steering import stand_ins

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Indices of the training and of the validation beats of a fold."""


def build_members(
    config: TrialConfig,
    beats: DeviceBeats,
    splits: Sequence[Split],
    *,
    seeds: Sequence[int],
    study_seed: int,
    engine: Engine,
) -> list[Member]:
    """Return all members, in seed-major order.

    Args:
        config: The configuration.
        beats: All beats, on the device.
        splits: Of every fold.
        seeds: Index of each seed: the members of a fold.
        study_seed: Root of all random streams.
        engine: What they compute with.
    """
    run_backbone = engine.backbone(beats.device)
    label = beats.beats.label
    loss = _loss(config.train, label, beats.device, engine.weights)
    shape = epoch_shape(
        [label[training] for training, _ in splits],
        normal_beats=config.train.normal_beats_per_epoch,
        batch_size=config.train.batch_size,
    )
    stands = stand_ins(label, beats.beats.record)
    members = []
    for seed_index in seeds:
        inputs = seed_inputs(
            config, beats, study_seed=study_seed, seed_index=seed_index, dtype=engine.weights
        )
        for fold, (training, validation) in enumerate(splits):
            streams = Streams(study_seed=study_seed, seed_index=seed_index, fold=fold)
            model = _model(config, inputs.late_rr, training, streams)
            model.to(beats.device, engine.weights)
            model.run_backbone = run_backbone
            members.append(
                Member(
                    model=model,
                    train=config.train,
                    loss=loss,
                    inputs=inputs,
                    label=beats.label,
                    training=MemberBeats(training, label[training], streams),
                    validation=to_device(validation, beats.device),
                    steering=to_device(validation[stands[validation] == validation], beats.device),
                    shape=shape,
                    streams=streams,
                )
            )
    return members


def _loss(
    train: TrainConfig, label: NDArray[np.int64], device: torch.device, dtype: torch.dtype
) -> Loss:
    return Loss(
        weights=to_device(class_weights(label, train.class_weights), device, dtype),
        gamma=train.focal_gamma if train.loss == "focal" else 0.0,
        label_smoothing=train.label_smoothing,
    )


def seed_inputs(
    config: TrialConfig,
    beats: DeviceBeats,
    *,
    study_seed: int,
    seed_index: int,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Return what the members of one seed see: under a placebo each seed has its permutation."""
    placebo = config.signal.rr == "placebo"
    order = placebo_order(beats.beats.record, study_seed, seed_index) if placebo else None
    return beats.inputs(config.signal, order, dtype=dtype)


def _model(
    config: TrialConfig, late_rr: Tensor | None, training: NDArray[np.int64], streams: Streams
) -> Classifier:
    model = build_model(config.signal, config.model, seed=streams.entropy)
    if late_rr is not None:
        model.set_rr_statistics(*rr_statistics(late_rr.cpu()[torch.from_numpy(training)]))
    return model


def rr_statistics(late_rr: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [R] of late vectors [N, R]."""
    rows = late_rr.double()
    return rows.mean(dim=0).float(), rows.std(dim=0, correction=0).float()
