"""Results of a comparison, frozen, without their computation and display.

Quantities are the classes `N`, `S`, `V`, `F` and the means `sv` and `macro`; every value is of the
objective's measure, AUPRC or AUROC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from study.keys import AGGREGATES, CLASSES

QUANTITIES = (*CLASSES, *AGGREGATES)
"""What a score is given for, in the order of every axis of quantities."""

MEASURE_NAMES = {"auprc": "AUPRC", "auroc": "AUROC"}


LEVEL = 0.05
"""Chance that any contrast of equal arms has a smaller adjusted p."""


def parts_of(objective: str) -> tuple[str, str]:
    """Return measure and quantity of a metric: `val_auprc_sv` is `auprc` and `sv`."""
    _, measure, quantity = objective.split("_")
    return measure, quantity


def label_of(quantity: str) -> str:
    """Return how tables call a quantity."""
    return {"sv": "S+V"}.get(quantity, quantity)


def metric_name(metric: str) -> str:
    """Return how tables call a metric: `val_auprc_sv` is AUPRC S+V."""
    return score_name(*parts_of(metric))


def score_name(measure: str, quantity: str) -> str:
    """Return how tables call the score of a measure and a quantity: AUPRC S+V."""
    return f"{MEASURE_NAMES[measure]} {label_of(quantity)}"


def classes_in(quantity: str, macro: tuple[str, ...] = CLASSES) -> tuple[str, ...]:
    """Return the classes that a quantity is the mean of; `macro` those of the macro."""
    return macro if quantity == "macro" else AGGREGATES.get(quantity, (quantity,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, conditional on these training sets."""

    value: float  # the score, or the difference of two
    se: float  # its standard error over patients and seeds; NaN where not estimable
    low: float  # lower end; NaN where there is no interval
    high: float  # upper end; NaN where there is no interval
    # Why there is no interval, or what is wrong with this one; empty if nothing is
    remark: str = ""
    bias: float = math.nan  # mean of the resamples minus the value; NaN where there is no interval

    @property
    def clear(self) -> bool:
        """Whether the interval of a difference lies to one side of 0."""
        return self.low > 0 or self.high < 0


def reversed_estimate(difference: Estimate) -> Estimate:
    """Return a difference with its arms exchanged."""
    return Estimate(
        value=-difference.value,
        se=difference.se,
        low=-difference.high,
        high=-difference.low,
        remark=difference.remark,
        bias=-difference.bias,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """The support of a class in a study."""

    name: str
    beats: int  # its beats in the folds
    records: int  # records that have any
    effective_patients: float  # (sum w)^2 / sum w^2 over patients' weights w in the score
    estimable: bool  # whether that allows an interval and a test
    largest_record: str  # record with most of its beats
    largest_share: float  # that record's share of them
    folds: int  # number of folds that count for its score, over all partitions
    chance: float  # AUPRC of a random ranking: prevalence, averaged over these folds; 0.5 if AUROC


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What one arm scored."""

    name: str
    estimates: Mapping[str, Estimate]  # by quantity
    # Spread of the objective over seeds, within partitions, draws and folds averaged; NaN where a
    # partition has one seed
    sd_seeds: float
    sd_partitions: float  # over partitions into folds, all else averaged; NaN for one
    sd_draws: float  # over draws, seeds and folds averaged
    sd_folds: float  # over folds, draws and seeds averaged
    # By quantity, each class without the record that has most of its beats
    without_largest: Mapping[str, float]
    patient_mean: Mapping[str, float]  # by quantity, the mean over records of their own scores
    pooled: Mapping[str, float]  # by quantity, of all folds' predictions together
    # By quantity, pooled minus within folds: what ranking loses because probabilities of different
    # members do not compare
    gap: Mapping[str, float]
    trials: int  # trials that it took
    beats_trained: int  # beats that they trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A paired difference of two arms, first minus second."""

    first: str
    second: str  # the arm that is subtracted
    primary: bool  # whether the space declares it; only these are tested
    estimates: Mapping[str, Estimate]  # by quantity
    p: float  # of the objective, by swapping records; NaN where not tested
    p_adjusted: float  # the same, adjusted for all primary contrasts (step-down min-P)
    # Difference of the objective that is found with 80 % power at 5 %, adjusted; NaN where not
    # tested
    detectable: float

    def shown(self, quantity: str) -> bool:
        """Return whether a difference is shown: by its adjusted p or, untested, its interval."""
        if math.isfinite(self.p_adjusted):
            return self.p_adjusted < LEVEL
        return self.estimates[quantity].clear


def reversed_contrast(contrast: Contrast) -> Contrast:
    """Return a contrast with its arms exchanged; its p stays, because tests are two-sided."""
    return replace(
        contrast,
        first=contrast.second,
        second=contrast.first,
        estimates={name: reversed_estimate(e) for name, e in contrast.estimates.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """Whether an arm keeps the ECG performance of the same window."""

    arm: str  # an arm with real RR
    reference: str  # the `ecg` arm of its window
    differences: Mapping[str, Estimate]  # arm minus reference, for N and V
    verdicts: Mapping[str, str]  # for N and V: `kept`, `lost`, `not shown` or `not estimable`


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best arm and its alternatives, placebos left out."""

    best: str  # arm with the highest objective
    value: float  # its score, which is too high because the arm was chosen by it
    # Chosen in-bag, scored on out-of-bag patients, at the level of all arms
    corrected: float
    out_of_bag: float  # mean out-of-bag score of the arm chosen in-bag, as it is
    # Share of the resamples in which each arm was chosen in-bag, most often first
    selected: Mapping[str, float]
    simplest: str  # simplest arm within one standard error of the paired difference to the best
    within: tuple[str, ...]  # all arms within it, simplest first; the best is among them

    @property
    def to_quote(self) -> float:
        """The corrected score, but not above its own: being chosen makes no score too low."""
        return min(self.corrected, self.value)  # NaN where the first is


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One record's scores under one arm, draws and seeds averaged; NaN where undefined."""

    arm: str
    record: str
    patient: str
    folds: tuple[int, ...]  # in each partition
    beats: Mapping[str, int]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of `compare`."""

    objective: str  # metric that arms are ordered by
    classes: tuple[ClassFacts, ...]  # what the study has of each class
    arms: tuple[ArmResult, ...]  # best objective first
    contrasts: tuple[Contrast, ...]  # primary ones in the order declared, then all other pairs
    # Each arm minus the highest floor on the same patients, best arm first; empty without a floor
    above_floor: tuple[Contrast, ...]
    # Arms with real RR against the `ecg` arm of their window
    non_inferiority: tuple[NonInferiority, ...]
    choice: Choice | None  # the best arm and its alternatives; None if the objective is undefined
    records: tuple[RecordRow, ...]  # one row a record and arm
    margin: float  # loss of N and V that non-inferiority allows
    resamples: int  # resamples of patients and seeds behind every interval
    permutations: int  # swaps of records behind every p
    notes: tuple[str, ...]  # what a reader has to know besides, a sentence each

    @property
    def measure(self) -> str:
        """Measure of the objective, `auprc` or `auroc`."""
        return parts_of(self.objective)[0]

    @property
    def quantity(self) -> str:
        """What the objective is the measure of: a class, `sv` or `macro`."""
        return parts_of(self.objective)[1]

    @property
    def primary(self) -> list[Contrast]:
        """The contrasts that the space declares."""
        return [pair for pair in self.contrasts if pair.primary]

    @property
    def weak_classes(self) -> list[str]:
        """Names of the classes that are not estimable."""
        return [fact.name for fact in self.classes if not fact.estimable]

    @property
    def n_partitions(self) -> int:
        """Number of partitions into folds."""
        return len(self.records[0].folds)

    @property
    def resampling(self) -> str:
        """What a resample draws, in words."""
        if self.n_partitions == 1:
            return "patients and seeds within folds"
        return "patients of all folds together, of partitions into folds and of seeds within them"
