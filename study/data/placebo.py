"""Permutations of RR within each record: the placebo control, and the donors of RR reliance.

Random streams here depend on the study's seed, never on a configuration, so that every arm of a
study meets the same permutations.

Shapes: N beats, P permutations, M sampled beats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES

PERMUTATIONS = 5
"""Permutations P of the RR reliance measurement."""

NORMAL_SAMPLE = 1000
"""Normal beats in the reliance sample, beside all S, V and F beats."""

# First words of the seed sequences, so that the streams of this module are unlike all others.
_PLACEBO, _DONORS, _NORMALS = 7001, 7002, 7003


def permute_within(record: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random permutation of all beats that keeps each beat in its record, [N]."""
    shuffled = np.lexsort((rng.random(len(record)), record))
    order = np.empty(len(record), dtype=np.int64)
    order[np.argsort(record, kind="stable")] = shuffled
    return order


def placebo_order(
    record: NDArray[np.int64], study_seed: int, seed_index: int
) -> NDArray[np.int64]:
    """Return whose RR each beat gets under `rr = placebo`, [N].

    Args:
        record: [N] record of each beat.
        study_seed: Seed of the study.
        seed_index: Which repetition; each has its own permutation, shared by all folds.
    """
    return permute_within(record, _generator(_PLACEBO, study_seed, seed_index))


def reliance_sample(
    record: NDArray[np.int64], label: NDArray[np.int64], study_seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the beats of the reliance measurement and whose RR each gets.

    Returns:
        [M] sorted indices of all S, V, F beats and of normal beats drawn in equal numbers from
        the records as far as these have them; [P, M] index of each one's donor, from a
        permutation of all beats of its record.
    """
    normal = np.flatnonzero(label == CLASSES.index("N"))
    normal = normal[_spread(record[normal], _generator(_NORMALS, study_seed))[:NORMAL_SAMPLE]]
    others = np.flatnonzero(label != CLASSES.index("N"))
    beats = np.sort(np.concatenate([normal, others]))
    donors = [
        permute_within(record, _generator(_DONORS, study_seed, p))[beats]
        for p in range(PERMUTATIONS)
    ]
    return beats, np.stack(donors)


def _spread(record: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Order beats so that every prefix takes about equally many from each record."""
    by_record = np.lexsort((rng.random(len(record)), record))
    size = np.unique(record, return_counts=True)[1]
    first = np.repeat(np.cumsum(size) - size, size)
    turn = np.arange(len(record)) - first
    return by_record[np.argsort(turn, kind="stable")]


def _generator(*words: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(words))
