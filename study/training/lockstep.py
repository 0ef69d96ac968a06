"""Members trained in lockstep as one packed model: the quickest way on a GPU.

A network of this size leaves most of a big GPU idle: a step is hundreds of kernels, each over in
less time than it takes to launch. Packed, all members (folds x seeds) of a trial make one step
together: each parameter is stacked along a first axis [K, ...], `study.models.pack_backbone`
runs the backbones, `torch.vmap` fusions and losses, and one backward pass and one optimiser step
serve all (the idea of HFTA, Wang et al. 2021, arXiv:2102.02344). Members never mix: weights, batch
statistics, batches, losses, gradient norms and divergence are each member's own. On CUDA the step
is captured as a graph once, and replayed.

What differs from training one by one is rounding, and the random numbers of dropout, which are
drawn for the whole pack.

Shapes: K members, B batch, N beats, S seeds, T samples, R RR features, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from study.config import N_SAMPLES
from study.models.pack_backbone import PackedBackbone
from study.training.batches import Changes
from study.training.device import Inputs
from study.training.member import Member, evaluation_batch
from study.training.optimiser import make_optimiser, move_average
from study.training.seeding import Purpose

_WARM_UP_STEPS = 3
"""Steps before a capture, as PyTorch's documentation has it; they are undone."""


class PackedStep:
    """Trains K members in lockstep.

    The members' own parameters and buffers become views of the stacked ones, so that a member's
    `model` and `scored` are always up to date.

    Attributes:
        tried: Whether an epoch has been trained, which shows that the pack fits into memory.

    Args:
        dtype: Of the backbone's activations and products in training; None is the weights' own.
        tf32: Train with CUDA's products of float32 in TensorFloat-32; predict without.
        graphed: Capture the step as a CUDA graph.
        compiled: Compile the backbone.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        dtype: torch.dtype | None = None,
        tf32: bool = False,
        graphed: bool = False,
        compiled: bool = False,
    ) -> None:
        first = members[0]
        self.members = members
        self.tried = False
        self._device = first.device
        self._tf32 = tf32
        self._train = first.train
        self._loss = first.loss
        # A module without its own memory: it only gives structure to the stacked parameters.
        self._skeleton = copy.deepcopy(first.model).to("meta")
        self._inputs = _PackedInputs([member.inputs for member in members])
        self._state = _stack([member.model for member in members])
        names = [name for name, p in first.model.named_parameters() if p.requires_grad]
        self._parameters = [self._state[name].requires_grad_() for name in names]
        self._average = (
            None if first.average is None else _stack([member.scored for member in members])
        )
        exact = self._loss.weights.dtype
        # CUDA's fused optimiser takes no other type, whatever the weights' is.
        rate_dtype = torch.float32 if self._device.type == "cuda" else exact
        self._rate = torch.tensor(first.learning_rate(0), dtype=rate_dtype, device=self._device)
        self._optimiser = make_optimiser(
            list(zip(names, self._parameters, strict=True)),
            learning_rate=self._rate,
            weight_decay=self._train.weight_decay,
            packed=True,
        )
        # From here on what a step reads and writes is changed in place: a captured graph knows
        # addresses, not names.
        shape = (len(members), first.shape.batch_size)
        self._index = torch.zeros(shape, dtype=torch.int64, device=self._device)
        self._hide: Tensor | None = None
        if self._train.rr_dropout and first.inputs.has_rr:
            self._hide = torch.zeros(shape, dtype=torch.bool, device=self._device)
        self._change: Changes | None = None
        if first.augments:
            added = self._inputs.take(self._index).ecg.new_zeros((*shape, N_SAMPLES))
            self._change = Changes(
                torch.ones_like(added[..., 0]), torch.zeros_like(self._index), added
            )
        self._losses = torch.zeros(len(members), dtype=exact, device=self._device)
        self._backbone = PackedBackbone(dtype, compiled=compiled)
        self._graphed = graphed
        self._replay: Callable[[], None] | None = None

    @property
    def note(self) -> str:
        """Note for the user, or an empty string."""
        return self._backbone.note

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step taken."""
        return float(self._rate)

    def train_epoch(self, epoch: int) -> Tensor:
        """Train for one epoch (from 0); return each member's mean loss [K], on the device."""
        batches = torch.stack([torch.from_numpy(m.batches(epoch)) for m in self.members], dim=1)
        batches = batches.to(self._device)
        hide = None
        if self._hide is not None:
            drawn = [torch.from_numpy(cast(Any, m.hidden(epoch))) for m in self.members]
            hide = torch.stack(drawn, dim=1).to(self._device)
        changes = None
        if self._change is not None:
            of_members = [cast(Changes, member.changes(epoch)) for member in self.members]
            changes = [torch.stack(part, dim=1) for part in zip(*of_members, strict=True)]
        self._skeleton.train()
        self._index.copy_(batches[0])
        with self._products():
            advance = self._advance()
        self._losses.zero_()
        # One stream for the pack: dropout is drawn for all members at once.
        streams = self.members[0].streams
        with streams.torch_generators(Purpose.DROPOUT, epoch, self._device), self._products():
            for number, index in enumerate(batches.unbind()):
                step = epoch * len(batches) + number
                self._index.copy_(index)
                if self._hide is not None and hide is not None:
                    self._hide.copy_(hide[number])
                for buffer, values in zip(self._change or (), changes or (), strict=True):
                    buffer.copy_(values[number])
                self._rate.fill_(self.members[0].learning_rate(step))
                advance()
                self._move_average(step)
        self.tried = True
        return self._losses / len(batches)

    @torch.inference_mode()
    def predict(self, *, exact: bool) -> list[Tensor]:
        """Return each member's log-probabilities, [m, C], of its beats to predict."""
        self._skeleton.eval()
        state = self._state if self._average is None else self._average
        # Padded with beat 0: in evaluation a beat does not depend on its batch mates.
        beats = [member.to_predict(exact=exact) for member in self.members]
        index = pad_sequence(beats, batch_first=True)
        size = max(1, evaluation_batch(self._device) // len(self.members))
        outputs = [
            self._outputs_of(state, self._inputs.take(part), None)
            for part in index.split(size, dim=1)
        ]
        log_probs = F.log_softmax(torch.cat(outputs, dim=1), dim=2)
        return [
            rows[: len(member_beats)] for rows, member_beats in zip(log_probs, beats, strict=True)
        ]

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return each member's model, optimiser and average, as if it had been trained alone."""
        whole = self._optimiser.state_dict()
        groups = [{**group, "lr": self.last_learning_rate} for group in whole["param_groups"]]
        return [
            {
                "model": member.model.state_dict(),
                "optimiser": {
                    "state": {
                        number: {
                            name: value if name == "step" else value[k]
                            for name, value in moments.items()
                        }
                        for number, moments in whole["state"].items()
                    },
                    "param_groups": groups,
                },
                "average": None if member.average is None else member.average.model.state_dict(),
            }
            for k, member in enumerate(self.members)
        ]

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take over states of `state_dicts`, or of members trained one by one."""
        for member, state in zip(self.members, states, strict=True):
            # Copied into the views, and so into the stacked tensors.
            member.model.load_state_dict(state["model"])
            if member.average is not None:
                member.average.model.load_state_dict(state["average"])
        optimisers = [state["optimiser"] for state in states]
        stacked = {
            number: {
                name: moments[name]
                if name == "step"
                else torch.stack([state["state"][number][name] for state in optimisers])
                for name in moments
            }
            for number, moments in optimisers[0]["state"].items()
        }
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": stacked, "param_groups": groups})
        # Loading copies the groups, and with them the tensor that is changed in place.
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate
        self._rate.fill_(float(optimisers[0]["param_groups"][0]["lr"]))
        self._replay = None

    def _advance(self) -> Callable[[], None]:
        """Return the function that makes a step from the batch, mask and rate prepared here."""
        if not self._graphed:
            return self._step
        if self._replay is None:
            self._replay = self._captured()
        return self._replay

    def _step(self) -> None:
        batch = self._inputs.take(self._index)
        if self._change is not None:
            batch = replace(batch, ecg=self._change.of(batch.ecg))
        outputs = self._outputs_of(self._state, batch, self._hide)
        label = self.members[0].label[self._index]
        # Not the loss itself: vmap names what it maps, and an object's repr prints its tensors,
        # which waits for the device and ends a capture.
        losses = torch.vmap(self._loss.__call__)(outputs.to(self._losses.dtype), label)
        raw = torch.autograd.grad(losses.sum(), self._parameters, allow_unused=True)
        # The fused optimiser takes a transposed gradient for one laid out like its parameter.
        gradients = [None if gradient is None else gradient.contiguous() for gradient in raw]
        if self._train.gradient_clip:
            _clip([g for g in gradients if g is not None], self._train.gradient_clip)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()
        self._losses += losses.detach()

    def _outputs_of(
        self, state: dict[str, Tensor], batch: Inputs, hide_rr: Tensor | None
    ) -> Tensor:
        """Return logits or log-probabilities [K, B, C] of a batch of [K, B, ...]."""

        def outputs_of_member(state: dict[str, Tensor], *arguments: Tensor | None) -> Tensor:
            outputs: Tensor = functional_call(self._skeleton, state, arguments)
            return outputs

        feature_map = None
        if self._skeleton.backbone is not None:
            rows = self._skeleton.rows(batch.ecg, batch.early_rr, hide_rr)
            feature_map = self._backbone(
                state,
                rows,
                training=self._skeleton.training,
                over_time=self._skeleton.fusion.over_time,
            )
        rr = (batch.early_rr, batch.late_rr, hide_rr)
        arguments = (batch.ecg, *rr, feature_map, batch.late_shape)
        axes = (0, *(None if argument is None else 0 for argument in arguments))
        packed = torch.vmap(outputs_of_member, in_dims=axes, randomness="different")
        outputs: Tensor = packed(state, *arguments)
        return outputs

    def _move_average(self, step: int) -> None:
        if self._average is not None:
            values = [self._state[name] for name in self._average]
            move_average(
                list(self._average.values()), values, decay=self._train.ema_decay, step=step
            )

    def _captured(self) -> Callable[[], None]:
        """Capture a step as a CUDA graph, leaving all state as it was."""
        with self._undone():
            aside = torch.cuda.Stream(self._device)
            aside.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP_STEPS):
                    self._step()
            torch.cuda.current_stream(self._device).wait_stream(aside)
            for parameter in self._parameters:
                parameter.grad = None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
        return graph.replay

    @contextmanager
    def _products(self) -> Iterator[None]:
        """Compute products in the precision of training while this is open."""
        cuda = torch.backends.cuda.matmul
        before = cuda.fp32_precision
        cuda.fp32_precision = "tf32" if self._tf32 else "ieee"
        try:
            yield
        finally:
            cuda.fp32_precision = before

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Take back what steps change while this is open; their memory stays where it is.

        A graph replays the same addresses, so that the state must be restored in place.
        """
        before = {
            id(tensor): tensor.detach().clone()
            for tensor in (*self._state.values(), *self._moments())
        }
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor in (*self._state.values(), *self._moments()):
                    was = before.get(id(tensor))
                    # The first step makes the moments, as zeros.
                    tensor.zero_() if was is None else tensor.copy_(was)

    def _moments(self) -> list[Tensor]:
        states = self._optimiser.state.values()
        return [value for moments in states for value in moments.values()]


class _PackedInputs:
    """The inputs of several members, whose RR may differ: under a placebo each seed has its own.

    Members of one seed have one object of inputs in common.
    """

    def __init__(self, inputs: Sequence[Inputs]) -> None:
        distinct = list({id(of_member): of_member for of_member in inputs}.values())
        first = distinct[0]
        rows = [[of_member is other for other in distinct].index(True) for of_member in inputs]
        self._row = torch.tensor(rows, device=first.ecg.device)[:, None]
        self._ecg = first.ecg
        self._early = _stacked_rr([of_seed.early_rr for of_seed in distinct])
        self._late = _stacked_rr([of_seed.late_rr for of_seed in distinct])
        self._shape = first.late_shape

    def take(self, index: Tensor) -> Inputs:
        """Return a batch [K, B, ...] of the beats of an index tensor [K, B]."""
        return Inputs(
            ecg=self._ecg[index],
            early_rr=None if self._early is None else self._early[self._row, index],
            late_rr=None if self._late is None else self._late[self._row, index],
            late_shape=None if self._shape is None else self._shape[index],
        )


def _stacked_rr(rows: Sequence[Tensor | None]) -> Tensor | None:
    """Return RR features of the distinct inputs [S, N, R], or None where there are none."""
    present = [row for row in rows if row is not None]
    return torch.stack(present) if present else None


def _stack(models: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return parameters and buffers [K, ...] by name; the models' own become views of them."""
    tensors = [dict((*model.named_parameters(), *model.named_buffers())) for model in models]
    stacked = {}
    for name in tensors[0]:
        stack = torch.stack([of_model[name].detach() for of_model in tensors])
        for of_model, view in zip(tensors, stack, strict=True):
            of_model[name].data = view
        stacked[name] = stack
    return stacked


def _clip(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale each member's gradients [K, ...] as `torch.nn.utils.clip_grad_norm_` scales one's."""
    # Side by side, so that the norms of all take two kernels.
    norms = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).norm(dim=1)
    factor = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.ndim - 1)))
