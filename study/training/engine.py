"""How the arithmetic of training is done: its precision, and whether kernels are compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from study.errors import UsageError, unknown
from study.keys import PRECISIONS
from study.models.fused import FusedBackbone
from study.models.kernels import PLAIN, compiled_kernels

COMPILED_FROM_BEATS = 50_000
"""Beats that a trial trains on, from which compiling pays: it takes seconds in every worker."""

WORKER_ENVIRONMENT = {
    # glibc gives activations back to the kernel after every batch and faults them in again at the
    # next: keeping them trains 10 % faster (benchmarks/README.md). No number changes.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(10**10),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""What a process that trains is started with."""


def resolve_precision(name: str, device: str) -> str:
    """Return `fp32` or `bf16`; `auto` is bf16 on a CPU that multiplies bfloat16 itself.

    Args:
        name: One of `study.keys.PRECISIONS`.
        device: `cpu`, `cuda`, `mps`, or `auto` for a cluster's.

    Raises:
        UsageError: If the name is unknown, or bf16 is asked for on anything but a CPU.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision: {unknown('precision', name, PRECISIONS)}")
    if name == "bf16" and device != "cpu":
        raise UsageError(
            f"--precision bf16: only on a CPU so far, this study's device is '{device}'; "
            "leave it out, or add --device cpu"
        )
    if name != "auto":
        return name
    return "bf16" if device == "cpu" and _multiplies_bfloat16() else "fp32"


def _multiplies_bfloat16() -> bool:
    # Emulated, bfloat16 is slower than float32.
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@dataclass(frozen=True, slots=True)
class Engine:
    """What a study's trials compute with; part of what shapes their results.

    Args:
        precision: Of training: `fp32`, or `bf16` for activations and operands of convolutions.
            Evaluation is in float32.
        compiled: Whether the kernels between convolutions are compiled.
    """

    precision: str = "fp32"
    compiled: bool = False

    def backbone(self, device: torch.device) -> FusedBackbone | None:
        """Return what runs the backbone on a device, or None where it runs as it is written."""
        if device.type != "cpu":
            return None
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return FusedBackbone(dtype, compiled_kernels(dtype) if self.compiled else PLAIN)

    def __str__(self) -> str:
        """Return what the plan and the tracker call it."""
        return f"{self.precision}, {'compiled' if self.compiled else 'not compiled'}"
