"""What a folder of records can show: which classes, from how many patients; what was left out.

Shapes: U patients, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from study.data.beat_set import BeatSet
from study.data.beats import DROP_REASONS, SHORTEST_RR_S
from study.data.doubled import Doubled
from study.data.external import External
from study.keys import CLASSES, MIN_CLASS_BEATS

MIN_EFFECTIVE_PATIENTS = 4.0
"""Effective number of patients below which a class's score is that of one or two of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPresence:
    """How far a class is there to be scored.

    Args:
        name: One of `CLASSES`.
        beats: Beats of it.
        patients: Patients who have some.
        effective_patients: (sum n)^2 / sum n^2 over the beats n of each patient: how many
            patients with equally many beats would say as much.
        left_out: Why it has no part in the macro; empty where it has.
    """

    name: str
    beats: int
    patients: int
    effective_patients: float
    left_out: str


def classes_present(beat_set: BeatSet, patients: Mapping[str, str]) -> tuple[ClassPresence, ...]:
    """Say of every class how many beats and patients it has, and whether it can be scored.

    A class is left out of the macro where it is absent, has fewer than `MIN_CLASS_BEATS` beats,
    or an effective number of patients below `MIN_EFFECTIVE_PATIENTS`.

    Args:
        beat_set: The beats.
        patients: Patient of each record.
    """
    owners = [patients[name] for name in beat_set.record_names]
    unit = np.unique(owners, return_inverse=True)[1]
    counts = np.zeros((int(unit.max()) + 1, len(CLASSES)), dtype=np.int64)
    np.add.at(counts, unit, beat_set.counts())
    return tuple(_presence(name, counts[:, c].tolist()) for c, name in enumerate(CLASSES))


def describe(external: External, beat_set: BeatSet) -> str:
    """Return what a table of scores must say of the records that they are from.

    Leads and rates, records and beats left out and why, beats annotated twice, and the classes
    that have no part in the macro.
    """
    source = external.source
    records, patients = len(source.development), len(set(source.patients.values()))
    dropped: Counter[str] = Counter()
    for reasons in beat_set.dropped.values():
        dropped.update(reasons)
    left_out = [f"{reason} {dropped[reason]}" for reason in DROP_REASONS if dropped[reason]]
    lines = [
        f"{source.description}: {records} records of {patients} patients, "
        f"{len(beat_set.label)} beats",
        f"leads: {_tally(external.leads.values())}; sampling rates in Hz: "
        f"{_tally(f'{rate:g}' for rate in external.rates_hz.values())}",
        f"beats left out: {', '.join(left_out) or 'none'}",
    ]
    if external.without_beats:
        lines.append(f"no beat annotations, left out: {', '.join(external.without_beats)}")
    lines += _doubled_lines(external.doubled)
    for presence in classes_present(beat_set, source.patients):
        if presence.left_out:
            lines.append(f"{presence.name} has no part in the macro: {presence.left_out}")
    return "\n".join(lines)


def _presence(name: str, counts: Sequence[int]) -> ClassPresence:
    beats, patients = sum(counts), sum(n > 0 for n in counts)
    effective = beats**2 / sum(n**2 for n in counts) if beats else 0.0
    why = ""
    if not beats:
        why = "absent"
    elif beats < MIN_CLASS_BEATS:
        why = f"{beats} beats, needs {MIN_CLASS_BEATS}"
    elif effective < MIN_EFFECTIVE_PATIENTS:
        why = (
            f"{beats} beats of {patients} patients say as much as {effective:.1f} patients "
            f"would, needs {MIN_EFFECTIVE_PATIENTS:g}"
        )
    return ClassPresence(
        name=name, beats=beats, patients=patients, effective_patients=effective, left_out=why
    )


def _tally(values: Iterable[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in Counter(values).most_common())


def _doubled_lines(doubled: Mapping[str, tuple[Doubled, ...]]) -> list[str]:
    if not doubled:
        return []
    each = ", ".join(f"{name} ({len(beats)})" for name, beats in doubled.items())
    lines = [
        f"annotated more than once within {SHORTEST_RR_S:g} s, taken as one beat at the first "
        f"mark: {each}"
    ]
    unlike = {name: [b for b in beats if not b.agree] for name, beats in doubled.items()}
    shown = [
        f"{name} ({len(beats)}; {' and '.join(beats[0].symbols)} at sample {beats[0].samples[0]})"
        for name, beats in unlike.items()
        if beats
    ]
    if shown:
        lines.append(
            f"of these marked as different classes, left out as class Q: {', '.join(shown)}"
        )
    return lines
