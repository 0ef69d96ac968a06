"""Other records that the models of a sealed test are tested on, without an opening.

Shapes: U patients, C classes.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.beats import counts_of_patients, effective_patients
from study.config import Cut, digest_of
from study.data.beat_set import BeatSet
from study.data.external import External
from study.data.prepare import prepare_all
from study.data.windows import GAP, GAP_NOTE, doubled_lines, reasons_text
from study.errors import DataError
from study.keys import CLASSES, MIN_CLASS_BEATS, MIN_EFFECTIVE_PATIENTS
from study.wording import first_few, plural

_WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPresence:
    """The support of a class in some records."""

    name: str  # one of `CLASSES`
    beats: int  # its number of beats
    patients: int  # number of patients with such beats
    effective_patients: float  # effective number of patients (as if all had equally many beats)
    left_out: str  # why the macro leaves it out; empty where it does not


def classes_present(beat_set: BeatSet, patients: Mapping[str, str]) -> tuple[ClassPresence, ...]:
    """Return each class's beats and patients, and whether it can be scored.

    A class is left out of the macro where it is absent, has fewer than `MIN_CLASS_BEATS` beats,
    or an effective number of patients below `MIN_EFFECTIVE_PATIENTS`.
    """
    counts = counts_of_patients(beat_set.record_names, beat_set.counts, patients)
    return tuple(_presence(name, counts[:, c].tolist()) for c, name in enumerate(CLASSES))


def _presence(name: str, counts: Sequence[int]) -> ClassPresence:
    beats, patients = sum(counts), sum(n > 0 for n in counts)
    effective = effective_patients(counts)
    reason = ""
    if not beats:
        reason = "absent"
    elif beats < MIN_CLASS_BEATS:
        reason = f"{beats} beats, needs {MIN_CLASS_BEATS}"
    elif effective < MIN_EFFECTIVE_PATIENTS:
        reason = (
            f"{beats} beats of {patients} patients say as much as {effective:.1f} patients "
            f"would, needs {MIN_EFFECTIVE_PATIENTS:g}"
        )
    return ClassPresence(
        name=name, beats=beats, patients=patients, effective_patients=effective, left_out=reason
    )


def macro_of(presence: Iterable[ClassPresence]) -> tuple[str, ...]:
    """Return the classes that the macro is the mean of."""
    return tuple(of_class.name for of_class in presence if not of_class.left_out)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExternalSet:
    """Records to test on, their beats by cut, and which classes can be scored."""

    external: External
    sets: dict[Cut, BeatSet]
    presence: tuple[ClassPresence, ...]

    @property
    def name(self) -> str:
        """Name of the records."""
        return self.external.source.dataset

    @property
    def macro(self) -> tuple[str, ...]:
        """Classes that the macro is the mean of."""
        return macro_of(self.presence)

    @property
    def digest(self) -> str:
        """Digest of the files and the leads read of them."""
        source = self.external.source
        return digest_of(
            {
                "files": dict(source.checksums),
                "leads": dict(self.external.leads),
                "patients": dict(source.patients),
            }
        )

    def text(self) -> str:
        """Return remarks on the records for a reader of the scores."""
        lines = describe(self.external, next(iter(self.sets.values())), self.presence)
        macro = f"the mean of {', '.join(self.macro)}" if self.macro else "of no class"
        lines.append(f"macro: {macro}")
        others = sorted({lead for lead in self.external.leads.values() if lead != "MLII"})
        if others:
            lines.append(f"models of MIT-BIH have seen lead MLII alone, not {', '.join(others)}")
        return "\n".join(
            textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            for line in lines
        )


def prepare_external(
    external: External, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> ExternalSet:
    """Prepare the beats of other records under every cut.

    Raises:
        DataError: If a record cannot be used, or no class but N has enough beats.
    """
    source = external.source
    sets = prepare_all(source, cuts, cache_dir=cache_dir, study_seed=study_seed)
    presence = classes_present(next(iter(sets.values())), source.patients)
    beats = {of_class.name: of_class.beats for of_class in presence}
    if all(n < MIN_CLASS_BEATS for name, n in beats.items() if name != "N"):
        counts = ", ".join(f"{name} {n}" for name, n in beats.items())
        raise DataError(
            f"--records {source.where}: no class but N can be scored: one of "
            f"{', '.join(CLASSES[1:])} needs {MIN_CLASS_BEATS} beats, got {counts}; give records "
            "that have some"
        )
    return ExternalSet(external=external, sets=sets, presence=presence)


def describe(
    external: External, beat_set: BeatSet, presence: Iterable[ClassPresence]
) -> list[str]:
    """Return remarks on the records behind a table of scores, a line each.

    They name leads and rates, records and beats left out with reasons, beats annotated twice, and
    the classes left out of the macro.
    """
    source = external.source
    records, patients = len(source.records), len(set(source.patients.values()))
    lines = [
        f"{source.description}: {plural(records, 'record')} of {plural(patients, 'patient')}, "
        f"{len(beat_set.label)} beats",
        f"leads: {_tally(external.leads.values())}; sampling rates in Hz: "
        f"{_tally(f'{rate:g}' for rate in external.rates_hz.values())}",
        f"beats left out: {reasons_text(beat_set.left_out) or 'none'}",
    ]
    if beat_set.left_out[GAP]:
        lines.append(GAP_NOTE)
    if external.without_beats:
        lines.append(f"no beats with classes, left out: {', '.join(external.without_beats)}")
    faults: dict[str, list[str]] = {}
    for name, fault in external.unusable.items():
        faults.setdefault(fault, []).append(name)
    for fault, names in faults.items():
        lines.append(f"cannot be used, left out: {first_few(names)}: {fault}")
    lines += doubled_lines(external.doubled)
    for of_class in presence:
        if of_class.left_out:
            lines.append(f"{of_class.name} has no part in the macro: {of_class.left_out}")
    return lines


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in Counter(values).most_common())
