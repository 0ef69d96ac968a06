"""What a comparison finds: frozen results, without a word on how they are computed or shown.

Quantities are the classes `N`, `S`, `V`, `F` and the means `sv` and `macro`; every value is of the
objective's measure, AUPRC or AUROC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from study.keys import AGGREGATES, CLASSES

QUANTITIES = (*CLASSES, *AGGREGATES)
"""What a score is given for, in the order of every axis of quantities."""

MEASURE_NAMES = {"auprc": "AUPRC", "auroc": "AUROC"}


def parts_of(objective: str) -> tuple[str, str]:
    """Return measure and quantity of a metric: `val_auprc_sv` is `auprc` and `sv`."""
    _, measure, quantity = objective.split("_")
    return measure, quantity


def label_of(quantity: str) -> str:
    """Return how tables call a quantity."""
    return {"sv": "S+V"}.get(quantity, quantity)


def metric_name(metric: str) -> str:
    """Return how tables call a metric: `val_auprc_sv` is AUPRC S+V."""
    measure, quantity = parts_of(metric)
    return f"{MEASURE_NAMES[measure]} {label_of(quantity)}"


def members_of(quantity: str, macro: tuple[str, ...] = CLASSES) -> tuple[str, ...]:
    """Return the classes that a quantity is the mean of; `macro` those of the macro."""
    return macro if quantity == "macro" else AGGREGATES.get(quantity, (quantity,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, conditional on these training sets.

    Args:
        value: The score, or the difference of two.
        se: Its standard error over patients and seeds; NaN where not estimable.
        low: Lower end; NaN where there is no interval.
        high: Upper end; NaN where there is no interval.
        remark: Why there is no interval, or what is wrong with this one; empty if nothing is.
    """

    value: float
    se: float
    low: float
    high: float
    remark: str = ""


def reversed_estimate(difference: Estimate) -> Estimate:
    """Return a difference the other way round."""
    return Estimate(
        value=-difference.value,
        se=difference.se,
        low=-difference.high,
        high=-difference.low,
        remark=difference.remark,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """How much a study has of a class.

    Args:
        name: The class.
        beats: Its beats in the folds.
        records: Records that have any.
        effective_patients: (sum n)^2 / sum n^2 over patients' beats n.
        estimable: Whether that allows an interval and a test.
        largest_record: Record with most of its beats.
        largest_share: That record's share of them.
        folds: Folds that count for its score.
        chance: AUPRC of a random ranking: prevalence, averaged over these folds; 0.5 if AUROC.
    """

    name: str
    beats: int
    records: int
    effective_patients: float
    estimable: bool
    largest_record: str
    largest_share: float
    folds: tuple[int, ...]
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What one arm scored.

    Args:
        name: Name of the arm.
        estimates: By quantity.
        sd_seeds: Spread of the objective over seeds, draws and folds averaged.
        sd_draws: Over draws, seeds and folds averaged.
        sd_folds: Over folds, draws and seeds averaged.
        without_largest: By quantity, each class without the record that has most of its beats.
        patient_mean: By quantity, the mean over records of their own scores.
        pooled: By quantity, of all folds' predictions together.
        gap: By quantity, pooled minus within folds: what ranking loses because probabilities of
            different members do not compare.
        trials: Trials that it took.
        beats_trained: Beats that they trained on.
    """

    name: str
    estimates: Mapping[str, Estimate]
    sd_seeds: float
    sd_draws: float
    sd_folds: float
    without_largest: Mapping[str, float]
    patient_mean: Mapping[str, float]
    pooled: Mapping[str, float]
    gap: Mapping[str, float]
    trials: int
    beats_trained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A paired difference of two arms, first minus second.

    Args:
        first: An arm.
        second: The arm that is subtracted.
        primary: Whether the space declares it; only these are tested.
        estimates: By quantity.
        p: Of the objective, by swapping records; NaN where not tested.
        p_adjusted: The same, adjusted for all primary contrasts (max-T).
        detectable: Difference of the objective that is found with 80 % power at 5 %, adjusted;
            NaN where not tested.
    """

    first: str
    second: str
    primary: bool
    estimates: Mapping[str, Estimate]
    p: float
    p_adjusted: float
    detectable: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """Whether an arm keeps the ECG performance of the same window.

    Args:
        arm: An arm with real RR.
        reference: The `ecg` arm of its window.
        differences: Arm minus reference, for N and V.
        verdicts: For N and V: `kept`, `lost`, `not shown` or `not estimable`.
    """

    arm: str
    reference: str
    differences: Mapping[str, Estimate]
    verdicts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best arm and its alternatives, placebos left out.

    Args:
        best: Arm with the highest objective.
        value: Its score, optimistic because it was chosen by it.
        corrected: The figure to quote: chosen in-bag, scored on out-of-bag patients, at the level
            of all candidates.
        out_of_bag: Mean out-of-bag score of the arm chosen in-bag, as it is.
        selected: Share of the resamples in which each arm was chosen in-bag, most often first.
        simplest: Simplest arm within one standard error of the paired difference to the best.
        within: All arms within it, simplest first; the best is among them.
    """

    best: str
    value: float
    corrected: float
    out_of_bag: float
    selected: Mapping[str, float]
    simplest: str
    within: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One record's scores under one arm, draws and seeds averaged; NaN where undefined."""

    arm: str
    record: str
    patient: str
    fold: int
    beats: Mapping[str, int]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of `compare`.

    Args:
        objective: Metric that arms are ordered by.
        classes: What the study has of each class.
        arms: Best objective first.
        contrasts: Primary ones in the order declared, then all other pairs.
        non_inferiority: Arms with real RR against the `ecg` arm of their window.
        choice: The best arm and its alternatives; None if the objective is undefined.
        records: One row a record and arm.
        margin: Loss of N and V that non-inferiority allows.
        resamples: Resamples of patients and seeds behind every interval.
        permutations: Swaps of records behind every p.
        notes: What a reader has to know besides, a sentence each.
    """

    objective: str
    classes: tuple[ClassFacts, ...]
    arms: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]
    non_inferiority: tuple[NonInferiority, ...]
    choice: Choice | None
    records: tuple[RecordRow, ...]
    margin: float
    resamples: int
    permutations: int
    notes: tuple[str, ...]
