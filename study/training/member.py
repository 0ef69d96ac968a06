"""One member: the model of one fold and one seed, its optimiser and its streams.

Shapes: B batch, C classes, D embedding, H heads, L feature-map length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.config import TrainConfig
from study.models.classifier import Classifier
from study.training.batches import EpochShape, MemberBeats
from study.training.device import Inputs, to_device
from study.training.losses import Loss
from study.training.optimiser import AveragedWeights, learning_rate, make_optimiser
from study.training.seeding import Purpose, Streams

EVALUATION_BATCH = 128
"""Beats per forward pass of an evaluation: activations that fit a core's cache are quickest."""


class Member:
    """Trains and evaluates one model.

    Args:
        model: As initialised, on its device.
        train: How it is trained.
        loss: Of a batch.
        inputs: All beats, as this member's seed sees them.
        label: [N] labels of all beats, on the device.
        training: Deals the training beats.
        validation: [m] indices of the validation beats, on the device.
        shape: Batches of an epoch, shared by all members.
        streams: Its random streams.
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
        shape: EpochShape,
        streams: Streams,
    ) -> None:
        self.streams = streams
        self.inputs = inputs
        self.validation = validation
        self.shape = shape
        self._model = model
        self._train = train
        self._loss = loss
        self._label = label
        self._training = training
        self._optimiser = make_optimiser(
            model, learning_rate=train.learning_rate, weight_decay=train.weight_decay
        )
        self._average = AveragedWeights(model, decay=train.ema_decay) if train.ema_decay else None

    @property
    def scored(self) -> Classifier:
        """The model that is scored: the averaged one where averaging is on."""
        return self._model if self._average is None else self._average.model

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step taken."""
        return float(self._optimiser.param_groups[0]["lr"])

    def _learning_rate(self, step: int) -> float:
        return learning_rate(
            step,
            n_steps=self._train.epochs * self.shape.batches,
            peak=self._train.learning_rate,
            schedule=self._train.schedule,
        )

    def train_epoch(self, epoch: int) -> Tensor:
        """Train for one epoch (from 0) and return its mean loss, on the device."""
        device = self._label.device
        batches = to_device(self._training.epoch(epoch, self.shape), device)
        hidden = self._hidden(epoch)
        total = torch.zeros((), device=device)
        self._model.train()
        with self.streams.torch_generators(Purpose.DROPOUT, epoch, device):
            for number, index in enumerate(batches.unbind()):
                hide = None if hidden is None else hidden[number]
                total += self._step(epoch * len(batches) + number, index, hide)
        return total / len(batches)

    def _step(self, step: int, index: Tensor, hide_rr: Tensor | None) -> Tensor:
        batch = self.inputs.take(index)
        self._optimiser.zero_grad(set_to_none=True)
        outputs = self._model(batch.ecg, batch.early_rr, batch.late_rr, hide_rr=hide_rr)
        loss = self._loss(outputs, self._label[index])
        torch.autograd.backward(loss)
        if self._train.gradient_clip:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._train.gradient_clip)
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate(step)
        self._optimiser.step()
        if self._average is not None:
            self._average.update(step)
        return loss.detach()

    def _hidden(self, epoch: int) -> Tensor | None:
        """Return which beats' RR is hidden in an epoch, [batches, B], or None."""
        probability = self._train.rr_dropout
        if not probability or not self.inputs.has_rr:
            return None
        generator = self.streams.generator(Purpose.RR_DROPOUT, epoch)
        draws = generator.random((self.shape.batches, self.shape.batch_size))
        return to_device(draws < probability, self._label.device)

    def predict(self) -> Tensor:
        """Return log-probabilities of the validation beats, [m, C], on the device."""
        return predict(self.scored, self.inputs, self.validation)

    def state_dict(self) -> dict[str, Any]:
        """Return model, optimiser and average; random streams need none, being by epoch."""
        return {
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "average": None if self._average is None else self._average.model.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of `state_dict`."""
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._average is not None:
            self._average.model.load_state_dict(state["average"])


@torch.inference_mode()
def predict(model: Classifier, inputs: Inputs, beats: Tensor) -> Tensor:
    """Return a model's log-probabilities of some beats, [m, C], on the device.

    Args:
        model: On the device; left in evaluation mode.
        inputs: All beats.
        beats: [m] indices into them.
    """
    model.eval()
    chunks = []
    for index in torch.split(beats, EVALUATION_BATCH):
        batch = inputs.take(index)
        chunks.append(model(batch.ecg, batch.early_rr, batch.late_rr))
    return F.log_softmax(torch.cat(chunks), dim=1)
