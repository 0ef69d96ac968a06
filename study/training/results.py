"""What training gives back: a report after every epoch, a result at the end.

Shapes: S seeds, N beats, C classes, D embedding, H heads, L feature-map length. Members are in
seed-major order: seed 0 with all its folds, then seed 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one epoch of all members gave.

    Args:
        epoch: Epochs done so far.
        metrics: By name; NaN where undefined. All but `beats_per_second` depend only on plan,
            configuration, seeds and epoch.
        undefined: Why, for every name whose value is NaN.
        seconds_train: Wall time of training.
        seconds_eval: Wall time of predicting all validation beats and scoring them.
    """

    epoch: int
    metrics: dict[str, float]
    undefined: dict[str, str]
    seconds_train: float
    seconds_eval: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrialResult:
    """What a finished trial leaves.

    Args:
        log_probs: [S, N, C] out of fold; NaN where a beat is in no validation fold.
        metrics: Final scores, and RR reliance; NaN where undefined.
        undefined: Why, for every name whose value is NaN.
        per_fold: One row a fold.
        per_record: One row a record.
        confusion: [C, C] beats by true (rows) and decided class, summed over seeds.
        gates: [members, D] gate values, or None for a fusion without a gate.
        attention: [C, H, L] mean attention over the sampled beats of each class, or None.
        weights: State dict of each scored model, on the CPU.
        seconds_reliance: Wall time of measuring the RR reliance.
    """

    log_probs: NDArray[np.float32]
    metrics: dict[str, float]
    undefined: dict[str, str]
    per_fold: list[dict[str, Any]]
    per_record: list[dict[str, Any]]
    confusion: NDArray[np.int64]
    gates: NDArray[np.float32] | None
    attention: NDArray[np.float32] | None
    weights: list[dict[str, Tensor]]
    seconds_reliance: float
