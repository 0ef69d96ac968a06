"""What training needs of a GPU's memory, known before it starts."""

from __future__ import annotations

import sys

import torch

CONTEXT_BYTES = 2**30
"""Of a process: CUDA context, libraries and their workspaces (an estimate)."""

BYTES_PER_BEAT = 2**21
"""Of a beat in a training step: what the backward pass needs, and the gradients on their way.

`benchmarks/gpu_step.py` counts it: about half of this; the rest is room.
"""

EVALUATION_BATCH = 1024
"""Beats of a pass without gradients on a GPU, all members of a pack together."""

_BYTES_EVALUATED = 2**20
"""Of a beat in evaluation: the last stage's products and what is made of them."""

_USED = 0.9
"""Share of the memory that may be planned with: allocators leave gaps."""


def training_bytes(n_members: int, batch_size: int, shared_bytes: int) -> int:
    """Return what a process needs that trains members in lockstep.

    Args:
        n_members: Members in a pack; 1 where they train in turn.
        batch_size: Beats per step of each.
        shared_bytes: Of the beats that all share.
    """
    step = n_members * batch_size * BYTES_PER_BEAT
    return CONTEXT_BYTES + shared_bytes + max(step, EVALUATION_BATCH * _BYTES_EVALUATED)


def largest_pack(device: torch.device, batch_size: int) -> int:
    """Return how many members fit into what is free of a process's share of a device's memory."""
    if device.type != "cuda":
        return sys.maxsize
    free, total = torch.cuda.mem_get_info(device)
    share = total * torch.cuda.get_per_process_memory_fraction(device)
    own = share - torch.cuda.memory_reserved(device)
    return max(1, int(_USED * min(free, own) / (batch_size * BYTES_PER_BEAT)))
