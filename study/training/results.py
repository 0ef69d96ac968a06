"""What training gives back: a report after every epoch, a result at the end.

Neither torch nor a GPU is needed to read it.

Shapes: S seeds, N beats, C classes, D embedding, H heads, L feature-map length, T samples. Members
are in seed-major order: seed 0 with all its folds, then seed 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

MASKED_SHARE = 0.2
"""Share of the time steps that the deletion check masks."""

MASKS = ("nothing", "most", "least", "random")
"""What the deletion check masks: nothing, what is attended to most, least, and steps at random."""


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
class Inspection:
    """What was measured inside a trial's trained networks, on a fixed sample of beats.

    Args:
        beats: [C] sampled beats of each class.
        mean_beat: [C, T] their mean window; NaN for a class without beats.
        attention: [C, H, L] their mean attention (NaN for a class without beats), or None for a
            fusion that does not attend over time.
        deletion: AUPRC of S within folds, the mean over seeds, by `MASKS`; empty without
            attention.
        branch_share: [C] share of the variance of each class's logit that the gated branch has,
            the mean over members; None for a fusion without a gated branch.
    """

    beats: NDArray[np.int64]
    mean_beat: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    deletion: Mapping[str, float]
    branch_share: NDArray[np.float32] | None


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
        inspection: What was measured inside the networks; None for a floor, which has none.
        weights: State dict of each scored model, on the CPU.
        seconds_reliance: Wall time of measuring RR reliance and the inspection.
    """

    log_probs: NDArray[np.float32]
    metrics: dict[str, float]
    undefined: dict[str, str]
    per_fold: list[dict[str, Any]]
    per_record: list[dict[str, Any]]
    confusion: NDArray[np.int64]
    gates: NDArray[np.float32] | None
    inspection: Inspection | None
    weights: list[dict[str, Tensor]]
    seconds_reliance: float
