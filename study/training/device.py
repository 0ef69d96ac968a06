"""Devices, and beats on them: moved there once, then taken by index.

Shapes: N beats, B batch, T samples, R RR features, D scalars of shape, P permutations, M sampled
beats.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.config import SignalSpec
from study.data.beat_set import BeatSet
from study.errors import UsageError, unknown
from study.models.classifier import Classifier

_logger = logging.getLogger(__name__)

_DEVICES = ("auto", "cpu", "cuda", "mps")

NODES = Path("/dev")
"""Where Linux has a node nvidia0, nvidia1, ... for each NVIDIA GPU of this process."""


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is CUDA, else MPS, else the CPU.

    A warning names a GPU that PyTorch cannot use before `auto` takes the CPU.

    Raises:
        UsageError: If the name is unknown, or there is no such device here.
    """
    kind = name.partition(":")[0]
    if kind not in _DEVICES:
        raise UsageError(f"device: {unknown('device', name, _DEVICES)}")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if kind == "auto":
        kind = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
        if kind == "cpu" and (why := _unusable_gpu()):
            _logger.warning(
                "%s. Training takes the CPU; --device cpu takes it without this warning", why
            )
        return torch.device(kind)
    if not available[kind]:
        names = ", ".join(kind for kind in available if available[kind])
        why = f". {why}" if kind == "cuda" and (why := _unusable_gpu()) else ""
        raise UsageError(f"device: '{name}' is not available here; available: {names}{why}")
    return torch.device(name)


def _unusable_gpu() -> str:
    """Say why PyTorch cannot use the GPU of this machine; empty where it has none to use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or torch.cuda.is_available() or not any(NODES.glob("nvidia[0-9]*")):
        return ""
    cuda = torch.version.cuda
    has = f"needs a driver for CUDA {cuda}" if cuda else "is built for CPUs only"
    return (
        f"An NVIDIA GPU is here, but this PyTorch ({torch.__version__}) {has}: docs/install.md "
        "has the line that installs one for the driver (`nvidia-smi` names its CUDA)"
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def to_device(
    array: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Return a tensor with a copy of an array, which may be read-only, on the device."""
    return torch.tensor(array, device=device, dtype=dtype)


def on_cpu(state: Any) -> Any:
    """Return a copy of nested containers with every tensor copied to the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: on_cpu(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(on_cpu(value) for value in state)
    return state


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Inputs of models: a whole set of beats [N], or a batch [B]."""

    ecg: Tensor  # [N, T] windows; [N, 2, T] under `morphology = both`
    early_rr: Tensor | None  # [N, 2] ratios of the early channels, or None
    late_rr: Tensor | None  # [N, R] late RR vectors, or None
    late_shape: Tensor | None = None  # [N, D] scalars of shape after these, or None

    def take(self, index: Tensor) -> Inputs:
        """Return the beats of an index tensor."""
        shape = None if self.late_shape is None else self.late_shape[index]
        return self.donated(replace(self, ecg=self.ecg[index], late_shape=shape), index)

    def donated(self, beats: Inputs, donors: Tensor) -> Inputs:
        """Return `beats` [B] with the RR of other beats, `donors` [B], of these inputs."""
        return replace(
            beats,
            early_rr=None if self.early_rr is None else self.early_rr[donors],
            late_rr=None if self.late_rr is None else self.late_rr[donors],
        )

    def through(self, model: Classifier, hide_rr: Tensor | None = None) -> Tensor:
        """Return a model's logits or log-probabilities of these beats, [B, C]."""
        outputs: Tensor = model(
            self.ecg, self.early_rr, self.late_rr, hide_rr=hide_rr, late_shape=self.late_shape
        )
        return outputs

    @property
    def late(self) -> Tensor | None:
        """Late vectors, RR and shape, [N, R + D], or None."""
        if self.late_rr is None or self.late_shape is None:
            return self.late_rr
        return torch.cat((self.late_rr, self.late_shape), dim=1)

    @property
    def has_rr(self) -> bool:
        """Whether RR is among the inputs, as channels or vector."""
        return self.early_rr is not None or self.late_rr is not None


class DeviceBeats:
    """A beat set on a device. A worker makes one per beat set and uses it for all its trials."""

    def __init__(self, beats: BeatSet, device: torch.device) -> None:
        self.beats = beats
        self.device = device
        self._placed: dict[str, Tensor] = {}
        self.label = to_device(beats.label, device)

    def windows(self, morphology: str) -> Tensor:
        """Return the windows that networks see, [N, T] or [N, 2, T]; they are placed once."""
        return self._once(f"windows {morphology}", lambda: self.beats.windows(morphology))

    def recut(self, morphology: str) -> Tensor | None:
        """Return the re-cut windows of the reliance sample, as `windows`, [P, M, ...], or None."""
        if self.beats.reliance.windows is None:
            return None
        return self._once(f"recut {morphology}", lambda: self.beats.recut(morphology))

    def _once(self, name: str, array: Callable[[], NDArray[np.float32]]) -> Tensor:
        if name not in self._placed:
            self._placed[name] = to_device(array(), self.device)
        return self._placed[name]

    def inputs(
        self,
        signal: SignalSpec,
        order: NDArray[np.int64] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> Inputs:
        """Return the inputs of a configuration, in the type of the models' weights.

        `order` [N] is the index of the beat whose RR each beat gets; None leaves each its own.
        """

        def placed(rr: NDArray[np.float32] | None) -> Tensor | None:
            if rr is None:
                return None
            return to_device(rr if order is None else rr[order], self.device, dtype)

        shape = self.beats.late_shape(signal)
        return Inputs(
            ecg=self.windows(signal.morphology).to(dtype),
            early_rr=placed(self.beats.early_rr(signal)),
            late_rr=placed(self.beats.late_rr(signal)),
            # Under a placebo too each beat keeps its own shape.
            late_shape=None if shape is None else to_device(shape, self.device, dtype),
        )
