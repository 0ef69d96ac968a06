"""Initial weights: every submodule draws them from a random stream of its own.

A stream depends only on the seed and the submodule's qualified name. A backbone thus starts alike
whatever fusion follows it, and adding or removing a part changes no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import nn


def initialise(module: nn.Module, seed: Sequence[int]) -> None:
    """Draw all parameters of a module on the CPU anew; the global random state stays as it is.

    Each submodule with parameters has `reset_parameters`. A seed is any entropy, such as (study
    seed, seed index, fold).
    """
    with torch.random.fork_rng(devices=[]):
        # Children first: a parent may then set what is special about them.
        for name, part in reversed(list(module.named_modules())):
            reset = getattr(part, "reset_parameters", None)
            if reset is not None:
                torch.default_generator.manual_seed(_stream(seed, name))
                reset()


def _stream(seed: Sequence[int], name: str) -> int:
    # Not `hash`, which differs from process to process.
    text = f"{','.join(str(int(part)) for part in seed)}:{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
