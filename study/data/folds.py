"""Folds over the records of a data set: whole patients, with each class spread evenly.

A plan may have several partitions into folds: each shares the same records out anew.

Shapes: N beats, C classes, P partitions, K folds of one, U patients, G groups of beats to spread
evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from study.config import digest_of
from study.data.beat_set import BeatSet
from study.data.catalogue import DS1, PATIENT_OF, PUBLISHED_VALIDATION
from study.errors import DataError
from study.keys import CLASSES, MIN_CLASS_BEATS
from study.wording import aligned, listing

DOMINANT_SHARE = 0.25
"""The table of folds names a record that has more than this share of a class's beats, or more
than two records' share where there are few records."""

PUBLISHED, ALL = "published", "all"
"""Names of fold plans: the published 17/5 hold-out, and no folds, all records train."""

_MOST_SEEDS = 200
_STARTS = 20
_COUNTED_WEIGHT = 0.1
_SMALLEST_GAIN = 1e-9
_PATIENT_WEIGHTS = (0.8, 1.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Which records validate in each fold; all other records of the data set train."""

    name: str  # `published`, `all`, or the number of folds and the partition seeds
    # Record names of each fold, sorted, partition by partition; of `all`, one fold without any
    validation: tuple[tuple[str, ...], ...]
    fingerprint: str  # digest of all records and of those of each fold
    n_partitions: int = 1

    def __len__(self) -> int:
        """Return the number of folds of a partition."""
        return len(self.validation) // self.n_partitions

    @property
    def partitions(self) -> list[tuple[tuple[str, ...], ...]]:
        """Record names of each fold, [P] times [K]."""
        size = len(self)
        return [self.validation[p * size : (p + 1) * size] for p in range(self.n_partitions)]

    def splits(self, beat_set: BeatSet) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return the indices of training and validation beats of every fold, [P * K]."""
        return [
            (np.flatnonzero(~validates), np.flatnonzero(validates))
            for validates in self._validates(beat_set)
        ]

    def of_beats(self, beat_set: BeatSet) -> NDArray[np.int64]:
        """Return the fold that each beat validates in, [P, N]; -1 for none."""
        fold = np.full((self.n_partitions, len(beat_set.label)), -1)
        for number, validates in enumerate(self._validates(beat_set)):
            partition, k = divmod(number, len(self))
            fold[partition, validates] = k
        return fold

    def counts(self, beat_set: BeatSet) -> NDArray[np.int64]:
        """Return validation beats per fold and class, [P, K, C]."""
        counts = [
            np.bincount(beat_set.label[validates], minlength=len(CLASSES))
            for validates in self._validates(beat_set)
        ]
        return np.reshape(counts, (self.n_partitions, len(self), len(CLASSES)))

    def _validates(self, beat_set: BeatSet) -> Iterator[NDArray[np.bool_]]:
        """Yield which beats validate in each fold, [N]."""
        index_of = {name: index for index, name in enumerate(beat_set.record_names)}
        for fold in self.validation:
            yield np.isin(beat_set.record, [index_of[name] for name in fold])


def published_holdout(record_names: Sequence[str]) -> Folds:
    """Return the published 17/5 hold-out of DS1 as a single fold.

    Raises:
        DataError: If its validation records are not all there, or no other record is.
    """
    absent = [name for name in PUBLISHED_VALIDATION if name not in record_names]
    others = [name for name in record_names if name not in DS1]
    if absent or others or len(record_names) == len(PUBLISHED_VALIDATION):
        raise DataError(
            f"folds '{PUBLISHED}': needs DS1, with validation records "
            f"{', '.join(PUBLISHED_VALIDATION)}; got {', '.join(record_names)}"
        )
    return _folds(PUBLISHED, record_names, [list(PUBLISHED_VALIDATION)])


def folds_fault(n_folds: int, n_patients: int) -> str:
    """Return why so many patients cannot be shared out over folds, or an empty string."""
    if n_patients < 2:
        return f"folds: need 2 or more patients, got {n_patients}"
    if not 2 <= n_folds <= n_patients:
        return f"folds: must be in [2, {n_patients}] for {n_patients} patients, got {n_folds}"
    return ""


def all_records(record_names: Sequence[str]) -> Folds:
    """Return the folds of a sealed test: every record trains the one member of a seed."""
    return _folds(ALL, record_names, [[]])


def make_folds(
    record_names: Sequence[str],
    counts: NDArray[np.int64],
    n_folds: int = 5,
    partition_seed: int = 0,
    patients: Mapping[str, str] = PATIENT_OF,
    databases: Sequence[str] = (),
) -> Folds:
    """Share records with beat counts [records, C] out over folds, whole patients together.

    With the `databases` of the records, the beats of each are spread evenly too.

    From each of several random starts, patients are moved and exchanged between folds while this
    makes the folds more even. The best partition is the one in which N, S, V, F and all of S, V, F
    reach `MIN_CLASS_BEATS` in the most folds, and of those the most even one: with the smallest
    sum of Hellinger distances between each group's distribution over the folds and the uniform
    one. These distances take the square root of shares. So where one patient has most beats of a
    class, the rest of the class is still spread.

    Partition seed 0 takes the beats as they are. All random starts lead to nearly the same folds;
    so another seed also weighs each patient at random, which gives other, slightly less even
    folds.

    A record that `patients` does not list is a patient of its own.

    Raises:
        DataError: If there are fewer than two patients or folds, or more folds than patients.
    """
    patient_names = [patients.get(name, name) for name in record_names]
    names = sorted(set(patient_names))
    if fault := folds_fault(n_folds, len(names)):
        raise DataError(fault)
    unit_of = np.array([names.index(name) for name in patient_names])
    groups = _groups(counts, unit_of, databases)
    rng = np.random.default_rng(np.random.SeedSequence([n_folds, partition_seed]))
    if partition_seed:
        groups = groups * rng.uniform(*_PATIENT_WEIGHTS, size=(len(names), 1))
    partitions = [_Partition(groups, n_folds, rng) for _ in range(_STARTS)]
    # Rounded, so that the last bit of a sum cannot decide between equal partitions.
    best = max(partitions, key=lambda p: (p.counted(), round(p.evenness(), 9)))
    fold_records: list[list[str]] = [[] for _ in range(n_folds)]
    for name, unit in zip(record_names, unit_of, strict=True):
        fold_records[best.fold[unit]].append(name)
    return _folds(f"{n_folds}-fold, partition seed {partition_seed}", record_names, fold_records)


def _groups(
    counts: NDArray[np.int64], unit_of: NDArray[np.int64], databases: Sequence[str]
) -> NDArray[np.float64]:
    """Return each patient's beats in the groups to spread evenly, [U, G].

    These are each class and all of S, V, F: of all records, then of each database.
    """
    of_database = [np.equal(databases, name) for name in sorted(set(databases))]
    groups = []
    for included in (np.ones(len(counts), dtype=bool), *of_database):
        per_patient = np.zeros((unit_of.max() + 1, counts.shape[1]))
        np.add.at(per_patient, unit_of, counts * included[:, None])
        groups += [per_patient, per_patient[:, 1:].sum(axis=1)]
    return np.column_stack(groups)


def different_folds(
    record_names: Sequence[str],
    counts: NDArray[np.int64],
    n_folds: int,
    first_seed: int,
    patients: Mapping[str, str] = PATIENT_OF,
    databases: Sequence[str] = (),
) -> Iterator[tuple[int, Folds]]:
    """Yield folds that differ from each other, with their partition seed, from a first seed on.

    Raises:
        DataError: As `make_folds` does.
    """
    seen = set()
    for seed in range(first_seed, first_seed + _MOST_SEEDS):
        folds = make_folds(record_names, counts, n_folds, seed, patients, databases)
        if folds.fingerprint not in seen:
            seen.add(folds.fingerprint)
            yield seed, folds


def partitioned(
    record_names: Sequence[str],
    counts: NDArray[np.int64],
    *,
    n_folds: int,
    n_partitions: int,
    first_seed: int,
    patients: Mapping[str, str],
    databases: Sequence[str] = (),
) -> Folds:
    """Return one plan of several partitions, that of `first_seed` first.

    Raises:
        DataError: As `make_folds` does, or if the records do not allow so many partitions.
    """
    every = different_folds(record_names, counts, n_folds, first_seed, patients, databases)
    plans = list(islice(every, n_partitions))
    if len(plans) < n_partitions:
        raise DataError(
            f"partitions: {len(record_names)} records allow {len(plans)} different ones into "
            f"{n_folds} folds, got {n_partitions}"
        )
    if n_partitions == 1:
        return plans[0][1]
    seeds = ", ".join(str(seed) for seed, _ in plans)
    parts = [folds.validation for _, folds in plans]
    return Folds(
        name=f"{n_folds}-fold, partition seeds {seeds}",
        validation=tuple(fold for part in parts for fold in part),
        fingerprint=digest_of({"records": sorted(record_names), "partitions": parts}),
        n_partitions=n_partitions,
    )


def _folds(name: str, record_names: Sequence[str], fold_records: list[list[str]]) -> Folds:
    validation = tuple(sorted(tuple(sorted(fold)) for fold in fold_records))
    fingerprint = digest_of({"records": sorted(record_names), "validation": validation})
    return Folds(name=name, validation=validation, fingerprint=fingerprint)


class _Partition:
    """Patients distributed over folds: a random start, improved until no step helps."""

    def __init__(
        self, groups: NDArray[np.float64], n_folds: int, rng: np.random.Generator
    ) -> None:
        self.groups = groups[:, groups.sum(axis=0) > 0]  # [U, G]
        self.n_folds = n_folds
        self.fold = np.empty(len(groups), dtype=np.int64)
        self.fold[rng.permutation(len(groups))] = np.arange(len(groups)) % n_folds
        while self._improve():
            pass

    def evenness(self) -> float:
        """Return the sum over groups and folds of the square roots of shares."""
        return float(np.sqrt(self._sums() / self.groups.sum(axis=0)).sum())

    def counted(self) -> int:
        """Return how many folds have enough beats to count, summed over groups."""
        return int((self._sums() >= MIN_CLASS_BEATS).sum())

    def _sums(self) -> NDArray[np.float64]:
        sums = np.zeros((self.n_folds, self.groups.shape[1]))
        np.add.at(sums, self.fold, self.groups)
        return sums

    def _worth(self, beats: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the value of a fold with these beats of each group, [..., G] to [...].

        Even fewer beats than `MIN_CLASS_BEATS` add a little: a step towards a counted fold.
        """
        share = np.maximum(beats, 0) / self.groups.sum(axis=0)
        counted = np.minimum(beats / MIN_CLASS_BEATS, 1.0)
        return np.asarray((np.sqrt(share) + _COUNTED_WEIGHT * counted).sum(axis=-1))

    def _improve(self) -> bool:
        """Make the best single move or exchange; return whether there was one."""
        sums, fold, units = self._sums(), self.fold, np.arange(len(self.fold))
        worth, without = self._worth(sums), sums[fold] - self.groups
        # Gain of moving each patient to each fold, [U, K]; no fold may be left empty.
        move = self._worth(without)[:, None] + self._worth(sums[None] + self.groups[:, None])
        move = move - worth[fold][:, None] - worth
        move[units, fold] = -np.inf
        move[np.bincount(fold, minlength=self.n_folds)[fold] == 1] = -np.inf
        # Gain of exchanging each patient for each of another fold, [U, U].
        one_way = self._worth(without[:, None] + self.groups)
        swap = one_way + one_way.T - worth[fold][:, None] - worth[fold]
        swap[fold[:, None] == fold] = -np.inf
        if max(move.max(), swap.max()) < _SMALLEST_GAIN:
            return False
        if move.max() >= swap.max():
            unit, target = np.unravel_index(move.argmax(), move.shape)
            fold[unit] = target
        else:
            first, second = np.unravel_index(swap.argmax(), swap.shape)
            fold[first], fold[second] = fold[second], fold[first]
        return True


def folds_table(folds: Folds, beat_set: BeatSet) -> str:
    """Return the plan's table of folds: validation beats per class, and their limits.

    Lines below the table name classes that a fold does not count, because it has too few of their
    beats, and records with so many beats of a class that no folds can be even.
    """
    counts = folds.counts(beat_set)
    rows = [["fold", *CLASSES, "records"]]
    for p, (part, of_part) in enumerate(zip(folds.partitions, counts, strict=True)):
        for k, (names, row) in enumerate(zip(part, of_part, strict=True)):
            rows.append([_fold_name(folds, p, k), *map(str, row), " ".join(names)])
    rows.append(["all", *map(str, counts[0].sum(axis=0)), ""])
    lines = [f"folds: {folds.name} ({folds.fingerprint}), validation beats"]
    lines += ["  ".join(row).rstrip() for row in aligned(rows, words=[len(CLASSES) + 1])]
    return "\n".join(lines + _not_counted(folds, counts) + _dominant(folds, beat_set)) + "\n"


def _fold_name(folds: Folds, partition: int, fold: int) -> str:
    return str(fold) if folds.n_partitions == 1 else f"{partition}/{fold}"


def _not_counted(folds: Folds, counts: NDArray[np.int64]) -> list[str]:
    lines = []
    for c, name in enumerate(CLASSES):
        few = [
            f"{_fold_name(folds, p, k)} ({counts[p, k, c]})"
            for p, k in np.argwhere(counts[:, :, c] < MIN_CLASS_BEATS)
        ]
        if few:
            lines.append(
                f"{name}: fewer than {MIN_CLASS_BEATS} beats in fold {', '.join(few)}: "
                f"not counted in the score of {name}"
            )
    return lines


def _dominant(folds: Folds, beat_set: BeatSet) -> list[str]:
    counts = beat_set.counts
    totals = counts.sum(axis=0)
    limit = max(DOMINANT_SHARE, 2 / len(counts))
    fold_of: dict[str, list[str]] = {}
    for p, part in enumerate(folds.partitions):
        for k, names in enumerate(part):
            for name in names:
                fold_of.setdefault(name, []).append(_fold_name(folds, p, k))
    lines = []
    for c, class_ in enumerate(CLASSES):
        for r in np.flatnonzero(counts[:, c] > limit * totals[c]):
            name, n, rest = beat_set.record_names[r], counts[r, c], totals[c] - counts[r, c]
            share = f"record {name} holds {n / totals[c]:.0%} of {class_} ({n} of {totals[c]})"
            own = fold_of.get(name, [])
            effect = f"it never validates, the folds share {rest}"
            if own:
                train = f"folds {listing(own)} train" if own[1:] else f"fold {own[0]} trains"
                effect = f"all other folds share {rest}, and {train} on no more"
            lines.append(f"{class_}: {share}: {effect}")
    return lines
