"""What one trial may use, derived from the machine: a core and one thread, a share of a GPU."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch

from study.errors import UsageError

TRIAL_GPU_BYTES = 3 * 2**30
"""Memory that one trial needs on a GPU: CUDA context, beats, activations of one batch."""

SHARES = (1.0, 0.5, 0.25, 0.2, 0.125, 0.1)
"""GPU shares that divide one GPU without a rest; Ray counts them, it does not isolate them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of each trial and how many run side by side.

    Args:
        device: Device that trials train on.
        concurrency: Trials at once; on a cluster the number that its resources allow.
        gpus_per_trial: Share of a GPU, 0 on CPU.
    """

    device: str
    concurrency: int
    gpus_per_trial: float

    def request(self) -> dict[str, float]:
        """Return Ray's resource request of one trial."""
        return {"cpu": 1, "gpu": self.gpus_per_trial} if self.gpus_per_trial else {"cpu": 1}


def available_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_share(memory_bytes: int, need_bytes: int = TRIAL_GPU_BYTES) -> float:
    """Return the smallest share of a GPU that still holds what a trial needs."""
    fitting = [share for share in SHARES if memory_bytes * share >= need_bytes]
    return min(fitting, default=1.0)


def plan_resources(
    *,
    device: str,
    concurrency: int | None,
    gpus_per_trial: float | None,
    cluster: dict[str, float] | None = None,
) -> Resources:
    """Decide what a trial gets.

    Args:
        device: A resolved device: cpu, cuda or mps.
        concurrency: Trials at once as asked for; None derives it.
        gpus_per_trial: Share of a GPU as asked for; None derives it from memory.
        cluster: CPU and GPU totals of a running cluster; None is this machine.

    Raises:
        UsageError: If GPUs are asked for where there are none, or no trial would fit.
    """
    cores = cluster.get("CPU", 0.0) if cluster else float(available_cores())
    local_gpus = torch.cuda.device_count() if device == "cuda" else 0
    gpus = cluster.get("GPU", 0.0) if cluster else float(local_gpus)
    if gpus_per_trial and not gpus:
        raise UsageError(
            f"--gpus-per-trial {gpus_per_trial:g}: no GPU is there to share; "
            "leave it out, or use --device cpu"
        )
    share = 0.0
    if device == "cuda":
        share = gpus_per_trial or (
            gpu_share(torch.cuda.get_device_properties(0).total_memory) if local_gpus else 1.0
        )
    fits = int(min(cores, _fitting(gpus, share) if share else cores))
    if fits < 1:
        raise UsageError(
            f"no trial fits: there are {cores:g} cores and {gpus:g} GPUs, "
            f"and a trial takes 1 core and {share:g} GPU"
        )
    return Resources(
        device=device, concurrency=min(concurrency or fits, fits), gpus_per_trial=share
    )


def _fitting(gpus: float, share: float) -> float:
    """Return how many trials fit: Ray places a share below 1 on one GPU, never across two."""
    return gpus * math.floor(1 / share + 1e-9) if share <= 1 else gpus // share
