"""Beats that are annotated more than once: annotations closer together than two beats can be.

MIT-BIH has none; other databases do, such as the supraventricular one (svdb), with labels that
may differ. Taken for two beats, they would give the second a rhythm that no heart has, and its
neighbours a wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.data.records import AAMI

UNCLASSIFIABLE = "Q"
"""WFDB's symbol of a beat whose class is not known: it is left out and counted as class Q."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled:
    """The annotations of one beat, two or more.

    Args:
        samples: Where they are, as sampled in the file.
        symbols: What they are.
    """

    samples: tuple[int, ...]
    symbols: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """Whether all of them are of one AAMI class."""
        return len({AAMI[symbol] for symbol in self.symbols}) == 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merged:
    """Beats, each once.

    Args:
        samples: [beats] where they are.
        symbols: [beats] their symbols.
        doubled: Those that were annotated more than once, in order of time.
    """

    samples: NDArray[np.int64]
    symbols: NDArray[np.str_]
    doubled: tuple[Doubled, ...]


def merged(samples: NDArray[np.int64], symbols: NDArray[np.str_], within: float) -> Merged:
    """Make one beat of beat annotations that lie close together.

    It stays where the first of them is. Its symbol is the first one where all are of one AAMI
    class; where they are not, the beat's class is not known and it becomes unclassifiable.

    Args:
        samples: [annotations] where they are, not falling.
        symbols: [annotations] their symbols.
        within: Samples; annotations less than this after a beat belong to it.
    """
    if not (np.diff(samples) < within).any():
        return Merged(samples=samples, symbols=symbols, doubled=())
    starts = [0]
    for i, sample in enumerate(samples.tolist()):
        if i and sample - int(samples[starts[-1]]) >= within:
            starts.append(i)
    kept, doubled = symbols[starts].astype("<U1"), []
    for beat, (start, stop) in enumerate(zip(starts, [*starts[1:], len(samples)], strict=True)):
        if stop - start > 1:
            found = Doubled(
                samples=tuple(samples[start:stop].tolist()),
                symbols=tuple(symbols[start:stop].tolist()),
            )
            doubled.append(found)
            if not found.agree:
                kept[beat] = UNCLASSIFIABLE
    return Merged(samples=samples[starts], symbols=kept, doubled=tuple(doubled))
