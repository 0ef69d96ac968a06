"""The input of a comparison: beats, and each arm's predictions of them.

NumPy in, no file read: `study.reporting.arm_runs` reads them from a study's folder. A sealed test
has the same form with all records in fold 0.

Shapes: N beats, G records, C classes, P partitions into folds, F folds of one, R runs of an arm
(one for each draw and seed). A run of seed s has the folds of partition s mod P.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.beats import LabelledBeats, scorable
from study.errors import ComparisonError, listed
from study.keys import CLASSES

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """The beats of one validation fold, which the members of this fold rank."""

    partition: int
    fold: int
    records: Int  # indices of its records
    rows: Int  # indices of its beats
    label: Int  # class of each of these
    record: Int  # position of the record of each of these among `records`

    def distinct(self, weights: NDArray[Any]) -> tuple[NDArray[Any], Int]:
        """Return the distinct rows of weights [W, G] on its records; which each row is, [W]."""
        distinct, index = np.unique(weights[:, self.records], axis=0, return_inverse=True)
        return distinct, index.reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beats(LabelledBeats):
    """The beats that every arm predicts.

    Raises:
        ComparisonError: If lengths or indices do not agree, or a patient is in two folds.
    """

    # Patient of each record: records of one patient are drawn and swapped together
    patient_of_record: tuple[str, ...]
    # Fold that each record validates in, from 0, in each partition; -1 where it is in none
    folds_of_record: tuple[tuple[int, ...], ...]
    # Classes that the macro is the mean of: all, unless records cannot show them
    macro: tuple[str, ...] = CLASSES

    def __post_init__(self) -> None:
        faults = _beat_faults(self)
        if faults:
            raise ComparisonError(listed("beats", faults))

    @property
    def fold(self) -> Int:
        """Fold of each beat in each partition, [P, N]; -1 where it is in none."""
        return np.asarray(self.folds_of_record, dtype=np.int64)[:, self.record]

    @property
    def n_partitions(self) -> int:
        """Number of partitions into folds."""
        return len(self.folds_of_record)

    @property
    def n_folds(self) -> int:
        """Number of folds of a partition."""
        return max(map(max, self.folds_of_record)) + 1

    @property
    def folds(self) -> Iterator[HeldOut]:
        """Every fold, partition by partition."""
        for partition, of_record in enumerate(np.asarray(self.folds_of_record)):
            for fold in range(self.n_folds):
                records = np.flatnonzero(of_record == fold)
                rows = np.flatnonzero(of_record[self.record] == fold)
                yield HeldOut(
                    partition=partition,
                    fold=fold,
                    records=records,
                    rows=rows,
                    label=self.label[rows],
                    record=np.searchsorted(records, self.record[rows]),
                )

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether each record is in a fold, [G]: in all partitions, or in none."""
        return np.asarray(np.asarray(self.folds_of_record[0]) >= 0)

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients of the records that are in a fold, sorted."""
        pairs = zip(self.patient_of_record, self.held_out, strict=True)
        return tuple(sorted({patient for patient, held_out in pairs if held_out}))

    @property
    def patient(self) -> Int:
        """Index of each beat's patient into `patients`, [N]; -1 where it is in no fold."""
        index_of = {patient: index for index, patient in enumerate(self.patients)}
        of_record = [index_of.get(patient, -1) for patient in self.patient_of_record]
        return np.asarray(of_record, dtype=np.int64)[self.record]

    @property
    def counts_by_fold(self) -> Int:
        """Beats per fold and class, [P, F, C]."""
        counts = [self.counts[held.records].sum(axis=0) for held in self.folds]
        return np.reshape(counts, (self.n_partitions, self.n_folds, len(CLASSES)))

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each fold counts for each class, [P, F, C]: enough of its beats, and others."""
        return scorable(self.counts_by_fold)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Digests of the list of beats and of the folds."""
        beats = hashlib.sha256("\n".join(self.record_names).encode())
        for values in (self.label, self.record):
            beats.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
        rows = zip(self.record_names, self.patient_of_record, *self.folds_of_record, strict=True)
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        return {
            "beats": beats.hexdigest()[:12],
            "folds": hashlib.sha256(text.encode()).hexdigest()[:12],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmRuns:
    """An arm's predictions, a run for each draw of the nuisance parameters and each seed."""

    name: str
    # [R, N, C] log-probabilities, each beat's by the member that did not train on its patient; NaN
    # where a beat is in no fold
    log_probs: NDArray[np.float32]
    draw: Int  # [R] index of the nuisance draw
    seed: Int  # [R] index of the seed
    input: str  # where RR enters: `ecg`, `opt1`, `opt2`, `opt3`
    window: str  # what it sees of a beat, `SignalSpec.window`; without ECG, that of its space
    fusion: str  # fusion type
    rr: str = "real"  # `real` or `placebo`
    shapes: int = 1  # inputs of shape: windows, and distances from a template
    template: str = "none"  # the template that these are beside
    # What it was evaluated on, by name; arms with different values of one name cannot be compared.
    # `Beats.fingerprints` and the plan's data fingerprints.
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    trials: int = 1  # trials that it took
    beats_trained: int = 0  # beats that all its members trained on, epochs added up

    def runs_on(self, partition: int, n_partitions: int) -> Int:
        """Return the runs that have the folds of a partition, by draw, then by seed."""
        order = np.lexsort((self.seed, self.draw))
        return np.asarray(order[self.seed[order] % n_partitions == partition])

    @property
    def one_model(self) -> bool:
        """Whether one model's predictions stand for all runs, which are views of one array."""
        return len(self.log_probs) > 1 and not self.log_probs.strides[0]

    @property
    def placebo(self) -> bool:
        """Whether its RR is permuted."""
        return self.rr == "placebo"


def check_comparable(beats: Beats, arms: Sequence[ArmRuns]) -> None:
    """Refuse arms that were not evaluated on the same beats, folds, draws and seeds.

    Raises:
        ComparisonError: Naming every difference, and the arms on each side of it.
    """
    faults = _fingerprint_faults(beats, arms)
    expected = (len(beats.label), len(CLASSES))
    validated = beats.held_out[beats.record]
    runs: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for arm in arms:
        shape = arm.log_probs.shape
        pairs = tuple(zip(arm.draw.tolist(), arm.seed.tolist(), strict=False))
        if len(shape) != 3 or shape[1:] != expected or len(arm.log_probs) != len(pairs):
            faults.append(
                f"{arm.name}: log_probs must be [R, {expected[0]}, {expected[1]}] with R = "
                f"{len(pairs)} pairs of draw and seed, got {list(shape)}"
            )
        elif missing := int((~np.isfinite(arm.log_probs[:, validated])).any(axis=2).sum()):
            faults.append(f"{arm.name}: {missing} predictions of beats in folds are not finite")
        runs.setdefault(tuple(sorted(pairs)), []).append(arm.name)
    if len(runs) > 1:
        sides = [f"{_runs(pairs)} in {', '.join(names)}" for pairs, names in runs.items()]
        faults.append(f"draws and seeds differ: {'; '.join(sides)}")
    faults += [
        f"{', '.join(names)}: partitions into folds must have as many seeds each, got seeds "
        f"{sorted({seed for _, seed in pairs})} of {beats.n_partitions} partitions"
        for pairs, names in runs.items()
        if len(set(Counter(seed % beats.n_partitions for _, seed in pairs).values())) > 1
        or len({seed for _, seed in pairs}) % beats.n_partitions
    ]
    names = [arm.name for arm in arms]
    faults += [f"{name}: is given twice" for name in sorted(set(names)) if names.count(name) > 1]
    if not arms:
        faults.append("there are none")
    if faults:
        raise ComparisonError(listed("these arms cannot be compared", faults))


def _fingerprint_faults(beats: Beats, arms: Sequence[ArmRuns]) -> list[str]:
    by_value: dict[str, dict[str, list[str]]] = {}
    for name, value in beats.fingerprints.items():
        by_value[name] = {value: ["these beats"]}
    for arm in arms:
        for name, value in arm.fingerprints.items():
            by_value.setdefault(name, {}).setdefault(value, []).append(arm.name)
    return [
        f"{name} differ: "
        + "; ".join(f"{value} of {', '.join(names)}" for value, names in values.items())
        for name, values in by_value.items()
        if len(values) > 1
    ]


def _beat_faults(beats: Beats) -> list[str]:
    n_records, faults = len(beats.record_names), []
    if beats.label.shape != beats.record.shape or beats.label.ndim != 1:
        faults.append(
            f"label and record must both be [N], got {beats.label.shape} and {beats.record.shape}"
        )
    for name, rows in (
        ("patient_of_record", [beats.patient_of_record]),
        ("folds_of_record", beats.folds_of_record),
    ):
        faults += [
            f"{name}: must have one entry for each of {n_records} records, got {len(row)}"
            for row in rows
            if len(row) != n_records
        ]
    for name, limit in (("label", len(CLASSES)), ("record", n_records)):
        values = getattr(beats, name)
        if values.size and not 0 <= values.min() <= values.max() < limit:
            low, high = values.min(), values.max()
            faults.append(f"{name}: must be in [0, {limit - 1}], got {low} to {high}")
    if not n_records:
        faults.append("record_names: must name at least one record")
    for of_record in beats.folds_of_record:
        if wrong := sorted({fold for fold in of_record if not -1 <= fold < n_records}):
            faults.append(f"folds_of_record: must be in [-1, {n_records - 1}], got {wrong}")
        folds: dict[str, set[int]] = {}
        for patient, fold in zip(beats.patient_of_record, of_record, strict=False):
            folds.setdefault(patient, set()).add(fold)
        faults += [
            f"patient {patient} is in folds {sorted(in_folds)}; a patient must be in one"
            for patient, in_folds in folds.items()
            if len(in_folds) > 1
        ]
    return faults


def _runs(pairs: Sequence[tuple[int, int]]) -> str:
    draws = sorted({draw for draw, _ in pairs})
    seeds = sorted({seed for _, seed in pairs})
    return f"{len(pairs)} runs (draws {draws}, seeds {seeds})"
