"""The input of a comparison: beats, and each arm's predictions of them.

NumPy in, no file read: `study.reporting.arm_runs` reads them from a study's folder. A sealed test
has the same form with all records in fold 0.

Shapes: N beats, C classes, F folds, R runs of an arm (one for each draw and seed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from study.beats import LabelledBeats, scorable
from study.errors import ComparisonError, listed
from study.keys import CLASSES

Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beats(LabelledBeats):
    """The beats that every arm predicts.

    Raises:
        ComparisonError: If lengths or indices do not agree, or a patient is in two folds.
    """

    # Patient of each record: records of one patient stand or fall together
    patient_of_record: tuple[str, ...]
    # Fold that each record validates in, from 0; -1 where it is in none
    fold_of_record: tuple[int, ...]
    # Classes that the macro is the mean of: all, unless records cannot show them
    macro: tuple[str, ...] = CLASSES

    def __post_init__(self) -> None:
        faults = _beat_faults(self)
        if faults:
            raise ComparisonError(listed("beats", faults))

    @property
    def fold(self) -> Int:
        """Fold of each beat, [N]; -1 where it is in none."""
        return np.asarray(self.fold_of_record, dtype=np.int64)[self.record]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return max(self.fold_of_record) + 1

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients of the records that are in a fold, sorted."""
        pairs = zip(self.patient_of_record, self.fold_of_record, strict=True)
        return tuple(sorted({patient for patient, fold in pairs if fold >= 0}))

    @property
    def patient(self) -> Int:
        """Index of each beat's patient into `patients`, [N]; -1 where it is in no fold."""
        index_of = {patient: index for index, patient in enumerate(self.patients)}
        of_record = [index_of.get(patient, -1) for patient in self.patient_of_record]
        return np.asarray(of_record, dtype=np.int64)[self.record]

    @property
    def counts_by_fold(self) -> Int:
        """Beats per fold and class, [F, C]."""
        folds = np.asarray(self.fold_of_record)
        return np.stack([self.counts[folds == k].sum(axis=0) for k in range(self.n_folds)])

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each fold counts for each class, [F, C]: enough of its beats, and others."""
        return scorable(self.counts_by_fold)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Digests of the list of beats and of the folds."""
        beats = hashlib.sha256("\n".join(self.record_names).encode())
        for values in (self.label, self.record):
            beats.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
        folds = zip(self.record_names, self.patient_of_record, self.fold_of_record, strict=True)
        text = "\n".join(f"{name} {patient} {fold}" for name, patient, fold in folds)
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
    segmentation: str  # how its windows are cut, and what template they are seen beside
    fusion: str  # fusion type
    rr: str = "real"  # `real` or `placebo`
    # What it was evaluated on, by name; arms with different values of one name cannot be compared.
    # `Beats.fingerprints` and the plan's data fingerprints.
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    trials: int = 1  # trials that it took
    beats_trained: int = 0  # beats that all its members trained on, epochs added up

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
    validated = beats.fold >= 0
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
    for name in ("patient_of_record", "fold_of_record"):
        if len(getattr(beats, name)) != n_records:
            got = len(getattr(beats, name))
            faults.append(
                f"{name}: must have one entry for each of {n_records} records, got {got}"
            )
    for name, limit in (("label", len(CLASSES)), ("record", n_records)):
        values = getattr(beats, name)
        if values.size and not 0 <= values.min() <= values.max() < limit:
            low, high = values.min(), values.max()
            faults.append(f"{name}: must be in [0, {limit - 1}], got {low} to {high}")
    if not n_records:
        faults.append("record_names: must name at least one record")
    if wrong := sorted({fold for fold in beats.fold_of_record if not -1 <= fold < n_records}):
        faults.append(f"fold_of_record: must be in [-1, {n_records - 1}], got {wrong}")
    folds: dict[str, set[int]] = {}
    for patient, fold in zip(beats.patient_of_record, beats.fold_of_record, strict=False):
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
