"""The input of tables and page: a study as it was read, and the results computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from study.data.reference.means import TemplateMeans
from study.keys import Outcome
from study.reporting.alarms import Alarm
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.rr_use import RRLoss
from study.store.floors import StudyFloor
from study.store.openings import SealedResult
from study.store.study import Study
from study.store.trials import TrialRow
from study.training.results import Inspection
from study.wording import REHEARSED, SYNTHETIC, capital


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFacts:
    """The parts of an arm."""

    input: str  # where RR enters
    segmentation: str  # how windows are cut
    window: str  # what it sees of a beat, `SignalSpec.window`
    fusion: str  # fusion type
    late_rr: str  # the parts of its late vector; empty without one
    rr: str  # `real` or `placebo`
    can_use_rr: bool  # whether RR can reach its output
    routes: str  # by which paths, in words
    look_ahead: str  # the signal that it needs after the beat, in words
    placebo: str  # the name of its placebo; empty without one
    reference: str = ""  # what it takes from which template, in words; empty without one

    @property
    def real(self) -> bool:
        """Whether its RR is real."""
        return self.rr == "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one network of an arm."""

    parameters: int  # number of trained values
    operations: int  # for one beat; a multiplication and an addition count as two
    milliseconds_one: float  # for one beat alone, the median of several passes
    milliseconds_batch: float  # for one beat in a batch of 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Measurements inside the trained networks of the trial that represents an arm."""

    trial: int  # number of the trial
    inspection: Inspection
    gates: NDArray[np.floating] | None  # [members, D] gate values, or None without a gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Importance of searched parameters: shares of the objective's variance, by fANOVA."""

    shares: Mapping[str, float]  # by parameter, largest first
    trials: int  # number of trials behind it
    kind: str  # whether they are complete or screened


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyResults:
    """A study, and everything computed from it."""

    study: Study  # its records, as they were read
    written: str  # when the results were computed
    # The parts of each arm, in the order of the space
    arms: Mapping[str, ArmFacts] = field(default_factory=dict)
    beats: Beats | None = None  # the beats that trials predict; None before their preparation
    # Predictions of the compared arms; in a search, of each arm's best trial
    runs: Sequence[ArmRuns] = ()
    comparison: Comparison | None = None  # their intervals and differences
    alarms: Sequence[Alarm] = ()  # what a reader should know before believing the tables
    floors: Sequence[StudyFloor] = ()  # the floors that an arm must beat
    dropped: Mapping[str, int] = field(default_factory=dict)  # beats left out, by reason
    costs: Mapping[str, Cost] = field(default_factory=dict)  # by arm
    timed_on: str = ""  # the machine on which times were measured
    explanations: Mapping[str, Explanation] = field(default_factory=dict)  # by arm
    # Means of beats beside the templates that arms use; empty where no arm does
    templates: Sequence[TemplateMeans] = ()
    importance: Importance | None = None  # of the searched parameters
    openings: str = ""  # a sentence on the openings of the sealed test set in this workspace
    sealed: Sequence[SealedResult] = ()  # its results for this study
    # Why a result is missing, by the name of its field
    gaps: Mapping[str, str] = field(default_factory=dict)

    @property
    def searches(self) -> bool:
        """Whether this is a search: its arms had unequal tries, so nothing is claimed."""
        return self.study.plan.kind == "search"

    @property
    def caveats(self) -> list[str]:
        """What makes all of its figures worthless; it stands over them."""
        said = {
            REHEARSED: self.study.space.rehearses,
            SYNTHETIC: self.study.plan.data_source == "synthetic",
        }
        return [capital(caveat) for caveat, holds in said.items() if holds]

    @property
    def ranked(self) -> list[TrialRow]:
        """Trials that may be compared."""
        return [row for row in self.study.rows if row.ranks(self.study.objective)]

    def trials_of(self, arm: str) -> list[TrialRow]:
        """Return the trials of an arm that may be compared."""
        return [row for row in self.ranked if row.arm == arm]

    def rr_loss(self, arm: str, kind: str = "inputs") -> RRLoss:
        """Return what an arm loses when RR is permuted, by a kind of `RELIANCE_KINDS`."""
        return RRLoss.of([row.metrics for row in self.trials_of(arm)], kind)

    def count(self, outcome: Outcome) -> int:
        """Return how many settled trials had an outcome."""
        return sum(row.outcome is outcome for row in self.study.rows)

    def why(self, name: str, otherwise: str) -> str:
        """Return why a field is missing."""
        return self.gaps.get(name, otherwise)
