"""The members of a trial: the network of each fold and seed, what it trains on and predicts.

Shapes: N beats, B batch, m beats to predict, k of them to steer by, C classes, R RR features.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.config import TrainConfig, TrialConfig
from study.data.rr import placebo_order
from study.models.classifier import Classifier, RunBackbone, build_model
from study.models.rules import active_parameters
from study.training.batches import (
    Changes,
    EpochShape,
    MemberBeats,
    draw_changes,
    epoch_shape,
    stand_ins,
)
from study.training.device import DeviceBeats, Inputs, to_device
from study.training.losses import Loss, class_weights, logit_adjustment
from study.training.optimiser import AveragedWeights, learning_rate
from study.training.seeding import Purpose, Streams

EVALUATION_BATCH = 1024
"""Beats of a pass without gradients on a GPU, all members of a pack together."""

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Indices of the training and of the validation beats of a fold."""


class Member:
    """A network with its beats and its random streams; a `Trainer` changes its weights.

    Args:
        model: With its first weights, on its device.
        inputs: All beats, as this member's seed sees them.
        label: [N] labels of all beats, on the device.
        training: Deals the training beats.
        validation: [m] indices of the validation beats, on the device.
        steering: [k] the validation beats that are predicted before the last epoch, when a score
            only steers a search.
        shape: Batches of an epoch, shared by all members.

    Attributes:
        average: Its averaged weights, or None where averaging is off.
    """

    def __init__(
        self,
        *,
        model: Classifier,
        train: TrainConfig,
        loss: Loss,
        inputs: Inputs,
        label: Tensor,
        training: MemberBeats,
        validation: Tensor,
        steering: Tensor,
        shape: EpochShape,
        streams: Streams,
    ) -> None:
        self.model = model
        self.train = train
        self.loss = loss
        self.inputs = inputs
        self.label = label
        self.validation = validation
        self.steering = steering
        self.shape = shape
        self.streams = streams
        self.average = AveragedWeights(model, decay=train.ema_decay) if train.ema_decay else None
        self._training = training

    @property
    def scored(self) -> Classifier:
        """The model that is scored: the averaged one where averaging is on."""
        return self.model if self.average is None else self.average.model

    @property
    def device(self) -> torch.device:
        """Where its beats are."""
        return self.label.device

    @property
    def augments(self) -> bool:
        """Whether the windows that it trains on are changed."""
        return self.train.augment > 0 and self.model.backbone is not None

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0)."""
        return learning_rate(
            step,
            n_steps=self.train.epochs * self.shape.batches,
            peak=self.train.learning_rate,
            schedule=self.train.schedule,
        )

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """Return the beats of an epoch (from 0), [batches, B]."""
        return self._training.epoch(epoch, self.shape)

    def hidden(self, epoch: int) -> NDArray[np.bool_] | None:
        """Return which beats' RR is hidden in an epoch, [batches, B], or None."""
        probability = self.train.rr_dropout
        if not probability or not self.inputs.has_rr:
            return None
        generator = self.streams.generator(Purpose.RR_DROPOUT, epoch)
        draws = generator.random((self.shape.batches, self.shape.batch_size))
        hidden: NDArray[np.bool_] = draws < probability
        return hidden

    def changes(self, epoch: int) -> Changes | None:
        """Return how an epoch's windows are changed, [batches, B], on the device, or None."""
        if not self.augments:
            return None
        generator = self.streams.generator(Purpose.AUGMENT, epoch)
        scale, shift, added = draw_changes(self.shape, self.train.augment, generator)
        dtype = self.inputs.ecg.dtype
        return Changes(
            to_device(scale, self.device, dtype),
            to_device(shift, self.device),
            to_device(added, self.device, dtype),
        )

    def to_predict(self, *, exact: bool) -> Tensor:
        """Return the beats to predict: all of its fold, or those that a steering score needs."""
        return self.validation if exact else self.steering

    def predict(self, *, exact: bool) -> Tensor:
        """Return log-probabilities of the beats `to_predict`, [m, C], on the device."""
        return predict(self.scored, self.inputs, self.to_predict(exact=exact), exact=exact)


@torch.inference_mode()
def predict(model: Classifier, inputs: Inputs, beats: Tensor, *, exact: bool = True) -> Tensor:
    """Return a model's log-probabilities of some beats, given by index [m], as [m, C].

    All is on the device; the model is left in evaluation mode. `exact` computes in the weights'
    own type; else, where it is quicker, in that of training.
    """
    model.eval()
    chunks = []
    with nullcontext() if exact else model.in_training_precision():
        for index in torch.split(beats, evaluation_batch(beats.device)):
            batch = inputs.take(index)
            chunks.append(batch.through(model))
    return F.log_softmax(torch.cat(chunks), dim=1)


def evaluation_batch(device: torch.device) -> int:
    """Return the beats of a pass without gradients.

    On a CPU few, so that activations stay in a core's cache; elsewhere many, to fill the device.
    """
    return 128 if device.type == "cpu" else EVALUATION_BATCH


def build_members(
    config: TrialConfig,
    beats: DeviceBeats,
    splits: Sequence[Split],
    *,
    seeds: Sequence[int],
    study_seed: int,
    n_partitions: int = 1,
    dtype: torch.dtype = torch.float32,
    run_backbone: RunBackbone | None = None,
) -> list[Member]:
    """Return all members, in seed-major order: the first seed with all its folds, then the next.

    `splits` has the beats of each fold, partition by partition; seed s has the folds of partition
    s mod `n_partitions`. `dtype` is of weights, sums and scores. Without `run_backbone`
    PyTorch's modules compute the backbones.
    """
    label = beats.beats.label
    # From the labels of the whole data set, so that every fold minimises the same loss.
    weights = class_weights(
        label, config.train.class_weights, normal_beats=config.train.normal_beats_per_epoch
    )
    loss = _loss(config, weights, beats.device, dtype)
    shape = epoch_shape(
        [label[training] for training, _ in splits],
        normal_beats=config.train.normal_beats_per_epoch,
        batch_size=config.train.batch_size,
    )
    stands = stand_ins(label, beats.beats.record)
    n_folds = len(splits) // n_partitions
    members = []
    for seed_index in seeds:
        inputs = seed_inputs(
            config, beats, study_seed=study_seed, seed_index=seed_index, dtype=dtype
        )
        first = seed_index % n_partitions * n_folds
        # The inputs of a seed are one object for all its folds: the beats lie in memory once.
        for fold, (training, validation) in enumerate(splits[first : first + n_folds]):
            streams = Streams(study_seed=study_seed, seed_index=seed_index, fold=fold)
            dealt = MemberBeats(training, label[training], streams)
            model = _model(config, inputs.late, training, streams)
            if config.train.logit_adjustment == "prior":
                adjustment = logit_adjustment(weights * dealt.times_shown(shape))
                model.logit_adjustment.copy_(torch.from_numpy(adjustment))
            model.to(beats.device, dtype)
            model.run_by(run_backbone)
            members.append(
                Member(
                    model=model,
                    train=config.train,
                    loss=loss,
                    inputs=inputs,
                    label=beats.label,
                    training=dealt,
                    validation=to_device(validation, beats.device),
                    steering=to_device(validation[stands[validation] == validation], beats.device),
                    shape=shape,
                    streams=streams,
                )
            )
    return members


def _loss(
    config: TrialConfig, weights: NDArray[np.float32], device: torch.device, dtype: torch.dtype
) -> Loss:
    train = config.train
    return Loss(
        weights=to_device(weights, device, dtype),
        gamma=train.focal_gamma if train.loss == "focal" else 0.0,
        label_smoothing=train.label_smoothing,
        rr_weight=active_parameters(config).get("rr_loss", 0.0),
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
    config: TrialConfig, late: Tensor | None, training: NDArray[np.int64], streams: Streams
) -> Classifier:
    model = build_model(config.signal, config.model, seed=streams.entropy)
    if late is not None:
        # Only of the training beats: those of validation patients are not known in training.
        model.set_rr_statistics(*rr_statistics(late.cpu()[torch.from_numpy(training)]))
    return model


def rr_statistics(late: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [R] of late vectors [N, R], scalars of shape included."""
    rows = late.double()
    return rows.mean(dim=0).float(), rows.std(dim=0, correction=0).float()
