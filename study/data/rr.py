"""RR-interval features of every beat of a record, and RR permuted within each record.

Intervals run between consecutive beat annotations (class Q included, rhythm and noise marks not),
before any beat is left out. Beat i's pre_rr ends at beat i, its post_rr begins there. An interval
over a gap in the beats is not an RR interval: no feature contains it.

Permuted RR is the placebo control, and measures how much a trained model relies on RR. Its random
streams depend on the study's seed, never on a configuration, so that every arm of a study gets the
same permutations.

Shapes: K beats of one record, R features of a set; N beats of all records, P permutations, M
sampled beats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study.data.annotations import over_gaps
from study.data.reference.trailing import trailing_median, trailing_spread
from study.data.windows import Causality
from study.keys import CLASSES

LOCAL_INTERVALS = 10
"""Intervals in the local mean: the current pre_rr and up to nine before it."""

LARGEST_LOG = math.log(4)
"""Logs of ratios are clipped to +- this: beside a pause one interval can be many times another."""

PERMUTATIONS = 5
"""Permutations P of the RR reliance measurement."""

NORMAL_SAMPLE = 1000
"""Normal beats in the reliance sample, besides all S, V and F beats."""

# First words of the seed sequences: they separate these streams from all others of a study.
_PLACEBO, _DONORS, _NORMALS = 7001, 7002, 7003


@dataclass(frozen=True, slots=True)
class RRFeature:
    """One column of a feature set: in ms, except ratios (`a / b`), logs and variabilities."""

    name: str
    causality: Causality = Causality.CAUSAL


_PRE = RRFeature("pre_rr")
_PRE_TO_LOCAL = RRFeature("pre_rr / local_rr")
_PRE_TO_RUNNING = RRFeature("pre_rr / running mean")
_PRE_TO_GLOBAL = RRFeature("pre_rr / global_rr", Causality.RECORD)
_PRE_TO_POST = RRFeature("pre_rr / post_rr", Causality.NEXT_BEAT)
_POST_TO_LOCAL = RRFeature("post_rr / local_rr", Causality.NEXT_BEAT)
_PRE_TO_PREVIOUS = RRFeature("pre_rr / previous pre_rr")
_PRE_TO_TWO_BEFORE = RRFeature("pre_rr / pre_rr two before")


def _log(ratio: RRFeature) -> RRFeature:
    return RRFeature(f"log {ratio.name}", ratio.causality)


FEATURES: dict[str, tuple[RRFeature, ...]] = {
    "published7": (
        _PRE,
        RRFeature("post_rr", Causality.NEXT_BEAT),
        RRFeature("local_rr"),
        _PRE_TO_POST,
        RRFeature("global_rr", Causality.RECORD),
        RRFeature("pre_rr - global_rr", Causality.RECORD),
        _PRE_TO_GLOBAL,
    ),
    "ratio7": (
        _PRE_TO_LOCAL,
        _PRE_TO_POST,
        _PRE_TO_PREVIOUS,
        _POST_TO_LOCAL,
        RRFeature("local_rr / global_rr", Causality.RECORD),
        _PRE_TO_TWO_BEFORE,
        RRFeature("post_rr / next post_rr", Causality.NEXT_TWO_BEATS),
    ),
    "ratio2_so_far": (_PRE_TO_RUNNING, _PRE_TO_LOCAL),
    "ratio2_record": (_PRE_TO_GLOBAL, _PRE_TO_LOCAL),
    "causal": (
        _PRE,
        _PRE_TO_LOCAL,
        _PRE_TO_RUNNING,
        _PRE_TO_PREVIOUS,
        _PRE_TO_TWO_BEFORE,
        RRFeature("running variability"),
    ),
    "log8": (
        _log(_PRE_TO_LOCAL),
        _log(_POST_TO_LOCAL),
        _log(_PRE_TO_GLOBAL),
        RRFeature("log post_rr / global_rr", Causality.RECORD),
        _log(_PRE_TO_POST),
        _log(_PRE_TO_RUNNING),
        _log(_PRE_TO_PREVIOUS),
        _log(_PRE_TO_TWO_BEFORE),
    ),
    "log_causal": (
        _log(_PRE_TO_LOCAL),
        _log(_PRE_TO_RUNNING),
        _log(_PRE_TO_PREVIOUS),
        _log(_PRE_TO_TWO_BEFORE),
        RRFeature("log pre_rr / trailing median"),
        RRFeature("trailing variability"),
    ),
    "log_robust": (
        RRFeature("log pre_rr three before / trailing median"),
        RRFeature("log pre_rr two before / trailing median"),
        RRFeature("log previous pre_rr / trailing median"),
        RRFeature("log pre_rr / trailing median"),
        RRFeature("log post_rr / trailing median", Causality.NEXT_BEAT),
        RRFeature("log next post_rr / trailing median", Causality.NEXT_TWO_BEATS),
        RRFeature("trailing variability"),
    ),
}
"""Feature sets by name, in column order; `published7` and `ratio7` are the author's earlier and
later `opt1` (docs/published.md).

local_rr is the mean of the current pre_rr and up to nine before it; the running mean that of all
pre_rr so far, the current one included; global_rr that of the whole record. Running variability is
the standard deviation of all pre_rr so far over their mean. Near the record's start, the record's
first interval replaces the missing intervals before; near its end, the last interval replaces the
one missing after post_rr. At a gap, the intervals before or after are those on its other side.

Logs of ratios are clipped to +-log 4. The trailing median is that of the current pre_rr and up to
63 before it; trailing variability is their median absolute deviation over that median.
"""


def rr_features(
    beat_samples: ArrayLike, sampling_rate_hz: float, gap: NDArray[np.bool_] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return every feature set of a record from the samples of its beats, [K, R] each.

    The samples must rise.

    Features that need an interval that does not exist are NaN: the first beat and one after a gap
    have no pre_rr, the last beat and one before a gap no post_rr. Gaps are [K - 1]; those of
    `over_gaps` if None.
    """
    samples = np.asarray(beat_samples, dtype=np.int64)
    if len(samples) < 2:
        return {name: _nan_rows(len(samples), len(FEATURES[name])) for name in FEATURES}
    interval_ms = np.diff(samples) * (1000.0 / sampling_rate_hz)
    known = ~(over_gaps(samples, sampling_rate_hz) if gap is None else gap)
    post_known = np.append(known[1:], False)[known]
    columns = _columns(interval_ms[known], post_known) if known.any() else {}
    sets = {}
    for name, features in FEATURES.items():
        rows = _nan_rows(len(samples), len(features))
        if columns:
            rows[1:][known] = np.stack([columns[feature.name] for feature in features], axis=1)
        sets[name] = rows
    return sets


def _columns(
    pre_ms: NDArray[np.float64], post_known: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return every feature by name for the beats that have a pre_rr, [beats] each.

    `post_known` tells which of them have a post_rr: it is the pre_rr of the next one.
    """
    post_ms = np.where(post_known, _shifted(pre_ms, 1), np.nan)
    n_so_far = np.arange(1, len(pre_ms) + 1)
    local_ms = _local_mean(pre_ms)
    running_ms = np.cumsum(pre_ms) / n_so_far
    global_ms = np.full_like(pre_ms, pre_ms.mean())
    # Deviations from the first interval: with whole intervals, sums of squares would cancel badly.
    deviation = pre_ms - pre_ms[0]
    variance = np.cumsum(deviation**2) / n_so_far - (np.cumsum(deviation) / n_so_far) ** 2
    median_ms = trailing_median(pre_ms)
    columns = {
        "pre_rr": pre_ms,
        "post_rr": post_ms,
        "local_rr": local_ms,
        "global_rr": global_ms,
        "pre_rr / post_rr": pre_ms / post_ms,
        "pre_rr - global_rr": pre_ms - global_ms,
        "pre_rr / global_rr": pre_ms / global_ms,
        "pre_rr / local_rr": pre_ms / local_ms,
        "pre_rr / running mean": pre_ms / running_ms,
        "pre_rr / previous pre_rr": pre_ms / _shifted(pre_ms, -1),
        "pre_rr / pre_rr two before": pre_ms / _shifted(pre_ms, -2),
        "post_rr / local_rr": post_ms / local_ms,
        "post_rr / next post_rr": post_ms / _shifted(pre_ms, 2),
        "local_rr / global_rr": local_ms / global_ms,
        "running variability": np.sqrt(np.maximum(variance, 0.0)) / running_ms,
        "trailing variability": trailing_spread(pre_ms) / median_ms,
    }
    next_ms = np.where(post_known, _shifted(pre_ms, 2), np.nan)
    ratios = {
        **{name: values for name, values in columns.items() if " / " in name},
        "post_rr / global_rr": post_ms / global_ms,
        "pre_rr three before / trailing median": _shifted(pre_ms, -3) / median_ms,
        "pre_rr two before / trailing median": _shifted(pre_ms, -2) / median_ms,
        "previous pre_rr / trailing median": _shifted(pre_ms, -1) / median_ms,
        "pre_rr / trailing median": pre_ms / median_ms,
        "post_rr / trailing median": post_ms / median_ms,
        "next post_rr / trailing median": next_ms / median_ms,
    }
    logs = {
        f"log {name}": np.clip(np.log(ratio), -LARGEST_LOG, LARGEST_LOG)
        for name, ratio in ratios.items()
    }
    return columns | logs


def _local_mean(interval_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(interval_ms)])
    stop = np.arange(1, len(interval_ms) + 1)
    start = np.maximum(stop - LOCAL_INTERVALS, 0)
    return np.asarray((total[stop] - total[start]) / (stop - start))


def _shifted(interval_ms: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """Return the interval `by` places later at each place; the first or last beyond the ends."""
    at = np.arange(len(interval_ms)) + by
    return interval_ms[np.clip(at, 0, len(interval_ms) - 1)]


def _nan_rows(rows: int, columns: int) -> NDArray[np.float32]:
    return np.full((rows, columns), np.nan, dtype=np.float32)


def permute_within(record: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random permutation of all beats that keeps each beat in its record, [N]."""
    # Beats in random order within each record: a permutation inside records.
    shuffled = np.lexsort((rng.random(len(record)), record))
    order = np.empty(len(record), dtype=np.int64)
    order[np.argsort(record, kind="stable")] = shuffled
    return order


def placebo_order(
    record: NDArray[np.int64], study_seed: int, seed_index: int
) -> NDArray[np.int64]:
    """Return the beat whose RR each beat gets under `rr = placebo`, [N].

    Each seed index (repetition) has its own permutation, shared by all folds.
    """
    return permute_within(record, _generator(_PLACEBO, study_seed, seed_index))


def reliance_sample(
    record: NDArray[np.int64], label: NDArray[np.int64], study_seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the beats of the reliance measurement, and the donor of each beat's RR.

    Returns:
        [M] sorted indices of all S, V, F beats and of normal beats, equally many of each record
        that has enough; [P, M] index of each one's donor, from a permutation of all beats of its
        record.
    """
    normal = np.flatnonzero(label == CLASSES.index("N"))
    normal = normal[_spread(record[normal], _generator(_NORMALS, study_seed))[:NORMAL_SAMPLE]]
    others = np.flatnonzero(label != CLASSES.index("N"))
    beats = np.sort(np.concatenate([normal, others]))
    donors = [
        permute_within(record, _generator(_DONORS, study_seed, p))[beats]
        for p in range(PERMUTATIONS)
    ]
    return beats, np.stack(donors)


def _spread(record: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Order beats so that every prefix takes about equally many from each record."""
    by_record = np.lexsort((rng.random(len(record)), record))
    size = np.unique(record, return_counts=True)[1]
    first = np.repeat(np.cumsum(size) - size, size)
    turn = np.arange(len(record)) - first
    return by_record[np.argsort(turn, kind="stable")]


def _generator(*words: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(words))
