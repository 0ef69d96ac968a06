"""Chooses and orders a member's training beats, and its beats to predict before the last epoch.

An epoch of a member is all its S, V and F beats, once each, topped up with fresh N beats to the
length that all members of the trial share. Normal beats are dealt from one shuffled deck after the
other, so that none comes twice before all have come once.

Before the last epoch a score only steers the search. Nine beats of ten are normal and neighbours
look alike. So until then only every fifth normal beat of a record is predicted, and represents its
neighbours; all S, V and F beats are predicted. Such a score differs from the score
of all beats only by a little noise, and costs a quarter (`benchmarks/README.md`). The last epoch
predicts every beat.

With `augment` each window is changed a little, differently in every epoch: in amplitude, position
in time and baseline, and by noise. RR and scalars of shape stay as they are.

Shapes: N beats, B batch, T samples (128).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.config import N_SAMPLES
from study.errors import DataError
from study.keys import CLASSES
from study.training.seeding import Purpose, Streams

NORMAL = CLASSES.index("N")
"""The class of normal beats."""

STANDS_FOR = 5
"""Before the last epoch one normal beat represents this many."""

AMPLITUDE_SD, NOISE_SD, WANDER_SD, LARGEST_SHIFT = 0.2, 0.1, 0.2, 4
"""What strength 1 of `augment` does: sd of the log of a factor on the window; sd of white noise,
and of the amplitude of a slow sine, in sds of the beat; samples to either side."""

_CYCLES = (0.25, 1.0)
"""Fewest and most cycles of the sine in a window."""


@dataclass(frozen=True, slots=True)
class EpochShape:
    """Batches per epoch and beats per batch, the same for every member of a trial."""

    batches: int
    batch_size: int

    @property
    def beats(self) -> int:
        """Beats that one member sees per epoch."""
        return self.batches * self.batch_size


def epoch_shape(
    labels: Sequence[NDArray[np.int64]], *, normal_beats: int, batch_size: int
) -> EpochShape:
    """Return the epoch that fits every member.

    It has the S, V and F beats of the member with most of them, and `normal_beats` N beats (0: as
    many beats as the largest member). It is cut into the fewest equal batches of at most
    `batch_size`: unlike full ones, equal batches keep the share of N beats nearly independent of
    the batch size.

    Raises:
        DataError: If a member has no beat to train on.
    """
    empty = [fold for fold, label in enumerate(labels) if len(label) == 0]
    if empty:
        raise DataError(f"training: no beat to train on in fold(s) {empty}; use fewer folds")
    if normal_beats:
        longest = max(int((label != NORMAL).sum()) for label in labels) + normal_beats
    else:
        longest = max(len(label) for label in labels)
    # Divided upwards: no beat may be left out.
    batches = -(-longest // batch_size)
    return EpochShape(batches, -(-longest // batches))


class Changes(NamedTuple):
    """How windows are changed: of an epoch [batches, B], a batch [B] or a pack's batch [K, B]."""

    scale: Tensor  # [..., B] factors on windows
    shift: Tensor  # [..., B] samples to the left; what leaves the window is lost, its end repeats
    added: Tensor  # [..., B, T] noise and baseline

    def of(self, ecg: Tensor) -> Tensor:
        """Return changed windows [..., B, T] or [..., B, 2, T]; both of a beat change alike."""
        rows = ecg if ecg.ndim > self.added.ndim else ecg.unsqueeze(-2)
        places = torch.arange(rows.shape[-1], device=rows.device) + self.shift[..., None, None]
        moved = rows.gather(-1, places.clamp(0, rows.shape[-1] - 1).expand(rows.shape))
        changed = moved * self.scale[..., None, None] + self.added[..., None, :]
        return changed.view(ecg.shape)


def draw_changes(
    shape: EpochShape, strength: float, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return the parts of an epoch's `Changes`. Another strength has the same draws, scaled."""
    size = (shape.batches, shape.batch_size)
    normal, wander = generator.standard_normal((2, *size), dtype=np.float32)
    cycles, phase = generator.uniform(*_CYCLES, size), generator.uniform(0, 2 * np.pi, size)
    shift = np.rint(strength * LARGEST_SHIFT * generator.uniform(-1, 1, size))
    angle = 2 * np.pi * cycles[..., None] * (np.arange(N_SAMPLES) / N_SAMPLES) + phase[..., None]
    noise = generator.standard_normal((*size, N_SAMPLES), dtype=np.float32)
    added = NOISE_SD * noise + WANDER_SD * wander[..., None] * np.sin(angle).astype(np.float32)
    scale = np.exp(strength * AMPLITUDE_SD * normal)
    return scale, shift.astype(np.int64), np.float32(strength) * added


class MemberBeats:
    """Deals one member's training beats, given as indices into the beat set, epoch by epoch."""

    def __init__(
        self, index: NDArray[np.int64], label: NDArray[np.int64], streams: Streams
    ) -> None:
        normal = label == NORMAL
        self._rare = index[~normal]
        self._has_normal = bool(normal.any())
        # Records without a normal beat are topped up with their other beats.
        self._deck = index[normal] if self._has_normal else index
        self._streams = streams

    def times_shown(self, shape: EpochShape) -> NDArray[np.float64]:
        """Return how many times an epoch shows a beat of each class, on average, [C]."""
        times, dealt = np.ones(len(CLASSES)), self._dealt(shape) / len(self._deck)
        if self._has_normal:
            times[NORMAL] = dealt
        else:
            times[np.arange(len(CLASSES)) != NORMAL] += dealt
        return times

    def epoch(self, epoch: int, shape: EpochShape) -> NDArray[np.int64]:
        """Return the beats of an epoch (from 0), [batches, batch_size]."""
        n_dealt, size = self._dealt(shape), len(self._deck)
        # An epoch that deals a whole deck or more starts a new deck, so that it misses no beat.
        stride = n_dealt if n_dealt < size else -(-n_dealt // size) * size
        beats = np.concatenate([self._rare, self._deal(epoch * stride, n_dealt)])
        self._streams.generator(Purpose.ORDER, epoch).shuffle(beats)
        return beats.reshape(shape.batches, shape.batch_size)

    def _dealt(self, shape: EpochShape) -> int:
        """Return how many normal beats an epoch has."""
        return shape.beats - len(self._rare)

    def _deal(self, start: int, n_beats: int) -> NDArray[np.int64]:
        """Return `n_beats` from position `start` of the endless row of shuffled decks."""
        size = len(self._deck)
        first, last = start // size, (start + max(n_beats, 1) - 1) // size
        row = np.concatenate([self._shuffled(deck) for deck in range(first, last + 1)])
        return row[start - first * size :][:n_beats]

    def _shuffled(self, deck: int) -> NDArray[np.int64]:
        return self._streams.generator(Purpose.NORMALS, deck).permutation(self._deck)


def stand_ins(label: NDArray[np.int64], record: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the beat whose prediction represents each beat, [N]; itself where predicted.

    Beats are in the order of records, and of time within a record.
    """
    stands = np.arange(len(label))
    normal = label == NORMAL
    for name in np.unique(record):
        beats = np.flatnonzero(normal & (record == name))
        position = np.arange(len(beats))
        middle = position // STANDS_FOR * STANDS_FOR + STANDS_FOR // 2
        stands[beats] = beats[np.minimum(middle, len(beats) - 1)]
    return stands
