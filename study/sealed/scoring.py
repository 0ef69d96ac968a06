"""Scores arms on test records, for each seed and for the seed ensemble, and compares them.

Every seed is scored separately; tables show mean and standard deviation over seeds. The seed
ensemble is the mean probability of all seeds, and is shown separately. Undefined is NaN.

Shapes: S seeds, N beats, C classes, G records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES, MIN_BEATS_OF_RECORD, MIN_CLASS_BEATS, sealed_metric
from study.sealed.plan import SealedPlan
from study.sealed.thresholds import Thresholds, decisions_at, ensemble_of
from study.statistics.comparison import compare
from study.statistics.ec57 import gross_and_average
from study.statistics.estimates import with_means
from study.statistics.findings import MEASURE_NAMES, QUANTITIES, Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.scored import ScoredArms
from study.training.metrics import DECISIONS
from study.training.scores import confusions_by_record, rank_within, score

Float = NDArray[np.float64]

RARE = ("S", "V", "F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Records that additional totals leave out."""

    label: str
    records: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """The scores of one set of predictions: of all seeds, or of their ensemble (S = 1)."""

    values: Mapping[str, Float]  # [S] by metric name
    without: Mapping[str, Mapping[str, Float]]  # [S] by exclusion and metric name
    # [S] by beat type, `gross` or `average`, and statistic
    ec57: Mapping[str, Mapping[str, Mapping[str, Float]]]
    # [C, C] beats by true (rows) and decided class, summed over seeds
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmScores:
    """All scores of an arm."""

    name: str
    seeds: Scores  # of every seed
    ensemble: Scores  # of the seed ensemble
    thresholds: Thresholds  # origin of the fixed thresholds
    # One row for each record: areas are means over seeds, ratios pool the beats of all seeds
    per_record: list[dict[str, Any]]


def exclusions(beats: Beats, trained_patients: Iterable[str]) -> list[Exclusion]:
    """Return the sets of records that additional totals leave out.

    These are the record with most beats of each rare class, and the records of patients who are
    also in the training data.
    """
    largest: dict[int, list[str]] = {}
    for name in RARE:
        of_class = beats.counts[:, CLASSES.index(name)]
        if of_class.any():
            share = f"{of_class.max() / of_class.sum():.0%} of {name}"
            largest.setdefault(int(of_class.argmax()), []).append(share)
    excluded = [
        Exclusion(label=f"without {name}", records=(name,), why=", ".join(shares))
        for record, shares in largest.items()
        for name in [beats.record_names[record]]
    ]
    known = set(trained_patients)
    shared = [
        name
        for name, patient in zip(beats.record_names, beats.patient_of_record, strict=True)
        if patient in known
    ]
    if shared:
        reason = "the patient also trains"
        label = f"without {', '.join(shared)}"
        excluded.append(Exclusion(label=label, records=tuple(shared), why=reason))
    return excluded


def score_arm(
    name: str,
    log_probs: NDArray[np.float32],
    beats: Beats,
    thresholds: Thresholds,
    left_out: Iterable[Exclusion],
) -> ArmScores:
    """Score an arm by its log-probabilities, [S, N, C]."""
    left_out = list(left_out)
    fold = np.zeros((1, len(beats.label)), dtype=np.int64)
    whole = score(log_probs, beats.label, beats.record, fold, record_names=beats.record_names)
    rows = [{k: v for k, v in row.items() if k != "fold"} for row in whole.per_record]
    return ArmScores(
        name=name,
        seeds=_scores(log_probs, beats, thresholds.single, left_out),
        ensemble=_scores(ensemble_of(log_probs), beats, thresholds.ensemble, left_out),
        thresholds=thresholds,
        per_record=[{"arm": name, **row} for row in rows],
    )


def _scores(
    log_probs: NDArray[np.floating],
    beats: Beats,
    thresholds: Float,
    left_out: Iterable[Exclusion],
) -> Scores:
    confusion = confusions_by_record(
        log_probs, beats.label, beats.record, n_records=len(beats.record_names)
    )
    by_class: dict[str, Float] = _ranking(log_probs, beats, np.zeros_like(beats.record))
    records = rank_within(
        log_probs,
        beats.label,
        beats.record[None],
        n_groups=len(beats.record_names),
        min_beats=MIN_BEATS_OF_RECORD,
    )
    by_class |= {f"patient_{name}": records.by_class(name) for name in records.values}
    by_class |= {name: metric(confusion.sum(axis=1)) for name, metric in DECISIONS.items()}
    fixed = decisions_at(log_probs, beats.label, thresholds)
    by_class |= {f"fixed_{name}": values for name, values in fixed.items()}
    without = {}
    for exclusion in left_out:
        out = [beats.record_names.index(name) for name in exclusion.records]
        group = np.where(np.isin(beats.record, out), -1, 0)
        without[exclusion.label] = _named(_ranking(log_probs, beats, group), beats.macro)
    return Scores(
        values=_named(by_class, beats.macro),
        without=without,
        ec57=gross_and_average(confusion),
        confusion=confusion.sum(axis=(0, 1)),
    )


def _ranking(
    log_probs: NDArray[np.floating], beats: Beats, group: NDArray[np.int64]
) -> dict[str, Float]:
    """Return the ranking metrics of the beats of group 0, by name, [S, C]."""
    ranked = rank_within(
        log_probs, beats.label, group[None], n_groups=1, min_beats=MIN_CLASS_BEATS
    )
    return {name: values[:, 0] for name, values in ranked.values.items()}


def _named(by_class: Mapping[str, Float], macro: tuple[str, ...]) -> dict[str, Float]:
    """Split metrics [S, C] into [S] by full name, one for each class or aggregate."""
    return {
        sealed_metric(name, quantity): values
        for name, of_class in by_class.items()
        for quantity, values in zip(QUANTITIES, with_means(of_class, macro).T, strict=True)
    }


def compare_arms(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> dict[str, Comparison]:
    """Return the comparison of each of the plan's metrics, and of each measure."""
    lacking = [m for m in MEASURE_NAMES if not any(n.startswith(m) for n in plan.test.metrics)]
    single = runs(plan, log_probs, beats)
    scored: dict[str, ScoredArms] = {}  # by measure: its metrics share what takes longest
    comparisons = {}
    for name in (*plan.test.metrics, *(f"{measure}_sv" for measure in lacking)):
        say(f"resampling patients and seeds: {name}")
        measure = name.partition("_")[0]
        if measure not in scored:
            scored[measure] = _scored(plan, beats, single, name)
        comparisons[name] = _compare(
            plan, beats, single, name, scored[measure], plan.test.contrasts
        )
    return comparisons


def compare_ensembles(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> Comparison:
    """Return the comparison of the seed ensembles; arguments as in `compare_arms`."""
    say("resampling patients: seed ensembles")
    together = {name: ensemble_of(values) for name, values in log_probs.items()}
    arms, metric = runs(plan, together, beats), plan.test.metrics[0]
    return _compare(plan, beats, arms, metric, _scored(plan, beats, arms, metric))


def _scored(plan: SealedPlan, beats: Beats, arms: Sequence[ArmRuns], metric: str) -> ScoredArms:
    resamples, seed = plan.test.resamples, plan.test.study_seed
    return ScoredArms.of(beats, arms, _objective(metric), resamples, seed, choosing=False)


def _objective(metric: str) -> str:
    """Return the name that a metric of the plan has in a study."""
    return f"val_{metric}"


def _compare(
    plan: SealedPlan,
    beats: Beats,
    arms: Sequence[ArmRuns],
    metric: str,
    scored: ScoredArms,
    contrasts: Sequence[tuple[str, str]] = (),
) -> Comparison:
    return compare(
        beats,
        arms,
        scored=scored,
        contrasts=contrasts,
        objective=_objective(metric),
        resamples=plan.test.resamples,
        permutations=plan.test.permutations,
        seed=plan.test.study_seed,
        choosing=False,
    )


def runs(
    plan: SealedPlan, log_probs: Mapping[str, NDArray[np.floating]], beats: Beats
) -> list[ArmRuns]:
    """Return arms and floors as input of a comparison; a floor's model serves for all seeds."""
    seeds = np.arange(max(len(values) for values in log_probs.values()))
    shared: dict[str, Any] = {
        "draw": np.zeros_like(seeds),
        "seed": seeds,
        "fingerprints": beats.fingerprints,
    }
    arms = [
        ArmRuns(
            name=arm.name,
            log_probs=log_probs[arm.name].astype(np.float32),
            input=arm.config.signal.input,
            window=arm.config.signal.window,
            fusion=arm.config.model.fusion,
            rr=arm.config.signal.rr,
            **shared,
        )
        for arm in plan.arms
    ]
    expected = (len(seeds), *beats.label.shape, len(CLASSES))
    floors = [
        ArmRuns(
            name=name,
            log_probs=np.broadcast_to(log_probs[name].astype(np.float32), expected),
            input=name,
            window="",  # no arm's window, so that it is not compared with the bare ECG
            fusion=name,
            **shared,
        )
        for name in plan.floors
    ]
    return [*arms, *floors]
