"""Random streams: by study seed, seed index, fold and purpose, never by configuration.

Two arms of a study thus see the same order of beats and the same normal beats. Each
epoch has a stream of its own number, so that a checkpoint stores no generator.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

FRESH_SEED = 1000
"""Index of the first seed of a model that is trained on all records: a study's folds have at most
1000 seeds, from 0, so that no study has used a stream of it."""


class Purpose(StrEnum):
    """The purpose of a stream; each purpose has its own stream."""

    NORMALS = "normals"
    ORDER = "order"
    DROPOUT = "dropout"
    RR_DROPOUT = "rr_dropout"
    AUGMENT = "augment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """All random streams of one member."""

    study_seed: int
    seed_index: int
    fold: int

    @property
    def entropy(self) -> tuple[int, int, int]:
        """What the member's weights are initialised from (see `study.models`)."""
        return self.study_seed, self.seed_index, self.fold

    def generator(self, purpose: Purpose, number: int) -> np.random.Generator:
        """Return the NumPy generator of a purpose; `number` is the epoch or round it serves."""
        return np.random.default_rng(self._sequence(purpose, number))

    @contextmanager
    def torch_generators(
        self, purpose: Purpose, number: int, device: torch.device
    ) -> Iterator[None]:
        """Run a block under torch generators of this stream, and restore the global ones after."""
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(self._sequence(purpose, number).generate_state(1, np.uint64)[0]))
            yield

    def _sequence(self, purpose: Purpose, number: int) -> np.random.SeedSequence:
        # crc32 instead of hash(), which differs between processes.
        return np.random.SeedSequence([*self.entropy, zlib.crc32(purpose.encode()), number])
