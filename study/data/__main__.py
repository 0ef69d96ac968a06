"""Show the records that a study would use, or verify a folder of them.

python -m study.data                                      find the records, show their table
python -m study.data --data-dir DIR --check               verify MIT-BIH files one by one
python -m study.data --records DIR                        what a folder of your own records has
python -m study.data --records DIR --write-split FILE     the same as a split file, to be edited
python -m study.data --records DIR --split FILE           what a study by this file would use
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from study.command import DONE, as_called, carry_out
from study.data.catalogue import CATALOGUE
from study.data.split_file import FORM, write_split
from study.errors import DataError, DownloadError, MissingDataError, UsageError
from study.files import output_fault
from study.keys import CLASSES, SYMBOLS
from study.options import add_records, command
from study.wording import UNDEFINED, aligned, plural

# Modules that need arrays are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from study.data.beat_set import BeatSet
    from study.data.catalogue import Database
    from study.data.source import Source
    from study.data.wfdb_record import Record

UNUSABLE = 1
"""Exit code where the records cannot be used."""

_DATABASES = "\n".join(
    f"  {database.name:<9} {database.title}, {len(database.records)} records"
    for database in CATALOGUE.values()
)

_EPILOG = f"""\
Records are looked for in this order: --records; --data-dir; a variable such as
MITDB_DIR; ./data/NAME; a download from PhysioNet into that folder (MIT-BIH: 43 MB; if it breaks
off, the files that have arrived are kept); of MIT-BIH alone, without a network, synthetic records
in ./data/synthetic. If a folder that you give cannot be used, the command ends with an error. Of
MIT-BIH a study only reads DS1: DS2 is sealed, and its files may be absent. A study of --records
needs --split. Without it the lead that most records have is taken, as --write-split names it,
where all have it or some have none of the default leads (below).

Databases:
{_DATABASES}

{FORM}
exit codes:
  0  the records can be used
  1  they cannot: missing, damaged, not the published files, or the download broke off
  2  the command line or the split file breaks a rule
  130  interrupted; run again, a download fetches the files that are still missing
"""

_COUNTS = ("beats", *CLASSES, "Q", "other")
"""Columns of counts of annotations in the table of records."""

_ABOUT = ("record", "patient", "lead", "others", "Hz", "min")
_WORDS = (0, 1, 2, 3, len(_ABOUT) + len(_COUNTS))
"""Columns with text: record, patient, leads, reasons for exclusion."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logging.basicConfig(level=levels[min(arguments.verbose, 2)], format="%(message)s")
    return carry_out(
        lambda: _report(arguments), kept=lambda: "run again, a download fetches what is missing"
    )


def _report(arguments: argparse.Namespace) -> int:
    from study.data.source import check_options, source_asked

    data, data_dirs = arguments.data, arguments.data_dir
    records_dir, split_file = arguments.records, arguments.split
    proposes = records_dir is not None and split_file is None
    try:
        check_options(data, data_dirs, records_dir, split_file, proposes=proposes)
        if arguments.check and records_dir is not None:
            raise UsageError(
                "--check: is of published files; --records DIR alone says what each of your own "
                "records lacks"
            )
        if arguments.write_split and not proposes:
            raise UsageError("--write-split: goes with --records alone, which it is made of")
        written: Path | None = arguments.write_split
        if written and (fault := output_fault(written, new=True)):
            raise UsageError(f"--write-split: {fault}")
        if proposes:
            lines, usable = list(_proposed(records_dir, written)), True
        elif not arguments.check:
            lines, usable = _shown(source_asked(arguments)), True
        else:
            lines, usable = _published(data, data_dirs)
    except (DataError, DownloadError) as error:
        print(as_called(f"error: {error}"), file=sys.stderr)
        return UNUSABLE
    print("\n".join(lines))
    return DONE if usable else UNUSABLE


def _proposed(folder: Path, written: Path | None) -> Iterator[str]:
    """Yield the table of the records that a study can use; write a split file if asked."""
    from study.data.external import propose_split
    from study.data.source import split_source

    proposed = propose_split(folder)
    split = proposed.split
    source = split_source(folder, split, split.development, "(no split file)")
    if written:
        write_split(written, split)
    yield from _shown(source)
    yield from (f"left out: {name}: {fault}" for name, fault in proposed.left_out.items())
    yield ""
    if not written:
        yield "A study needs a split file, which names the patient of each record. To write one:"
        run = as_called("python -m study.data")
        yield f"  {run} --records {quote(str(folder))} --write-split own.toml"
        return
    yield f"{written}: names {plural(len(source.records), 'record')}, each as a patient. Say there"
    yield "which are of one person; then:"
    run = as_called("python -m study.run")
    own = f"--records {quote(str(folder))} --split {quote(str(written))}"
    yield f"  {run} --space fusion_compare {own} --dry-run"


def _shown(source: Source) -> list[str]:
    """Return the table of the records that a study would use."""
    from study.data.beat_set import default_cache_dir
    from study.data.prepare import prepare
    from study.data.windows import GAP, GAP_NOTE, doubled_lines

    records = [source.read(name) for name in source.records]
    doubled = {record.name: record.doubled for record in records if record.doubled}
    # Any cut serves: all cuts leave out the same beats.
    beats = prepare(source, "daeac", "linear", cache_dir=default_cache_dir(Path.cwd()))
    state = "as published" if source.verified else "hashed; none are published for these records"
    return [
        f"source     {source.description}",
        f"checksums  SHA-256 of {len(source.checksums)} files: {state}",
        "",
        *("  ".join(row).rstrip() for row in aligned(_rows(source, records, beats), _WORDS)),
        "",
        *_symbols(records),
        "",
        f"A study uses {len(beats.label)} beats of {len(records)} records. Counts are of "
        "annotations, before",
        "anything is left out; 'other' annotations are not beats and do not count in RR "
        "intervals.",
        "",
        *("  ".join(row).rstrip() for row in aligned(_databases(source, beats), (0,))),
        "In brackets: effective patients, the number of patients with equally many beats of the",
        "class that would say as much.",
        *_citations(source),
        *([f"Note: {GAP_NOTE}."] if beats.left_out[GAP] else []),
        *(f"Note: {line}." for line in doubled_lines(doubled)),
    ]


def _rows(source: Source, records: Sequence[Record], beats: BeatSet) -> list[list[str]]:
    from study.data.annotations import AAMI
    from study.data.windows import reasons_text

    rows = [[*_ABOUT, *_COUNTS, "left out"]]
    totals: Counter[str] = Counter()
    for record in records:
        counts = Counter(AAMI[symbol] for symbol in record.beat_symbols.tolist())
        counts |= {"beats": len(record.beat_symbols)}
        counts |= {"other": sum(record.other_annotations.values())}
        left_out = reasons_text(beats.dropped.get(record.name, {}))
        rows.append([*_about_record(source, record), *_numbers(counts), left_out or UNDEFINED])
        totals += counts
    left_out = reasons_text(beats.left_out)
    empty = [""] * (len(_ABOUT) - 1)
    return [*rows, ["total", *empty, *_numbers(totals), left_out or UNDEFINED]]


def _about_record(source: Source, record: Record) -> list[str]:
    """Return a record's patient, leads, sampling rate and duration, as `_ABOUT` names them."""
    from study.config import SAMPLING_RATE_HZ
    from study.data.wfdb_header import read_header
    from study.data.wfdb_record import accepted_lead

    origin = source.origins[record.name]
    header = read_header(origin.folder, record.name)
    channel, lead = accepted_lead(header, origin.rules)
    others = ", ".join(header.leads[:channel] + header.leads[channel + 1 :])
    minutes = len(record.signal_mv) / SAMPLING_RATE_HZ / 60
    rate = f"{header.rate_hz(channel):g}"
    patient = source.patients[record.name]
    return [record.name, patient, lead, others or UNDEFINED, rate, f"{minutes:.1f}"]


def _symbols(records: Sequence[Record]) -> Iterator[str]:
    """Yield by which symbols the beats of each class are annotated."""
    counts = Counter(symbol for record in records for symbol in record.beat_symbols.tolist())
    others = sum((Counter(record.other_annotations) for record in records), Counter[str]())
    yield "Annotated as:"
    for name, symbols in SYMBOLS.items():
        if found := [f"{symbol} {counts[symbol]}" for symbol in symbols if counts[symbol]]:
            yield f"  {name:<6} {', '.join(found)}"
    if others:
        yield f"  {'other':<6} {', '.join(f'{s} {n}' for s, n in others.most_common())}"


def _databases(source: Source, beats: BeatSet) -> list[list[str]]:
    """Return the table of databases: the beats that a study uses, and their patients."""
    import numpy as np

    from study.beats import counts_of_patients, effective_patients

    names, rows = np.array(beats.record_names), [["database", "records", "patients", *CLASSES]]
    of_record = np.array([source.origins[name].database for name in beats.record_names])
    included = {name: of_record == name for name in dict.fromkeys(of_record.tolist())}
    if len(included) > 1:
        included["together"] = np.ones(len(names), dtype=bool)
    for name, of_it in included.items():
        counts = counts_of_patients(names[of_it].tolist(), beats.counts[of_it], source.patients)
        cells = [f"{n.sum()} ({effective_patients(n.tolist()):.1f})" for n in counts.T]
        rows.append([name, str(of_it.sum()), str(len(counts)), *cells])
    return rows


def _citations(source: Source) -> Iterator[str]:
    """Yield how to cite the source's databases, and what they lack."""
    for name in dict.fromkeys(origin.database for origin in source.origins.values()):
        if database := CATALOGUE.get(name):
            yield f"{name}: {database.licence}. Cite: {database.citation}. doi:{database.doi}"
            if database.unknown:
                yield f"Note: {name}: {database.unknown}."


def _numbers(counts: Counter[str]) -> list[str]:
    return [str(counts[name]) for name in _COUNTS]


def _published(data: str, data_dirs: Sequence[str]) -> tuple[list[str], bool]:
    """Verify the folders of databases; return a report, and whether a study can use them."""
    from study.data.catalogue import databases_of
    from study.data.source import SYNTHETIC, given_folders

    if data == SYNTHETIC:
        raise UsageError(f"--check: nothing is published to check {SYNTHETIC} records against")
    databases = databases_of(data)
    given = given_folders(databases, data_dirs)
    reports = [_verified(database, given.get(database.name)) for database in databases]
    return [line for lines, _ in reports for line in lines], all(usable for _, usable in reports)


def _verified(database: Database, given: Path | None) -> tuple[list[str], bool]:
    """Verify a database file by file; return a report, and whether a study can use it.

    Raises:
        UsageError: If no folder is given and the workspace has none.
        DataError: If the folder cannot be read.
    """
    from study.data.fetch import file_errors
    from study.data.source import database_folder
    from study.data.wfdb_header import require_folder

    folder, given_by = database_folder(database, given, Path.cwd())
    if not given_by and not folder.exists():
        raise UsageError(
            f"--check needs --data-dir DIR or {database.variable}; {folder} is absent"
        )
    require_folder(folder)
    errors = file_errors(database, folder, database.records)
    # A study reads only the records for development: absent files of others are no fault.
    not_read = {
        **{name: f"{database.names[1]}: no study reads it" for name in database.test_records},
        **dict.fromkeys(database.left_out, "not studied"),
    }
    absent = {
        file: not_read[Path(file).stem]
        for file, error in errors.items()
        if isinstance(error, MissingDataError) and Path(file).stem not in database.development
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
    return [*lines, "", summary], not n_faulty


def _parser() -> argparse.ArgumentParser:
    parser = command(
        "data",
        "Show the records that a study would use: beats per class, what is left out and why, "
        "where the records come from.",
        _EPILOG,
    )
    add_records(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="check every file of a database's folder against the published SHA-256; downloads "
        "nothing",
    )
    parser.add_argument(
        "--write-split",
        type=Path,
        metavar="FILE",
        help="write a split file that names the --records that can be used, each as a patient",
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more; given twice, say everything"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
