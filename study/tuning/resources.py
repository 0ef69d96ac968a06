"""Resources of one trial, derived from the machine: a core and one thread, a share of a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import joblib
import torch

from study.errors import UsageError

SHARES = (1.0, 0.5)
"""Default number of trials on one GPU; Ray counts shares but does not isolate them.

With two, one trains while the other is scored and written. More would wait for each other:
processes take turns on a GPU, and four trained 7 % more than one (`benchmarks/README.md`).
"""

_OF_A_NODE = 0.001
"""Share of a node's own resource that binds a trial to it: each node has one such unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the user asks for."""

    device: str = "cpu"  # a resolved device: cpu, cuda or mps
    concurrency: int | None = None  # trials at once; None derives it
    gpus_per_trial: float | None = None  # share of a GPU; None derives it from memory
    trial_gpu_bytes: int = 2**30  # bytes of GPU memory that a trial needs
    shared_storage: bool = False  # whether every node can reach the trials' files


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of each trial and how many run side by side."""

    concurrency: int  # trials at once; at most the number that the resources allow
    gpus_per_trial: float = 0.0  # share of a GPU, 0 on CPU
    node: str = ""  # Ray's name of the only node that trials may run on; empty allows any

    def request(self) -> dict[str, float]:
        """Return Ray's resource request of one trial."""
        wanted = {"cpu": 1, "gpu": self.gpus_per_trial, self.node: _OF_A_NODE if self.node else 0}
        return {name: amount for name, amount in wanted.items() if amount}


def available_cores() -> int:
    """Return the cores that this process may use, by its affinity and its container's quota."""
    return int(joblib.cpu_count())


def gpu_share(memory_bytes: int, need_bytes: int) -> float:
    """Return the smallest share of a GPU that still has the memory for a trial."""
    fitting = [share for share in SHARES if memory_bytes * share >= need_bytes]
    return min(fitting, default=1.0)


def plan_resources(
    demand: Demand, nodes: Sequence[Mapping[str, float]] | None = None
) -> Resources:
    """Decide what a trial gets.

    Args:
        demand: What was asked for.
        nodes: CPU and GPU totals of each node of a running cluster; None is this machine. A trial
            runs on one node, so trials that fit are counted node by node.

    Raises:
        UsageError: If GPUs are asked for where there are none, or no trial would fit.
    """
    here = {
        "CPU": float(available_cores()),
        "GPU": float(torch.cuda.device_count() if demand.device == "cuda" else 0),
    }
    counted = [
        (node.get("CPU", 0.0), node.get("GPU", 0.0))
        for node in ([here] if nodes is None else nodes)
    ]
    cores, gpus = sum(cpu for cpu, _ in counted), sum(gpu for _, gpu in counted)
    share = demand.gpus_per_trial or 0.0
    if share and not gpus:
        raise UsageError(
            f"--gpus-per-trial {share:g}: there is no GPU to share; leave it out, or use --device "
            "cpu"
        )
    if not share and gpus and demand.device in ("cuda", "auto"):
        share = _share_here(demand.trial_gpu_bytes) if torch.cuda.is_available() else 1.0
    fits = sum(int(min(cpu, _fitting(gpu, share)) if share else cpu) for cpu, gpu in counted)
    if fits < 1:
        raise UsageError(
            f"no trial fits: there are {cores:g} cores and {gpus:g} GPUs, "
            f"and a trial takes 1 core and {share:g} GPU"
            + (f" of one of {len(counted)} nodes" if len(counted) > 1 else "")
        )
    return Resources(concurrency=min(demand.concurrency or fits, fits), gpus_per_trial=share)


def _share_here(need_bytes: int) -> float:
    smallest = min(
        torch.cuda.get_device_properties(index).total_memory
        for index in range(torch.cuda.device_count())
    )
    return gpu_share(smallest, need_bytes)


def _fitting(gpus: float, share: float) -> float:
    """Return how many trials fit: Ray places a share below 1 on one GPU, never across two."""
    return gpus * math.floor(1 / share + 1e-9) if share <= 1 else gpus // share
