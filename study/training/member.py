"""One member: the network of one fold and one seed, what it trains on, and what it says.

Shapes: B batch, m beats to predict, k of them to steer by, C classes.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.config import TrainConfig
from study.models.classifier import Classifier
from study.training.batches import EpochShape, MemberBeats
from study.training.device import Inputs
from study.training.losses import Loss
from study.training.memory import EVALUATION_BATCH
from study.training.optimiser import AveragedWeights, learning_rate
from study.training.seeding import Purpose, Streams


class Member:
    """A network with its beats and its random streams; a `Trainer` moves its weights.

    Args:
        model: As initialised, on its device.
        train: How it is trained.
        loss: Of a batch.
        inputs: All beats, as this member's seed sees them.
        label: [N] labels of all beats, on the device.
        training: Deals the training beats.
        validation: [m] indices of the validation beats, on the device.
        steering: [k] those of them that are predicted before the last epoch.
        shape: Batches of an epoch, shared by all members.
        streams: Its random streams.

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

    def asked(self, *, exact: bool) -> Tensor:
        """Return the beats that are predicted: all of its fold, or those that scores steer by."""
        return self.validation if exact else self.steering

    def predict(self, *, exact: bool) -> Tensor:
        """Return log-probabilities of the beats that are asked for, [m, C], on the device.

        Args:
            exact: Of all validation beats, in the weights' own type; else of the steering ones
                and, where it is quicker, as in training.
        """
        return predict(self.scored, self.inputs, self.asked(exact=exact), exact=exact)


@torch.inference_mode()
def predict(model: Classifier, inputs: Inputs, beats: Tensor, *, exact: bool = True) -> Tensor:
    """Return a model's log-probabilities of some beats, [m, C], on the device.

    Args:
        model: On the device; left in evaluation mode.
        inputs: All beats.
        beats: [m] indices into them.
        exact: Compute in the weights' own type; else, where it is quicker, as in training.
    """
    model.eval()
    chunks = []
    with nullcontext() if exact else model.roughly():
        for index in torch.split(beats, evaluation_batch(beats.device)):
            batch = inputs.take(index)
            chunks.append(model(batch.ecg, batch.early_rr, batch.late_rr))
    return F.log_softmax(torch.cat(chunks), dim=1)


def evaluation_batch(device: torch.device) -> int:
    """Return the beats of a pass without gradients.

    On a CPU few, so that activations stay in a core's cache; elsewhere many, to fill the device.
    """
    return 128 if device.type == "cpu" else EVALUATION_BATCH
