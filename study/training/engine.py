"""The engine of training: precision, compiled kernels, packed members."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional

from study.errors import UsageError, unknown
from study.keys import PRECISIONS
from study.models.classifier import RunBackbone
from study.models.cpu_backbone import FusedBackbone
from study.models.cpu_kernels import compiled_kernels
from study.models.pack_backbone import OneOfAPack
from study.training.member import Member
from study.training.packs import Packed, largest_pack
from study.training.serial import Serial, Trainer

BFLOAT16_PAYS = 1.25
"""Training as a whole is faster in bfloat16 where a convolution is faster by this factor."""

NO_PACKS = "its members train one by one: its fusion or its backbone has no packed form"
"""Note of a trial whose fusion or backbone, a plug-in's, does not declare `packs`."""

_DEVICES = {"tf32": ("cuda",), "bf16": ("cpu", "cuda")}
"""Devices that have a precision; every device has the others."""

WORKER_ENVIRONMENT = {
    # glibc gives activations back to the kernel after every batch and faults them in again at the
    # next: keeping them trains 10 % faster (benchmarks/README.md). No number changes.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(10**10),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Environment variables of a process that trains."""


def resolve_precision(name: str, device: str) -> str:
    """Return `fp32`, `tf32` or `bf16`; `auto` is bf16 on a CPU that convolves faster in it.

    On a GPU `auto` is fp32 until a measurement has shown that less precision costs no AUPRC there.
    A cluster's device is `auto`.

    Raises:
        UsageError: If the name is unknown, or the device does not have this precision.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision: {unknown('precision', name, PRECISIONS)}")
    if device not in _DEVICES.get(name, (device,)):
        allowed = " or ".join(f"--device {kind}" for kind in _DEVICES[name])
        raise UsageError(
            f"--precision {name}: not on this study's device, '{device}'; "
            f"leave it out, or add {allowed}"
        )
    if name != "auto":
        return name
    return "bf16" if device == "cpu" and bfloat16_gain() > BFLOAT16_PAYS else "fp32"


@cache
def bfloat16_gain() -> float:
    """Return how much faster this processor convolves in bfloat16 than in float32.

    It is measured, in a tenth of a second, because a processor's flags do not tell: with AMX it is
    3 times as fast, and a server with AVX512-BF16 but without AMX was seen at half the speed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = [(_convolution_s(torch.float32), _convolution_s(torch.bfloat16)) for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    return min(whole for whole, _ in pairs) / min(half for _, half in pairs)


def _convolution_s(dtype: torch.dtype) -> float:
    """Return the seconds of a convolution of the backbone's last stage."""
    rows = torch.ones(128, 64, 1, 64, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones(64, 64, 1, 3, dtype=dtype)
    with torch.inference_mode():
        begun = time.perf_counter()
        for _ in range(3):
            functional.conv2d(rows, weight, padding=(0, 6), dilation=(1, 6))
    return time.perf_counter() - begun


def compute_exactly() -> None:
    """Let CUDA convolve and multiply float32 in full; a pack may still train with less."""
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"


@cache
def compiles_for_gpus() -> bool:
    """Return whether `torch.compile` can make kernels for a GPU: with Triton and a C compiler."""
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, compilers))


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine of a study's trials, which is part of what shapes their results."""

    # Of training: `fp32`; `bf16` for activations and operands of convolutions; `tf32` for products
    # of a pack on a GPU; or `fp64`, weights and all, to compare engines by. Evaluation is in the
    # weights' type.
    precision: str = "fp32"
    # Whether the kernels between convolutions are compiled (on a CPU; on a GPU they are wherever
    # Triton is)
    compiled: bool = False
    # Whether a trial's members train in lockstep (see `study.training.lockstep`)
    packed: bool = False

    @property
    def weights(self) -> torch.dtype:
        """The type of weights, sums and scores."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def backbone(self, device: torch.device) -> RunBackbone | None:
        """Return what runs the backbone on a device; None where PyTorch's own modules do."""
        if self.packed:
            return OneOfAPack()
        if device.type != "cpu" or not self.compiled:
            return None
        dtype = torch.bfloat16 if self.precision == "bf16" else self.weights
        kernels = compiled_kernels(dtype)
        return None if kernels is None else FusedBackbone(dtype, kernels)

    def trainer(self, members: Sequence[Member]) -> Trainer:
        """Return the trainer of a trial's members."""
        device = members[0].device
        on_gpu = device.type == "cuda"
        if on_gpu:
            compute_exactly()
        lower = torch.bfloat16 if self.precision == "bf16" else None
        if not self.packed:
            # The fused backbone has its own way to compute in bfloat16.
            fused = members[0].model.run_backbone is not None
            return Serial(members, autocast=None if fused else lower)
        if not members[0].model.packs:
            for member in members:
                member.model.run_by(None)
            return Serial(members, autocast=lower, note=NO_PACKS)
        return Packed(
            members,
            largest=largest_pack(device, members[0]),
            dtype=lower,
            tf32=self.precision == "tf32",
            graphed=on_gpu,
            compiled=on_gpu and compiles_for_gpus(),
        )

    def __str__(self) -> str:
        """Return its name in the plan and the tracker."""
        compiled = "compiled" if self.compiled else "not compiled"
        return f"{self.precision}, {'packed' if self.packed else compiled}"
