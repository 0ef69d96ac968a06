"""What tables and page are made from: a study as it was read, and what was computed of it.

What is not there has its reason in `gaps`, so that a section can say it.
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
from study.store.floors import StudyFloor
from study.store.study import Study
from study.store.trials import TrialRow
from study.training.results import Inspection


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """What an arm is made of."""

    input: str  # where RR enters
    segmentation: str  # how windows are cut
    fusion: str  # fusion type
    late_rr: str  # set of late features; empty without a late vector
    rr: str  # `real` or `placebo`
    uses_rr: bool  # whether RR can reach its output
    routes: str  # by which ways, in words
    look_ahead: str  # what it knows of the time after the beat, in words
    placebo: str  # the arm that is its placebo; empty without one

    @property
    def real(self) -> bool:
        """Whether its RR is its own."""
        return self.rr == "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network of an arm costs."""

    parameters: int  # trained values
    operations: int  # of one beat; a multiplication and an addition count as two
    milliseconds_one: float  # of one beat alone, the median of several
    milliseconds_batch: float  # of one beat in a batch of 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """What was measured inside the trained networks of the trial that stands for an arm."""

    trial: int  # number of the trial
    inspection: Inspection
    gates: NDArray[np.floating] | None  # [members, D] gate values, or None without a gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One opening of the sealed test set that rests on this study."""

    plan: str  # name and digest of its plan
    opened: str  # when
    # Mean and sd over seeds, by arm and metric
    arms: Mapping[str, Mapping[str, tuple[float, float]]]
    seeds: int  # seeds of each arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Which searched parameters matter: the shares of the objective's variance, by fANOVA."""

    shares: Mapping[str, float]  # by parameter, largest first
    trials: int  # trials behind it
    kind: str  # whether they are complete or screened


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyResults:
    """A study, and everything that was computed of it."""

    study: Study  # its records as they were read
    written: str  # when this was put together
    # What each arm is made of, in the order of the space
    arms: Mapping[str, ArmFacts] = field(default_factory=dict)
    beats: Beats | None = None  # what every trial predicts; None before they are prepared
    # Predictions of the arms that are compared; of a search each arm's best trial
    runs: Sequence[ArmRuns] = ()
    comparison: Comparison | None = None  # their intervals and differences
    alarms: Sequence[Alarm] = ()  # what has to be known before believing the table
    floors: Sequence[StudyFloor] = ()  # what an arm must beat
    dropped: Mapping[str, int] = field(default_factory=dict)  # beats left out, by reason
    costs: Mapping[str, Cost] = field(default_factory=dict)  # by arm
    timed_on: str = ""  # what their times were measured on
    explanations: Mapping[str, Explanation] = field(default_factory=dict)  # by arm
    importance: Importance | None = None  # of the searched parameters
    openings: str = ""  # how often the sealed test set was opened in this workspace
    sealed: Sequence[Sealed] = ()  # its results for this study
    # Why something is not there, by the name of its field
    gaps: Mapping[str, str] = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether arms had unequal tries, so that nothing is claimed."""
        return self.study.plan.kind == "search"

    @property
    def ranked(self) -> list[TrialRow]:
        """Trials that may be compared."""
        return [row for row in self.study.rows if row.ranks(self.study.objective)]

    def trials_of(self, arm: str) -> list[TrialRow]:
        """Return the trials of an arm that may be compared."""
        return [row for row in self.ranked if row.arm == arm]

    def count(self, outcome: Outcome) -> int:
        """Return how many settled trials ended so."""
        return sum(row.outcome is outcome for row in self.study.rows)

    def why(self, name: str, otherwise: str) -> str:
        """Return why a field is not there."""
        return self.gaps.get(name, otherwise)
