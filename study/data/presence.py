"""Which classes records can score, and the remarks that a table of their scores needs.

Shapes: U patients, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.beats import effective_patients
from study.data.annotations import Doubled
from study.data.beat_set import BeatSet
from study.data.source import External
from study.data.windows import GAP, GAP_NOTE, SHORTEST_RR_S, reasons_text
from study.keys import CLASSES, MIN_CLASS_BEATS, MIN_EFFECTIVE_PATIENTS
from study.wording import first_few, plural


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
    owners = [patients[name] for name in beat_set.record_names]
    unit = np.unique(owners, return_inverse=True)[1]
    counts = np.zeros((int(unit.max()) + 1, len(CLASSES)), dtype=np.int64)  # [U, C]
    np.add.at(counts, unit, beat_set.counts)
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


def describe(external: External, beat_set: BeatSet) -> str:
    """Return remarks on the records behind a table of scores.

    They name leads and rates, records and beats left out with reasons, beats annotated twice, and
    the classes left out of the macro.
    """
    source = external.source
    records, patients = len(source.development), len(set(source.patients.values()))
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
        lines.append(f"no beat annotations, left out: {', '.join(external.without_beats)}")
    faults: dict[str, list[str]] = {}
    for name, fault in external.unusable.items():
        faults.setdefault(fault, []).append(name)
    for fault, names in faults.items():
        lines.append(f"cannot be used, left out: {first_few(names)}: {fault}")
    lines += doubled_lines(external.doubled)
    for presence in classes_present(beat_set, source.patients):
        if presence.left_out:
            lines.append(f"{presence.name} has no part in the macro: {presence.left_out}")
    return "\n".join(lines)


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in Counter(values).most_common())


def doubled_lines(doubled: Mapping[str, tuple[Doubled, ...]]) -> list[str]:
    """Say which records have beats with more than one annotation, and what became of these."""
    if not doubled:
        return []
    each = ", ".join(f"{name} ({len(beats)})" for name, beats in doubled.items())
    lines = [
        f"annotated more than once within {SHORTEST_RR_S:g} s, taken as one beat at the first "
        f"mark: {each}"
    ]
    unlike = {name: [b for b in beats if not b.agree] for name, beats in doubled.items()}
    examples = [
        f"{name} ({len(beats)}; {' and '.join(beats[0].symbols)} at sample {beats[0].samples[0]})"
        for name, beats in unlike.items()
        if beats
    ]
    if examples:
        lines.append(
            f"of these marked as different classes, left out as class Q: {', '.join(examples)}"
        )
    return lines
