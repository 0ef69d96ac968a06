"""What can be told of records before any model sees them: the text of `python -m study.data`.

Also: what records that models are tested on can show, which classes and from how many patients.

Shapes: U patients, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.beats import effective_patients
from study.data.annotations import Doubled
from study.data.beat_set import BeatSet, default_cache_dir
from study.data.fetch import file_errors, published_checksums, record_checksums
from study.data.prepare import prepare
from study.data.records import AAMI, AAMI_CLASSES, DS1, DS2, MITDB
from study.data.source import (
    DATA_DIR_VARIABLE,
    External,
    Source,
    check_options,
    find_source,
    mitdb_folder,
)
from study.data.split_file import load_split
from study.data.wfdb_header import require_folder
from study.data.wfdb_record import Record, read_record
from study.data.windows import DROP_REASONS, SHORTEST_RR_S
from study.errors import DataError, MissingDataError, UsageError
from study.keys import CLASSES, MIN_CLASS_BEATS, MIN_EFFECTIVE_PATIENTS
from study.wording import plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A text to print, and whether the records can be used."""

    text: str
    good: bool


def show(
    *, data_dir: Path | None, records_dir: Path | None, split_file: Path | None, workspace: Path
) -> Report:
    """Return the table of the records that a study would use; arguments as in `find_source`."""
    source = find_source(
        data_dir=data_dir, records_dir=records_dir, split_file=split_file, workspace=workspace
    )
    records = [read_record(source.folder, n, rules=source.rules) for n in source.development]
    # Any cut would do: the same beats are left out under all of them.
    beats = prepare(source, "daeac", "linear", cache_dir=default_cache_dir(workspace))
    return Report(text="\n".join(_table(source, records, beats)), good=True)


def check(
    *, data_dir: Path | None, records_dir: Path | None, split_file: Path | None, workspace: Path
) -> Report:
    """Verify a folder file by file; nothing is downloaded or made up.

    Raises:
        UsageError: If no folder is given and the workspace has none.
        DataError: If the folder cannot be used at all.
        ConfigError: If the split file breaks a rule.
    """
    check_options(data_dir, records_dir, split_file)
    if records_dir is not None and split_file is not None:
        return _check_own(records_dir, split_file)
    folder, given_by = mitdb_folder(data_dir, workspace)
    if not given_by and not folder.exists():
        raise UsageError(
            f"--check needs --data-dir DIR or {DATA_DIR_VARIABLE}; {folder} is absent"
        )
    return _check_mitdb(folder)


def _table(source: Source, records: Sequence[Record], beats: BeatSet) -> list[str]:
    used = len(beats.label)
    rows: list[Sequence[str]] = [
        ("record", "patient", "lead", "beats", *AAMI_CLASSES, "other", "left out")
    ]
    totals: Counter[str] = Counter()
    for record in records:
        counts = Counter(AAMI[symbol] for symbol in record.beat_symbols.tolist())
        counts["other"] = sum(record.other_annotations.values())
        reasons = _reasons(beats.dropped.get(record.name, {}))
        rows.append(
            (record.name, source.patients[record.name], record.lead, *_cells(counts), reasons)
        )
        totals += counts
    rows.append(("total", "", "", *_cells(totals), _reasons(beats.left_out)))
    state = "as published" if source.verified else "hashed; none are published for these records"
    return [
        f"source     {source.description}",
        f"checksums  SHA-256 of {len(source.checksums)} files: {state}",
        "",
        *_aligned(rows),
        "",
        f"A study uses {used} beats of {len(records)} records. Counts are of annotations, before",
        "anything is left out; 'other' marks are no beats and take no part in RR intervals.",
    ]


def _cells(counts: Counter[str]) -> list[str]:
    beats = sum(counts[name] for name in AAMI_CLASSES)
    return [str(n) for n in (beats, *(counts[name] for name in AAMI_CLASSES), counts["other"])]


def _reasons(reasons: Mapping[str, int]) -> str:
    counts = ((reason, reasons.get(reason, 0)) for reason in DROP_REASONS)
    return ", ".join(f"{reason} {count}" for reason, count in counts if count) or "-"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns: numbers to the right, the first three and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if i < 3 or i == last else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _check_mitdb(folder: Path) -> Report:
    require_folder(folder)
    errors = file_errors(folder, MITDB, published_checksums())
    # A study reads DS1 alone: what is absent of other records is no fault.
    absent = {
        file: "DS2: no study reads it" if Path(file).stem in DS2 else "paced: not studied"
        for file, error in errors.items()
        if isinstance(error, MissingDataError) and Path(file).stem not in DS1
    }
    lines = []
    for file, error in errors.items():
        fault = error.fault if error else "ok"
        lines.append(f"{file:8} {f'absent ({absent[file]})' if file in absent else fault}")
    intact = sum(error is None for error in errors.values())
    n_faulty = len(errors) - intact - len(absent)
    summary = f"{folder}: {intact} of {len(errors)} files as published, {n_faulty} at fault"
    if absent:
        summary += f", {len(absent)} absent that no study needs"
    return Report(text="\n".join([*lines, "", summary]), good=not n_faulty)


def _check_own(folder: Path, split_file: Path) -> Report:
    split = load_split(split_file)
    require_folder(folder)
    lines, good = [], True
    for name in split.development:
        try:
            record_checksums(folder, name)
            record = read_record(folder, name, rules=split.rules)
        except DataError as error:
            good = False
            lines.append(f"{name}: {error}")
        else:
            lines.append(f"{name}: ok, lead {record.lead}, {len(record.beat_samples)} beats")
    return Report(text="\n".join(lines), good=good)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPresence:
    """How far records can show a class."""

    name: str  # one of `CLASSES`
    beats: int  # beats of it
    patients: int  # patients who have some
    effective_patients: float  # how many patients with equally many beats would say as much
    left_out: str  # why it has no part in the macro; empty where it has


def classes_present(beat_set: BeatSet, patients: Mapping[str, str]) -> tuple[ClassPresence, ...]:
    """Say of every class how many beats and patients it has, and whether it can be scored.

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
    """Return what a table of scores must say of the records that they are from.

    Leads and rates, records and beats left out and why, beats annotated twice, and the classes
    that have no part in the macro.
    """
    source = external.source
    records, patients = len(source.development), len(set(source.patients.values()))
    left_out = _reasons(beat_set.left_out)
    lines = [
        f"{source.description}: {plural(records, 'record')} of {plural(patients, 'patient')}, "
        f"{len(beat_set.label)} beats",
        f"leads: {_tally(external.leads.values())}; sampling rates in Hz: "
        f"{_tally(f'{rate:g}' for rate in external.rates_hz.values())}",
        f"beats left out: {'none' if left_out == '-' else left_out}",
    ]
    if external.without_beats:
        lines.append(f"no beat annotations, left out: {', '.join(external.without_beats)}")
    lines += _doubled_lines(external.doubled)
    for presence in classes_present(beat_set, source.patients):
        if presence.left_out:
            lines.append(f"{presence.name} has no part in the macro: {presence.left_out}")
    return "\n".join(lines)


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
