"""What a page is made from: everything that is known of a study, read back and computed.

Frozen values without a file, an engine or a network behind them. What is not there has its reason
in `gaps`, so that a section can say it.

Shapes: N beats, C classes, H heads, L time steps, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from study.keys import Outcome
from study.reporting.alarms import Alarm
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.store.plan import StudyPlan
from study.store.trials import TrialRow

Float = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """What an arm is made of."""

    input: str  # where RR enters
    segmentation: str  # how windows are cut
    fusion: str  # fusion type
    late_rr: str  # set of late features; empty without a late vector
    rr: str  # `real` or `placebo`
    routes: str  # by which ways RR can reach its output, in words
    look_ahead: str  # what it knows of the time after the beat, in words
    stand_in: str = ""

    @property
    def real(self) -> bool:
        """Whether its RR is its own."""
        return self.rr == "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network of an arm costs."""

    parameters: int  # trained values
    operations: int  # multiplications and additions of one beat, two for each pair
    milliseconds_one: float  # of one beat alone, the median of several
    milliseconds_batch: float  # of one beat in a batch of 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """What was looked up inside the trained networks of one trial."""

    trial: int  # number of the trial
    beats: NDArray[np.int64]  # [C] beats behind it, a fixed sample
    mean_beat: Float  # [C, T] mean window of each class; NaN for a class without beats
    # [C, H, L] mean attention, or None where the fusion has none over time
    attention: Float | None
    # AUPRC S by what was masked: `nothing`, `most`, `least`, `random`
    deletion: Mapping[str, float]
    masked_share: float  # share of the window that was masked
    # [C] share of the variance of each class's logit that is the branch's; None without a gated
    # branch
    branch_share: Float | None
    gates: Float | None  # [members, D] gate values, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One opening of the sealed test set that rests on this study."""

    plan: str  # name and digest of its plan
    opened: str  # when
    # By arm, metric and statistic: `mean` and `sd` over seeds
    arms: Mapping[str, Mapping[str, tuple[float, float]]]
    seeds: int  # seeds of each arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Which parameters matter, as an ensemble of trees fitted to the trials has it."""

    # By parameter, the share of the objective's variance, largest first
    shares: Mapping[str, float]
    trials: int  # trials behind it
    kind: str = "complete"  # whether they are complete or screened


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyResults:
    """Everything that is known of a study."""

    name: str
    description: str  # what it asks, in its space's words
    plan: StudyPlan
    state: str  # `complete`, `unfinished` or `running`
    written: str  # when this was put together
    rows: Sequence[TrialRow] = ()  # settled trials
    owed: int = 0  # trials that are neither settled nor repeats
    # Objective by epoch and trial number, unsettled trials among them
    curves: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    # What each arm is made of, in the order of the space
    arms: Mapping[str, ArmFacts] = field(default_factory=dict)
    reference: str = ""  # arm that others are compared with; empty without one
    beats: Beats | None = None  # what every trial predicts
    # Predictions of the arms that are compared; of a search each arm's best trial
    runs: Sequence[ArmRuns] = ()
    comparison: Comparison | None = None  # their intervals and differences
    alarms: Sequence[Alarm] = ()  # what has to be known before believing the table
    # Metrics of what an arm must beat, by label
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)  # beats left out, by reason
    costs: Mapping[str, Cost] = field(default_factory=dict)  # by arm
    timed_on: str = ""  # what their times were measured on
    explanations: Mapping[str, Explanation] = field(default_factory=dict)  # by arm
    importance: Importance | None = None  # of the searched parameters
    # Commit, versions and device, by name
    provenance: Mapping[str, str] = field(default_factory=dict)
    openings: str = ""  # how often the sealed test set was opened in this workspace
    sealed: Sequence[Sealed] = ()  # its results for this study
    # Why something is not there, by the name of its field
    gaps: Mapping[str, str] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """Metric that arms are ordered by."""
        return self.plan.objective

    @property
    def searches(self) -> bool:
        """Whether arms had unequal tries, so that nothing is claimed."""
        return self.plan.kind == "search"

    @property
    def synthetic(self) -> bool:
        """Whether the records are made up."""
        return self.plan.data_source == "synthetic"

    @property
    def ranked(self) -> list[TrialRow]:
        """Trials that may be compared."""
        return [row for row in self.rows if row.ranks(self.objective)]

    def count(self, outcome: Outcome) -> int:
        """Return how many settled trials ended so."""
        return sum(row.outcome is outcome for row in self.rows)

    def why(self, name: str, otherwise: str) -> str:
        """Return why a field is not there."""
        return self.gaps.get(name, otherwise)
