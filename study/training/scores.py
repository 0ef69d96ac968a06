"""The scores of a trial from its out-of-fold predictions.

The score of a class is its metric **within each fold's predictions**, because the probabilities of
different members are not comparable (Forman & Scholz 2010, doi:10.1145/1882471.1882479): the mean
over the folds with enough beats of the class, then over seeds. Beside it stand values pooled over
folds, the mean over records, and the AUPRC among the beats of each of several databases. Undefined
is NaN, with a reason. Seed s has the folds of partition s mod P.

Shapes: S seeds, N beats, C classes, P partitions, G groups (folds or records).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.beats import ratio, scorable
from study.keys import (
    AGGREGATES,
    CLASSES,
    MIN_BEATS_OF_RECORD,
    MIN_CLASS_BEATS,
    VAL_LOSS,
    metric,
)
from study.training.metrics import DECISIONS, RANKING, confusion_matrix, threshold_counts

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one set of predictions."""

    values: dict[str, float]  # by metric name (see `study.keys`); NaN where undefined
    undefined: dict[str, str]  # why, for every name whose value is NaN
    # One row a fold, partition by partition: beats and metrics by class
    per_fold: list[dict[str, Any]]
    per_record: list[dict[str, Any]]  # one row a record: folds, beats and metrics by class
    # [C, C] beats by true (rows) and decided class, summed over seeds
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Ranking metrics within groups of beats."""

    counts: NDArray[np.int64]  # [P, G, C] beats
    # [P, G, C] whether the group has enough beats of the class, and others
    counted: NDArray[np.bool_]
    values: dict[str, Float]  # by ranking metric, [S, G, C]; NaN where not counted

    def by_class(self, name: str) -> Float:
        """Return the mean over the counted groups, [S, C]; NaN where there is none."""
        values = self.values[name]
        counted = self.counted[np.arange(len(values)) % len(self.counted)]
        total = np.where(counted, values, 0.0).sum(axis=1)
        return ratio(total, counted.sum(axis=1))


def rank_within(
    log_probs: NDArray[np.floating],
    label: NDArray[np.int64],
    group: NDArray[np.int64],
    *,
    n_groups: int,
    min_beats: int,
    weight: NDArray[np.float64] | None = None,
) -> Grouped:
    """Rank the beats of each group by each class's log-probability [S, N, C].

    `group` [P, N] numbers the groups of each partition from 0; a negative one leaves its beat out.
    A group counts for a class with `min_beats` beats of it. With `weight` [N] each beat counts as
    many times.
    """
    n_seeds, n_classes = len(log_probs), len(CLASSES)
    values = {name: np.full((n_seeds, n_groups, n_classes), np.nan) for name in RANKING}
    counts = np.zeros((len(group), n_groups, n_classes), dtype=np.int64)
    partition, beat = np.nonzero(group >= 0)
    np.add.at(counts, (partition, group[partition, beat], label[beat]), 1)
    counted = scorable(counts, min_beats)
    for p, g in np.argwhere(counted.any(axis=2)):
        beats = np.flatnonzero(group[p] == g)
        scores, labels = log_probs[:, beats], label[beats]
        weights = None if weight is None else weight[beats]
        for c in np.flatnonzero(counted[p, g]):
            positive = labels == c
            for s in range(p, n_seeds, len(group)):
                true, false = threshold_counts(scores[s, :, c], positive, weights)
                for name, function in RANKING.items():
                    values[name][s, g, c] = function(true, false)
    return Grouped(counts, counted, values)


@dataclass(slots=True)
class _Collected:
    """Values with the reasons of the undefined ones."""

    values: dict[str, float] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: float, reason: str) -> None:
        self.values[name] = float(value)
        if np.isnan(value):
            self.undefined[name] = reason

    def add_classes(self, name: str, by_class: Float, reason: str) -> None:
        """Add a metric by class [C] and its aggregates; `{}` in the reason is the class."""
        for aami_class, value in zip(CLASSES, by_class, strict=True):
            self.add(metric(name, aami_class), value, reason.format(aami_class))
        for aggregate, classes in AGGREGATES.items():
            mean, missing = _mean_over(by_class, classes), _undefined(by_class, classes)
            self.add(metric(name, aggregate), float(mean), f"undefined for {', '.join(missing)}")


def _mean_over(by_class: Float, classes: Sequence[str]) -> Float:
    """Return the mean over some classes of [..., C]; NaN where one is."""
    mean: Float = by_class[..., [CLASSES.index(c) for c in classes]].mean(axis=-1)
    return mean


def _undefined(by_class: Float, classes: Sequence[str]) -> list[str]:
    return [c for c in classes if np.isnan(by_class[CLASSES.index(c)])]


def score(
    log_probs: NDArray[np.float32],
    label: NDArray[np.int64],
    record: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    record_names: Sequence[str],
    databases: Sequence[str] = (),
) -> Scores:
    """Return all scores of out-of-fold log-probabilities [S, N, C].

    `fold` [P, N] is the validation fold of each beat in each partition, from 0; -1 where it is in
    none, and its prediction may be NaN. `label` and `record` are indices [N]. Where there are
    several `databases`, each record's is named.
    """
    # Under the published hold-out most records validate nothing.
    held_out = np.flatnonzero(fold[0] >= 0)
    log_probs, label = log_probs[:, held_out], label[held_out]
    record, fold = record[held_out], fold[:, held_out]
    n_folds = int(fold.max()) + 1
    folds = rank_within(log_probs, label, fold, n_groups=n_folds, min_beats=MIN_CLASS_BEATS)
    pooled = rank_within(log_probs, label, np.zeros_like(fold[:1]), n_groups=1, min_beats=1)
    records = rank_within(
        log_probs, label, record[None], n_groups=len(record_names), min_beats=MIN_BEATS_OF_RECORD
    )
    confusions = confusions_by_record(log_probs, label, record, n_records=len(record_names))
    collected = _Collected()
    for name in RANKING:
        reason = f"no fold has {MIN_CLASS_BEATS} or more {{}} beats and others"
        collected.add_classes(name, folds.by_class(name).mean(axis=0), reason)
        reason = "no {} beats, or no others"
        collected.add_classes(f"pooled_{name}", pooled.by_class(name).mean(axis=0), reason)
        reason = f"no record has {MIN_BEATS_OF_RECORD} or more {{}} beats and others"
        collected.add_classes(f"patient_{name}", records.by_class(name).mean(axis=0), reason)
        _add_spread(collected, name, folds)
    for database in dict.fromkeys(databases):
        in_database = np.isin(record, np.flatnonzero(np.equal(databases, database)))
        within = rank_within(
            log_probs,
            label,
            np.where(in_database, fold, -1),
            n_groups=n_folds,
            min_beats=MIN_CLASS_BEATS,
        )
        reason = f"no fold has {MIN_CLASS_BEATS} or more {{}} beats of {database} and others"
        by_class = within.by_class("auprc").mean(axis=0)
        collected.add_classes(f"{database}_auprc", by_class, reason)
    for name, decision in DECISIONS.items():
        by_class = decision(confusions.sum(axis=1)).mean(axis=0)
        collected.add_classes(
            name, by_class, "a seed has no {} beats, true or decided, to divide by"
        )
    # In float64: a mean of 50,000 float32 values would depend on their order.
    picked = np.take_along_axis(log_probs, label[None, :, None], axis=2)
    collected.add(VAL_LOSS, -picked.mean(dtype=np.float64), "a prediction is not finite")
    return Scores(
        values=collected.values,
        undefined=collected.undefined,
        per_fold=_fold_table(folds),
        per_record=_record_table(records, record_names, record, fold, confusions.sum(axis=0)),
        confusion=confusions.sum(axis=(0, 1)),
    )


def confusions_by_record(
    log_probs: NDArray[np.floating],
    label: NDArray[np.int64],
    record: NDArray[np.int64],
    *,
    n_records: int,
) -> NDArray[np.int64]:
    """Return confusion matrices by seed and record, [S, records, C, C]."""
    n_classes = len(CLASSES)
    rows = record * n_classes + label
    return np.stack(
        [
            confusion_matrix(rows, decided, n_rows=n_records * n_classes, n_columns=n_classes)
            for decided in log_probs.argmax(axis=2)
        ]
    ).reshape(len(log_probs), n_records, n_classes, n_classes)


def _add_spread(collected: _Collected, name: str, folds: Grouped) -> None:
    """Add the standard deviation of each aggregate over seeds, and over folds."""
    by_class = folds.by_class(name)
    for aggregate, classes in AGGREGATES.items():
        spreads = {"seed": _mean_over(by_class, classes)}
        of_seeds = folds.values[name]
        n_partitions = len(folds.counts)
        parts = [of_seeds[p::n_partitions].mean(axis=0) for p in range(n_partitions)]
        by_fold = _mean_over(np.concatenate(parts), classes)
        spreads["fold"] = by_fold[~np.isnan(by_fold)]
        for over, values in spreads.items():
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
            reason = f"{len(values)} {over}(s) with every class defined: no spread"
            collected.add(f"{metric(name, aggregate)}_{over}_sd", sd, reason)


def _fold_table(folds: Grouped) -> list[dict[str, Any]]:
    return [
        {
            "partition": p,
            "fold": g,
            "beats": int(counts.sum()),
            **_class_columns(folds, g, partition=p),
        }
        for p, of_partition in enumerate(folds.counts)
        for g, counts in enumerate(of_partition)
    ]


def _record_table(
    records: Grouped,
    record_names: Sequence[str],
    record: NDArray[np.int64],
    fold: NDArray[np.int64],
    confusions: NDArray[np.int64],
) -> list[dict[str, Any]]:
    fold_of = np.full((len(record_names), len(fold)), -1)
    fold_of[record] = fold.T
    decisions = {name: function(confusions) for name, function in DECISIONS.items()}
    return [
        {
            "record": record_names[g],
            "fold": " ".join(map(str, fold_of[g])),
            "beats": int(records.counts[0, g].sum()),
            **_class_columns(records, g),
            **{
                f"{name}_{aami_class}": float(decisions[name][g, c])
                for name in decisions
                for c, aami_class in enumerate(CLASSES)
            },
        }
        for g in range(len(record_names))
        if records.counts[0, g].any()
    ]


def _class_columns(grouped: Grouped, group: int, partition: int = 0) -> dict[str, Any]:
    """Return beats and ranking metrics (mean over seeds) of one group, a column a class."""
    columns: dict[str, Any] = {
        f"beats_{c}": int(n)
        for c, n in zip(CLASSES, grouped.counts[partition, group], strict=True)
    }
    for name, values in grouped.values.items():
        means = values[partition :: len(grouped.counts), group].mean(axis=0)
        columns |= {f"{name}_{c}": float(v) for c, v in zip(CLASSES, means, strict=True)}
    return columns
