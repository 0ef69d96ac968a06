"""Members trained one after the other: the quickest way on a CPU.

Packed into one model they would be slower there: the activations of one member fill a core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from study.training.batches import Changes
from study.training.device import to_device
from study.training.member import Member
from study.training.optimiser import make_optimiser
from study.training.seeding import Purpose

Began = Callable[[int], None]
"""Called with a member's number, from 1, as its training begins."""


class Trainer(Protocol):
    """Trains the members of a trial: in turn (`Serial`) or in lockstep (`Packed`).

    A member's state does not depend on the trainer, so that another can continue a checkpoint.
    """

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step taken."""

    @property
    def note(self) -> str:
        """What happened that a user should know; empty if nothing did."""

    def train_epoch(self, epoch: int, began: Began | None = None) -> Tensor:
        """Train all members for one epoch (from 0); return their mean losses, on the device.

        Where members train in turn, `began` is called as each begins.
        """

    def predict(self, *, exact: bool) -> list[Tensor]:
        """Return each member's log-probabilities, [m, C], of the beats that it is to predict.

        `exact` predicts all validation beats in the weights' own type; else only the steering
        beats are predicted and, where it is quicker, in the type of training.
        """

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return each member's model, optimiser and average; random streams need no state."""

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over states of `state_dicts`."""


class Serial:
    """Trains members in turn, each for a whole epoch.

    `autocast` is the type of operands of convolutions and products in training; None is the
    weights' own. `note` is for the user.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        autocast: torch.dtype | None = None,
        note: str = "",
    ) -> None:
        self.note = note
        self._members = members
        self._autocast = autocast
        self._optimisers = [
            make_optimiser(
                list(member.model.named_parameters()),
                learning_rate=member.train.learning_rate,
                weight_decay=member.train.weight_decay,
            )
            for member in members
        ]

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step taken."""
        return float(self._optimisers[0].param_groups[0]["lr"])

    def train_epoch(self, epoch: int, began: Began | None = None) -> Tensor:
        """Train all members for one epoch (from 0); return their mean losses, on the device."""
        losses = []
        pairs = zip(self._members, self._optimisers, strict=True)
        for number, (member, adamw) in enumerate(pairs, start=1):
            if began is not None:
                began(number)
            losses.append(self._train_epoch(member, adamw, epoch))
        return torch.stack(losses)

    def predict(self, *, exact: bool) -> list[Tensor]:
        """Return each member's log-probabilities, [m, C], of the beats that it is to predict."""
        return [member.predict(exact=exact) for member in self._members]

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return each member's model, optimiser and average."""
        return [
            {
                "model": member.model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": None if member.average is None else member.average.model.state_dict(),
            }
            for member, optimiser in zip(self._members, self._optimisers, strict=True)
        ]

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over states of `state_dicts`."""
        for member, adamw, state in zip(self._members, self._optimisers, states, strict=True):
            member.model.load_state_dict(state["model"])
            adamw.load_state_dict(state["optimiser"])
            if member.average is not None:
                member.average.model.load_state_dict(state["average"])

    def _train_epoch(self, member: Member, optimiser: torch.optim.AdamW, epoch: int) -> Tensor:
        batches = to_device(member.batches(epoch), member.device)
        hidden = member.hidden(epoch)
        hide = None if hidden is None else to_device(hidden, member.device)
        changes = member.changes(epoch)
        total = torch.zeros((), dtype=member.loss.weights.dtype, device=member.device)
        member.model.train()
        with member.streams.torch_generators(Purpose.DROPOUT, epoch, member.device):
            for number, index in enumerate(batches.unbind()):
                hide_rr = None if hide is None else hide[number]
                change = None if changes is None else Changes(*(c[number] for c in changes))
                step = epoch * len(batches) + number
                total += self._step(member, optimiser, step, index, hide_rr, change)
        return total / len(batches)

    def _step(
        self,
        member: Member,
        optimiser: torch.optim.AdamW,
        step: int,
        index: Tensor,
        hide_rr: Tensor | None,
        change: Changes | None,
    ) -> Tensor:
        batch = member.inputs.take(index)
        if change is not None:
            batch = replace(batch, ecg=change.of(batch.ecg))
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(
            member.device.type, self._autocast, enabled=self._autocast is not None
        ):
            outputs = batch.through(member.model, hide_rr)
        loss = member.loss(outputs.to(member.loss.weights.dtype), member.label[index])
        torch.autograd.backward(loss)
        if member.train.gradient_clip:
            nn.utils.clip_grad_norm_(member.model.parameters(), member.train.gradient_clip)
        # Computed from the step, so that a checkpoint holds no state of a schedule.
        for group in optimiser.param_groups:
            group["lr"] = member.learning_rate(step)
        optimiser.step()
        if member.average is not None:
            member.average.update(step)
        return loss.detach()
