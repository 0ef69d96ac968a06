"""Ranking metrics for many weightings of the records at once.

All beats of a record share a weight. So a ranking is reduced once to counts by record at the
thresholds where precision is read, and a weighting is then a row of a matrix product. Weights are
whole numbers, and so weighted counts are exact in single precision, up to 2^24 beats.

Shapes: N beats, G records, T thresholds, U weightings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.beats import ratio

Float = NDArray[np.float64]
Counts = NDArray[np.float32]
Int = NDArray[np.int64]

_ROWS, _COLUMNS = 256, 512
"""Weightings and thresholds of one matrix product, so that its parts stay in a core's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One class against the rest, as counts by record at every score of a positive beat."""

    positives: Counts  # [G, T] positive beats at or above each threshold, highest first
    beats: Counts  # [G, T] all beats at or above it
    above: Counts  # [G, T] all beats strictly above it
    negatives: Counts  # [G] all beats that are not positive

    @classmethod
    def of(
        cls,
        score: NDArray[np.floating],
        positive: NDArray[np.bool_],
        record: Int,
        n_records: int,
    ) -> Ranking:
        """Reduce a ranking of scores [N], of which equal ones share a threshold."""
        order = np.argsort(-score)
        ranked, positive, record = score[order], positive[order], record[order]
        tie = np.cumsum(np.append(0, ranked[1:] != ranked[:-1]))
        read = np.bincount(tie[positive], minlength=tie[-1] + 1) > 0
        exceeded = np.cumsum(read)
        n_thresholds = int(exceeded[-1])
        # The threshold, from the highest, that each beat reaches, and the first that it exceeds.
        enters: Int = (exceeded - read)[tie]
        passes: Int = exceeded[tie]

        def cumulative(first: Int, of: Int) -> Counts:
            width = n_thresholds + 1
            cells = np.bincount(of * width + first, minlength=n_records * width)
            table = cells.reshape(n_records, width)[:, :n_thresholds]
            return np.cumsum(table, axis=1, dtype=np.float32)

        return cls(
            positives=cumulative(enters[positive], record[positive]),
            beats=cumulative(enters, record),
            above=cumulative(passes, record),
            negatives=np.bincount(record[~positive], minlength=n_records).astype(np.float32),
        )

    def average_precision(self, weights: Float) -> Float:
        """Return the area under the precision-recall step curve, [U]; NaN without positives.

        Weights are [U, G], of each record's beats.
        """
        area, single = np.zeros(len(weights)), weights.astype(np.float32)
        gained = np.diff(self.positives, prepend=np.float32(0))
        for g, of_record in enumerate(gained):
            # Where the record counts its positive beats do, and no weighted total is 0.
            rows, columns = np.flatnonzero(weights[:, g]), np.flatnonzero(of_record)
            for start in range(0, len(columns), _COLUMNS):
                block = columns[start : start + _COLUMNS]
                positives, beats = self.positives[:, block], self.beats[:, block]
                for first in range(0, len(rows), _ROWS):
                    some = rows[first : first + _ROWS]
                    precision = single[some] @ positives / (single[some] @ beats)
                    area[some] += weights[some, g] * (precision @ of_record[block])
        return ratio(area, weights @ self.positives[:, -1])

    def area_under_roc(self, weights: Float) -> Float:
        """Return the area under the ROC curve, a tie counting half, [U]; NaN where undefined.

        Weights are [U, G], of each record's beats.
        """
        positives = self.positives.astype(np.float64)
        gained = np.diff(positives, prepend=0.0)
        before = positives - gained
        not_below = (self.beats - positives + self.above - before) / 2
        won = gained @ (self.negatives[:, None] - not_below).T
        area = np.einsum("ug,ug->u", weights @ won, weights)
        return ratio(area, (weights @ self.positives[:, -1]) * (weights @ self.negatives))


MEASURES: dict[str, Callable[[Ranking, Float], Float]] = {
    "auprc": Ranking.average_precision,
    "auroc": Ranking.area_under_roc,
}
"""Metrics of a ranking, by the names of `study.training.metrics.RANKING`."""
