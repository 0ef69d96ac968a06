"""Estimates from weighted scores: support of classes, intervals, spreads.

Intervals are percentiles over resamples (see `study.statistics.resampling`). `docs/statistics.md`
has their coverage in simulation, which the limits below come from.

Shapes: G records, F folds, C classes, Q quantities, A arms, W resamples, D draws, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.beats import effective_patients
from study.keys import AGGREGATES, CLASSES, MIN_EFFECTIVE_PATIENTS
from study.statistics.findings import ClassFacts, Estimate, classes_in
from study.statistics.predictions import Beats
from study.statistics.weighted_metrics import Float

FEW_IN_ONE_FOLD = 6.0
"""Effective patients of a class below which, with all patients in one fold, the interval of an
arm's own score covers less than 90 % in simulation. Differences of arms, and several folds,
are not affected."""

LEVELS = (0.025, 0.975)
"""Ends of an interval."""

MAX_UNDEFINED = 0.05
"""Share of resamples without a score above which there is no interval."""


def class_facts(beats: Beats, measure: str) -> tuple[ClassFacts, ...]:
    """Return how many beats and patients of each class the folds have."""
    held_out = beats.held_out
    counts = np.where(held_out[:, None], beats.counts, 0)
    patients = np.asarray(beats.patient_of_record)
    by_fold, counted = beats.counts_by_fold, beats.counted
    # The score is a mean over the folds that count, so a beat weighs more in a fold that has few.
    weight_in_fold = np.divide(1.0, by_fold, where=counted, out=np.zeros(by_fold.shape))
    of_record = np.mean(
        [
            of_fold[np.asarray(fold)]
            for of_fold, fold in zip(weight_in_fold, beats.folds_of_record, strict=True)
        ],
        axis=0,
    )
    weights = counts * np.where(held_out[:, None], of_record, 0.0)
    facts = []
    for c, name in enumerate(CLASSES):
        effective = effective_patients(
            [float(weights[patients == patient, c].sum()) for patient in beats.patients]
        )
        largest, total = int(counts[:, c].argmax()), int(counts[:, c].sum())
        # A partition without a fold that counts leaves the class without a score.
        in_all = counted[:, :, c].any(axis=1).all()
        prevalence = [
            (of_fold[enough, c] / of_fold[enough].sum(axis=1)).mean()
            for of_fold, enough in zip(by_fold, counted[:, :, c], strict=True)
            if in_all
        ]
        chance = float(np.mean(prevalence)) if in_all else float("nan")
        facts.append(
            ClassFacts(
                name=name,
                beats=total,
                records=int((counts[:, c] > 0).sum()),
                effective_patients=effective,
                estimable=effective >= MIN_EFFECTIVE_PATIENTS and bool(in_all),
                largest_record=beats.record_names[largest] if total else "",
                largest_share=counts[largest, c] / total if total else 0.0,
                folds=int(counted[:, :, c].sum()) if in_all else 0,
                chance=chance if measure == "auprc" else 0.5,
            )
        )
    return tuple(facts)


def with_means(by_class: Float, macro: tuple[str, ...] = CLASSES) -> Float:
    """Return scores by class [..., C] with the means over classes behind, [..., Q]."""
    means = []
    for name in AGGREGATES:
        some = by_class[..., [CLASSES.index(c) for c in classes_in(name, macro)]]
        means.append(some.mean(axis=-1) if some.shape[-1] else np.full(some.shape[:-1], np.nan))
    return np.concatenate([by_class, np.stack(means, axis=-1)], axis=-1)


def estimate(value: float, resampled: Float, why_not: str, caution: str = "") -> Estimate:
    """Return a value with the interval that its resamples [W] give; NaN where undefined.

    `why_not` says why there is no interval, `caution` what is wrong with one.
    """
    if why_not or np.isnan(value):
        return Estimate(value=value, se=np.nan, low=np.nan, high=np.nan, remark=why_not)
    finite = resampled[np.isfinite(resampled)]
    undefined = np.mean(~np.isfinite(resampled))
    if undefined > MAX_UNDEFINED:
        return Estimate(
            value=value,
            se=np.nan,
            low=np.nan,
            high=np.nan,
            remark=f"not estimable: undefined in {undefined:.0%} of the resamples",
        )
    low, high = np.quantile(finite, LEVELS)
    return Estimate(
        value=value,
        se=float(finite.std()),
        low=float(low),
        high=float(high),
        remark=caution,
        bias=float(finite.mean()) - value,
    )


def not_estimable(
    quantity: str, facts: Sequence[ClassFacts], macro: tuple[str, ...] = CLASSES
) -> str:
    """Say why a quantity has no interval; empty if it has one."""
    classes = classes_in(quantity, macro)
    if not classes:
        return "not estimable: no class has a part in the macro"
    weak = [fact for fact in facts if fact.name in classes and not fact.estimable]
    if not weak:
        return ""
    parts = [
        f"{fact.name} rests on {fact.effective_patients:.1f} effective patients"
        if fact.folds
        else f"no fold has enough {fact.name} beats"
        for fact in weak
    ]
    return f"not estimable: {', '.join(parts)}"


def undercovered(
    quantity: str,
    facts: Sequence[ClassFacts],
    n_folds: int,
    macro: tuple[str, ...] = CLASSES,
) -> str:
    """Say that the interval of an arm's own score covers too little; empty if it does not."""
    few = [
        f"{fact.name} rests on {fact.effective_patients:.1f} effective patients"
        for fact in facts
        if fact.name in classes_in(quantity, macro) and fact.effective_patients < FEW_IN_ONE_FOLD
    ]
    if n_folds > 1 or not few:
        return ""
    return f"covers less than 90 % in simulation: {', '.join(few)} in one fold"


def spread(values: Float) -> float:
    """Return the sample standard deviation of defined values; NaN for fewer than two."""
    finite = values[np.isfinite(values)]
    return float(finite.std(ddof=1)) if len(finite) > 1 else float("nan")
