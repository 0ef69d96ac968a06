"""What `python -m study.data` prints: the table of a source's records, or a check of a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.data.beats import DROP_REASONS
from study.data.cache import default_cache_dir
from study.data.checksums import (
    MISSING,
    OK,
    FileState,
    file_states,
    published_checksums,
    require_records_folder,
)
from study.data.prepare import prepare
from study.data.records import AAMI, AAMI_CLASSES, DS1, DS2, MITDB
from study.data.source import DATA_DIR_VARIABLE, Source, check_options, find_source
from study.data.split_file import load_split, record_checksums
from study.data.wfdb_record import Record, read_record
from study.errors import DataError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What to print, and whether the records can be used."""

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
    beats = prepare(source, "daeac", "linear", cache_dir=default_cache_dir(workspace))
    return Report(text="\n".join(_table(source, records, beats.dropped)), good=True)


def check(
    *, data_dir: Path | None, records_dir: Path | None, split_file: Path | None, workspace: Path
) -> Report:
    """Verify a folder file by file; nothing is downloaded or made up.

    Raises:
        UsageError: If no folder is given and none is found.
        DataError: If the folder cannot be used at all.
        ConfigError: If the split file breaks a rule.
    """
    check_options(data_dir, records_dir, split_file)
    if records_dir is not None and split_file is not None:
        return _check_own(records_dir, split_file)
    found = workspace / "data" / "mitdb"
    folder = data_dir or Path(os.environ.get(DATA_DIR_VARIABLE) or found)
    if folder == found and not found.exists():
        raise UsageError(f"--check needs --data-dir DIR or {DATA_DIR_VARIABLE}; {found} is absent")
    return _check_mitdb(folder)


def _table(
    source: Source, records: Sequence[Record], dropped: Mapping[str, Mapping[str, int]]
) -> list[str]:
    rows: list[Sequence[str]] = [
        ("record", "patient", "lead", "beats", *AAMI_CLASSES, "other", "left out")
    ]
    totals: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for record in records:
        counts = Counter(AAMI[symbol] for symbol in record.beat_symbols.tolist())
        counts["other"] = sum(record.other_annotations.values())
        reasons = dropped.get(record.name, {})
        patient = source.patients[record.name]
        rows.append((record.name, patient, record.lead, *_cells(counts), _reasons(reasons)))
        totals += counts
        left_out.update(reasons)
    rows.append(("total", "", "", *_cells(totals), _reasons(left_out)))
    kept = sum(totals[name] for name in AAMI_CLASSES) - sum(left_out.values())
    state = "as published" if source.verified else "hashed; none are published for these records"
    return [
        f"source     {source.description}",
        f"checksums  SHA-256 of {len(source.checksums)} files: {state}",
        "",
        *_aligned(rows),
        "",
        f"A study uses {kept} beats of {len(records)} records. Counts are of annotations, before",
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
    require_records_folder(folder)
    states = file_states(folder, MITDB, published_checksums())
    lines = [f"{state.file:8} {_verdict(state)}" for state in states]
    faults = [state for state in states if state.fault and not _may_lack(state)]
    intact = sum(state.state == OK for state in states)
    absent = len(states) - intact - len(faults)
    summary = f"{folder}: {intact} of {len(states)} files as published, {len(faults)} at fault"
    if absent:
        summary += f", {absent} absent that no study needs"
    return Report(text="\n".join([*lines, "", summary]), good=not faults)


def _may_lack(state: FileState) -> bool:
    return state.state == MISSING and Path(state.file).stem not in DS1


def _verdict(state: FileState) -> str:
    if not _may_lack(state):
        return state.fault or state.state
    sealed = Path(state.file).stem in DS2
    return "absent (DS2: no study reads it)" if sealed else "absent (paced: not studied)"


def _check_own(folder: Path, split_file: Path) -> Report:
    split = load_split(split_file)
    require_records_folder(folder)
    lines, good = [], True
    for name in split.development:
        try:
            record_checksums(folder, name)
            record = read_record(folder, name, rules=split.rules)
        except DataError as err:
            good = False
            lines.append(f"{name}: {err}")
        else:
            lines.append(f"{name}: ok, lead {record.lead}, {len(record.beat_samples)} beats")
    return Report(text="\n".join(lines), good=good)
