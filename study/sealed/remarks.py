"""Remarks on the records behind a table of scores, and which classes they can score.

Shapes: U patients, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.beats import counts_of_patients, effective_patients
from study.data.beat_set import BeatSet
from study.data.external import External
from study.data.windows import GAP, GAP_NOTE, doubled_lines, reasons_text
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


def describe(external: External, beat_set: BeatSet) -> str:
    """Return remarks on the records behind a table of scores.

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
    for presence in classes_present(beat_set, source.patients):
        if presence.left_out:
            lines.append(f"{presence.name} has no part in the macro: {presence.left_out}")
    return "\n".join(lines)


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in Counter(values).most_common())
