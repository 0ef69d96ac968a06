"""What a page is made from: everything that is known of a study, read back and computed.

Frozen values without a file, an engine or a network behind them. What is not there has its reason
in `gaps`, so that a section can say it.

Shapes: N beats, C classes, H heads, L time steps, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.keys import Outcome
from study.reporting.alarms import Alarm
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.store.trials import TrialRow

Float = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """What an arm is made of.

    Args:
        input: Where RR enters.
        segmentation: How windows are cut.
        fusion: Fusion type.
        late_rr: Set of late features; empty without a late vector.
        rr: `real` or `placebo`.
        routes: By which ways RR can reach its output, in words.
        look_ahead: What it knows of the time after the beat, in words.
        stand_in: Name of its placebo among the arms; empty without one.
    """

    input: str
    segmentation: str
    fusion: str
    late_rr: str
    rr: str
    routes: str
    look_ahead: str
    stand_in: str = ""

    @property
    def real(self) -> bool:
        """Whether its RR is its own."""
        return self.rr == "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network of an arm costs.

    Args:
        parameters: Trained values.
        operations: Multiplications and additions of one beat, two for each pair.
        milliseconds_one: Of one beat alone, the median of several.
        milliseconds_batch: Of one beat in a batch of 256.
    """

    parameters: int
    operations: int
    milliseconds_one: float
    milliseconds_batch: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """What was looked up inside the trained networks of one trial.

    Args:
        trial: Number of the trial.
        beats: [C] beats behind it, a fixed sample.
        mean_beat: [C, T] mean window of each class; NaN for a class without beats.
        attention: [C, H, L] mean attention, or None where the fusion has none over time.
        deletion: AUPRC S by what was masked: `nothing`, `most`, `least`, `random`.
        masked_share: Share of the window that was masked.
        branch_share: [C] share of the variance of each class's logit that is the branch's;
            None without a gated branch.
        gates: [members, D] gate values, or None.
    """

    trial: int
    beats: NDArray[np.int64]
    mean_beat: Float
    attention: Float | None
    deletion: Mapping[str, float]
    masked_share: float
    branch_share: Float | None
    gates: Float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One opening of the sealed test set that rests on this study.

    Args:
        plan: Name and digest of its plan.
        opened: When.
        arms: By arm, metric and statistic: `mean` and `sd` over seeds.
        seeds: Seeds of each arm.
    """

    plan: str
    opened: str
    arms: Mapping[str, Mapping[str, tuple[float, float]]]
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Which parameters matter, as an ensemble of trees fitted to the trials has it.

    Args:
        shares: By parameter, the share of the objective's variance, largest first.
        trials: Trials behind it.
        kind: Whether they are complete or screened.
    """

    shares: Mapping[str, float]
    trials: int
    kind: str = "complete"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyResults:
    """Everything that is known of a study.

    Args:
        name: Its name.
        description: What it asks, in its space's words.
        plan: Its plan.
        state: `complete`, `unfinished` or `running`.
        rows: Settled trials.
        owed: Trials that are neither settled nor repeats.
        curves: Objective by epoch and trial number, unsettled trials among them.
        arms: What each arm is made of, in the order of the space.
        reference: Arm that others are compared with; empty without one.
        beats: What every trial predicts.
        runs: Predictions of the arms that are compared; of a search each arm's best trial.
        comparison: Their intervals and differences.
        alarms: What has to be known before believing the table.
        floors: Metrics of what an arm must beat, by label.
        dropped: Beats left out, by reason.
        costs: By arm.
        timed_on: What their times were measured on.
        explanations: By arm.
        importance: Of the searched parameters.
        provenance: Commit, versions and device, by name.
        openings: How often the sealed test set was opened in this workspace.
        sealed: Its results for this study.
        gaps: Why something is not there, by the name of its field.
        written: When this was put together.
    """

    name: str
    description: str
    plan: Mapping[str, Any]
    state: str
    written: str
    rows: Sequence[TrialRow] = ()
    owed: int = 0
    curves: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    arms: Mapping[str, ArmFacts] = field(default_factory=dict)
    reference: str = ""
    beats: Beats | None = None
    runs: Sequence[ArmRuns] = ()
    comparison: Comparison | None = None
    alarms: Sequence[Alarm] = ()
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    timed_on: str = ""
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    importance: Importance | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    openings: str = ""
    sealed: Sequence[Sealed] = ()
    gaps: Mapping[str, str] = field(default_factory=dict)

    @property
    def objective(self) -> str:
        """Metric that arms are ordered by."""
        return str(self.plan["objective"])

    @property
    def searches(self) -> bool:
        """Whether arms had unequal tries, so that nothing is claimed."""
        return bool(self.plan["kind"] == "search")

    @property
    def synthetic(self) -> bool:
        """Whether the records are made up."""
        return self.plan.get("data_source") == "synthetic"

    @property
    def ranked(self) -> list[TrialRow]:
        """Trials that may be compared."""
        return [row for row in self.rows if row.ranks(self.objective)]

    def count(self, outcome: Outcome) -> int:
        """Return how many settled trials ended so, repeats left out."""
        return sum(row.outcome is outcome for row in self.rows if row.duplicate_of is None)

    def why(self, name: str, otherwise: str) -> str:
        """Return why a field is not there."""
        return self.gaps.get(name, otherwise)
