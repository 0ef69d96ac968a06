"""All members of a trial in packs: in one, or in as few as a GPU's memory allows."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from study.models.backbone import FEATURES
from study.training.device import on_cpu
from study.training.lockstep import PackedStep
from study.training.member import EVALUATION_BATCH, Member
from study.training.serial import Began

_logger = logging.getLogger(__name__)

CONTEXT_BYTES = 2**30
"""Bytes of a process: CUDA context, libraries and their workspaces (an estimate)."""

BYTES_PER_BEAT = 2**21 // FEATURES
"""Bytes of a beat in a training step, for each channel of the backbone's feature map: what the
backward pass needs, and gradients on their way.

`benchmarks/gpu_step.py` counts it: about half of this; the rest is room.
"""

_BYTES_EVALUATED = 2**20 // FEATURES
"""The same in evaluation: the last stage's products and what is computed from them."""

_USED = 0.9
"""Share of the memory that plans may use: allocators leave gaps."""


def training_bytes(n_members: int, batch_size: int, width: int, shared_bytes: int) -> int:
    """Return the bytes that a process needs to train members in lockstep; 1 trains in turn.

    `width` is that of their backbones, `shared_bytes` the size of the beats that all share.
    """
    step = n_members * batch_size * BYTES_PER_BEAT
    evaluation = EVALUATION_BATCH * _BYTES_EVALUATED
    return CONTEXT_BYTES + shared_bytes + width * max(step, evaluation)


def largest_pack(device: torch.device, member: Member) -> int:
    """Return how many such members fit into a device's free memory, in this process's share."""
    if device.type != "cuda":
        return sys.maxsize
    free, total = torch.cuda.mem_get_info(device)
    share = total * torch.cuda.get_per_process_memory_fraction(device)
    unreserved = share - torch.cuda.memory_reserved(device)
    backbone = member.model.backbone
    width = FEATURES if backbone is None else backbone.features
    of_member = member.shape.batch_size * width * BYTES_PER_BEAT
    return max(1, int(_USED * min(free, unreserved) / of_member))


class Packed:
    """Trains all members of a trial in one pack, or in the fewest of at most `largest` members.

    `options` are those of every `PackedStep`.
    """

    def __init__(self, members: Sequence[Member], *, largest: int, **options: Any) -> None:
        self._options = options
        n_packs = -(-len(members) // max(1, largest))
        bounds = [len(members) * pack // n_packs for pack in range(n_packs + 1)]
        self._packs = [
            PackedStep(members[start:end], **options)
            for start, end in zip(bounds, bounds[1:], strict=False)
        ]
        self._split = "" if n_packs == 1 else f"{len(members)} members in {n_packs} packs"

    @property
    def note(self) -> str:
        """What happened that a user should know; empty if nothing did."""
        notes = dict.fromkeys([self._split, *(pack.note for pack in self._packs)])
        return "; ".join(note for note in notes if note)

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step taken."""
        return self._packs[0].last_learning_rate

    def train_epoch(self, epoch: int, began: Began | None = None) -> Tensor:
        """Train all members for one epoch (from 0); return their mean losses, on the device.

        A pack that does not fit into memory in its first epoch is halved, and starts that epoch
        again from the weights that it had.

        Raises:
            torch.OutOfMemoryError: If a single member does not fit.
        """
        losses: list[Tensor] = []
        while len(losses) < len(self._packs):
            pack = self._packs[len(losses)]
            # A pack that has trained an epoch fits: only a new one is copied before it is tried.
            before = None if pack.tried else on_cpu(pack.state_dicts())
            try:
                losses.append(pack.train_epoch(epoch))
                continue
            except torch.OutOfMemoryError:
                if before is None or len(pack.members) == 1:
                    raise
            # Not inside `except`: there the error still holds the frames, and so their tensors.
            self._halve(len(losses), before)
        return torch.cat(losses)

    def _halve(self, number: int, before: Sequence[Mapping[str, Any]]) -> None:
        """Replace a pack by two of half its members, with the states that these had before."""
        members = self._packs[number].members
        del self._packs[number]
        if members[0].device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(members) // 2
        for part in (slice(half, None), slice(None, half)):
            pack = PackedStep(members[part], **self._options)
            pack.load_state_dicts(before[part])
            self._packs.insert(number, pack)
        sizes = ", ".join(str(len(pack.members)) for pack in self._packs)
        self._split = f"out of memory with {len(members)} members in a pack; now packs of {sizes}"
        _logger.warning("%s", self._split)

    def predict(self, *, exact: bool) -> list[Tensor]:
        """Return each member's log-probabilities, [m, C], of the beats that it is to predict.

        They are always in the weights' own type: predicting is a small part of the time here.
        """
        return [predicted for pack in self._packs for predicted in pack.predict(exact=exact)]

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return each member's model, optimiser and average."""
        return [state for pack in self._packs for state in pack.state_dicts()]

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over states of `state_dicts`."""
        start = 0
        for pack in self._packs:
            pack.load_state_dicts(states[start : start + len(pack.members)])
            start += len(pack.members)
        if start != len(states):
            raise ValueError(f"states of {len(states)} members for {start}")
