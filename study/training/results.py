"""Results of training: a report after every epoch, a result at the end.

Reading them needs neither torch nor a GPU.

Shapes: S seeds, N beats, C classes, D embedding, H heads, L feature-map length, T samples. Members
are in seed-major order: seed 0 with all its folds, then seed 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from study.training.scores import Scores

MASKED_SHARE = 0.2
"""Share of the time steps that the deletion check masks."""

MASKS = ("nothing", "most", "least", "random")
"""What the deletion check masks: nothing, what is attended to most, least, and steps at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """Results of one epoch of all members."""

    epoch: int  # epochs done so far
    # By name; NaN where undefined. All but `beats_per_second` depend only on plan, configuration,
    # seeds and epoch.
    metrics: dict[str, float]
    undefined: dict[str, str]  # why, for every name whose value is NaN
    seconds_train: float  # wall time of training
    seconds_eval: float  # wall time of predicting all validation beats and scoring them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inspection:
    """Measurements inside a trial's trained networks, on a fixed sample of beats."""

    beats: NDArray[np.int64]  # [C] sampled beats of each class
    # [C, T] their mean window, or mean deviation from a template where networks see that; NaN
    # for a class without beats
    mean_beat: NDArray[np.float32]
    # [C, H, L] their mean attention (NaN for a class without beats), or None for a fusion that
    # does not attend over time
    attention: NDArray[np.float32] | None
    # AUPRC of S within folds, the mean over seeds, by `MASKS`; empty without attention
    deletion: Mapping[str, float]
    # [C] share of the variance of each class's logit that the gated branch has, the mean over
    # members; None for a fusion without a gated branch
    branch_share: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrialResult:
    """Results of a finished trial."""

    # [S, N, C] out of fold; NaN where a beat is in no validation fold
    log_probs: NDArray[np.float32]
    metrics: dict[str, float]  # final scores, and RR reliance; NaN where undefined
    undefined: dict[str, str]  # why, for every name whose value is NaN
    per_fold: list[dict[str, Any]]  # one row a fold
    per_record: list[dict[str, Any]]  # one row a record
    # [C, C] beats by true (rows) and decided class, summed over seeds
    confusion: NDArray[np.int64]
    # [members, D] gate values, or None for a fusion without a gate
    gates: NDArray[np.float32] | None = None
    # What was measured inside the networks; None for a floor, which has none
    inspection: Inspection | None = None
    # State dict of each scored model, on the CPU
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    seconds_reliance: float = 0.0  # wall time of measuring RR reliance and the inspection

    @classmethod
    def without_networks(cls, log_probs: NDArray[np.float32], scores: Scores) -> Self:
        """Return the result of scored predictions [S, N, C] alone, as of a floor."""
        return cls(
            log_probs=log_probs,
            metrics=scores.values,
            undefined=scores.undefined,
            per_fold=scores.per_fold,
            per_record=scores.per_record,
            confusion=scores.confusion,
        )
