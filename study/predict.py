"""Classifies the beats of WFDB records: `python -m study.predict --record PATH`.

  python -m study.predict --record data/p01                     with the shipped champion
  python -m study.predict --record data/p01 --model svt@champion        or a registered one
  python -m study.predict --record data/*.hea --model ensemble.pt       a file, several records
  python -m study.predict --record data/p01 --plot-from 12:30 --plot-seconds 20

A record is a header (.hea) with its signals, at 100 Hz to 10 kHz; it is named without suffix. Its
beats are those of its annotations (the first of .atr, .ecg, .qrs that is there), whose labels take
no part in the decision. Without annotations, GQRS of wfdb.processing finds R peaks. Signal and R
peaks are resampled to 360 Hz and prepared like the model's training records.

Each record gives four files in --out:
  NAME.ecgrr   WFDB annotations N, S, V, F at the record's own sampling rate, Q for a beat without
               a class: wfdb.rdann("NAME", "ecgrr"), or any WFDB viewer beside NAME.hea
  NAME.csv     a row a beat: sample, time, class, four probabilities, why a beat has none, and the
               record's own label
  NAME.png     a strip at 25 mm/s: the stretch with the most S, V and F beats, or the one asked for
  NAME.html    a page with the strip, the beats by class, and the model

The class is the most probable one. The shipped champion was trained on MIT-BIH's DS1; its
card is study/models/champion.md. A class is no diagnosis: this is a research tool.

Exit codes: 0 done; 1 a record could not be classified; 2 the options cannot be used, there is no
such record or model, or a record is one of MIT-BIH's sealed DS2; 130 stopped by a signal.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from study.command import DONE, as_called, carry_out, leave, one_thread
from study.config import SAMPLING_RATE_HZ
from study.data.catalogue import EXTERNAL_LEADS
from study.errors import DataError, MissingDataError, UsageError, listed, read_all
from study.files import output_fault, write_whole
from study.keys import CLASSES, Tag
from study.options import add_lead, add_plugin, add_tracking_uri, command, set_logging
from study.store.folder import PLUGINS, STUDIES
from study.wording import MADE_UP, SYNTHETIC_MODEL, clock

if TYPE_CHECKING:
    from study.data.one_record import OneRecord
    from study.models.seed_ensemble import Loaded, SeedEnsemble
    from study.reporting.classified import ClassifiedRecord

RECORDS_FAILED = 1

EXTENSION = "ecgrr"
"""Extension of the annotation files that are written."""

_CHUNK = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging()
    one_thread()
    return carry_out(
        lambda: _predict(args),
        kept=lambda: "files of finished records are whole",
        readable=lambda: "predictions/ has the files of finished records",
    )


def _parser() -> argparse.ArgumentParser:
    parser = command("predict", __doc__)
    parser.add_argument(
        "--record", type=Path, nargs="+", required=True, metavar="PATH", help="WFDB records"
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a registered model: NAME@champion, NAME@3, or NAME for its champion, also as "
        "MLflow writes them, models:/NAME@champion; or the file of a seed ensemble (default: the "
        "shipped champion)",
    )
    add_plugin(parser)
    add_tracking_uri(parser)
    add_lead(parser, "lead to read", EXTERNAL_LEADS)
    parser.add_argument(
        "--detect", action="store_true", help="find R peaks although there are annotations"
    )
    out = parser.add_argument_group("what is written")
    out.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="default predictions/"
    )
    out.add_argument("--overwrite", action="store_true", help="replace files that are there")
    out.add_argument(
        "--plot-from",
        type=_seconds,
        metavar="T",
        help="start of the strip in seconds or m:ss (default: where most S, V and F beats are)",
    )
    out.add_argument(
        "--plot-seconds",
        type=_length,
        default=60.0,
        metavar="S",
        help="length of the strip, at most 600 s; 0 draws none, and no page (default 60)",
    )
    return parser


def _seconds(text: str) -> float:
    parts = text.split(":")
    if not all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts) or len(parts) > 3:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, m:ss or h:mm:ss, as in 12:30")
    return sum((float(part) * 60.0**power for power, part in enumerate(reversed(parts))), 0.0)


def _length(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds from 0 to 600")
    return seconds


def _predict(args: argparse.Namespace) -> int:
    from study.data.one_record import record_path
    from study.models.plugins.plugin import Plugin

    # A shell's p01* expands to the header, the signal and the annotations of one record.
    paths = list(dict.fromkeys(record_path(path) for path in args.record))
    _check_outputs(paths, args)
    # Before the model is read.
    read_all(map(str, paths), _require_record, folder="--record")
    for file in args.plugin:
        Plugin.at(file)  # refused if it is none, also where no network is from it
    model = _load(args)
    _print_model(model)
    code = DONE
    for path in paths:
        try:
            _classify_and_write(path, model, args)
        except DataError as error:
            code = RECORDS_FAILED
            print(as_called(f"error: {error}"), file=sys.stderr)
    return code


def _load(args: argparse.Namespace) -> Loaded:
    """Return the model that is asked for: the shipped one, that of a file, or a registered one."""
    from study.models.seed_ensemble import Loaded

    if args.model is None:
        return Loaded.shipped()
    from study.tracking import registry

    # Those of this folder's studies too: a model may have been trained by one.
    plugins = [*args.plugin, *sorted(Path.cwd().glob(f"{STUDIES}/*/{PLUGINS}/*.py"))]
    path = Path(args.model)
    is_path = "/" in args.model or path.suffix == ".pt" or path.is_file()
    if args.model.startswith(registry.ADDRESS) or not is_path:
        return registry.load(
            args.model, workspace=Path.cwd(), tracking_uri=args.tracking_uri, plugins=plugins
        )
    if not path.is_file():
        raise MissingDataError(f"--model {path}: no such file; {registry.HOW}")
    return Loaded.at(path, path.name, plugins)


def _require_record(name: str) -> None:
    """Refuse what is no record, often a mistyped path or a folder of records, or is sealed."""
    from study.data.fetch import KnownRecordError, record_checksums
    from study.data.wfdb_header import require_files

    if Path(name).is_dir() and not Path(f"{name}.hea").exists():
        first = min(Path(name).glob("*.hea"), default=None)
        hint = f"; name one in it, as {first.with_suffix('')}" if first else " is in it"
        raise MissingDataError(f"is a folder, and no record{hint}", name)
    require_files(Path(), name, (".hea",))
    try:
        record_checksums(Path(), name, annotated=False)
    except KnownRecordError:
        raise
    except DataError:
        pass  # told when it is its turn: the others are classified


def _check_outputs(paths: Sequence[Path], args: argparse.Namespace) -> None:
    """Refuse, before any computation, to write a file twice or over an existing one."""
    out: Path = args.out
    records = Counter(_output_name(path) for path in paths)
    faults = [f"two records would write {out / name}.csv" for name, n in records.items() if n > 1]
    suffixes = [EXTENSION, "csv", *(["png", "html"] if args.plot_seconds else [])]
    files = [out / f"{name}.{suffix}" for name in records for suffix in suffixes]
    existing = ", ".join(str(file) for file in files if file.exists())
    if existing and not args.overwrite:
        faults.append(
            f"{existing}: already there; --overwrite replaces, --out DIR writes elsewhere"
        )
    if fault := output_fault(out, folder=True):
        faults.append(fault)
    if faults:
        raise UsageError(listed("--out", faults))


def _output_name(path: Path) -> str:
    return re.sub(r"[^-\w]", "_", path.name)  # The characters that WFDB allows.


def _print_model(model: Loaded) -> None:
    lines = "\n       ".join(_about(model))
    print(f"model: {lines}")


def _about(model: Loaded) -> list[str]:
    """Return what a user must know of a model, a line each."""
    ensemble = model.ensemble
    lines = [_model_line(model)]
    if "trained_on" in ensemble.about:
        lines.append(f"trained on {ensemble.about['trained_on']}")
    if ensemble.about.get(Tag.DATA_SOURCE) == "synthetic":
        lines.append(f"note: {SYNTHETIC_MODEL}")
    if ensemble.config.signal.rr == "placebo":
        lines.append("note: a control, trained on permuted RR: it has learnt without rhythm")
    return lines


def _model_line(model: Loaded) -> str:
    from study.models.rules import arm

    ensemble = model.ensemble
    return f"{model.origin}: {arm(ensemble.config)}, {len(ensemble.models)} networks"


def _classify_and_write(path: Path, model: Loaded, args: argparse.Namespace) -> None:
    from study.data.one_record import read_one

    record = read_one(path, leads=args.lead, detect=args.detect)
    lead = record.lead
    duration_s = len(lead.signal_mv) / lead.sampling_rate_hz
    if args.plot_from is not None and args.plot_from >= duration_s:
        raise DataError(
            f"--plot-from: must be before its end at {duration_s:g} s, got {args.plot_from:g} s",
            f"record {lead.record}",
        )
    classified = classify(record, model.ensemble)
    notes = _notes(record, detect=args.detect)
    _print_record(classified, notes)
    args.out.mkdir(parents=True, exist_ok=True)
    # Files are written elsewhere and moved into place, so that each is whole or absent.
    with tempfile.TemporaryDirectory(dir=args.out, prefix=".writing-") as folder:
        files = _write(Path(folder), _output_name(path), classified, model, notes, args)
        for file in files:
            os.replace(file, args.out / file.name)
    print(f"  wrote {', '.join(str(args.out / file.name) for file in files)}", flush=True)


def classify(record: OneRecord, ensemble: SeedEnsemble) -> ClassifiedRecord:
    """Classify the beats of a record.

    Raises:
        DataError: If none of them can be classified.
    """
    import numpy as np
    from tqdm import tqdm

    from study.reporting.classified import ClassifiedRecord

    signal, lead = ensemble.config.signal, record.lead
    beats = record.beats(signal.cut)
    windows = beats.windows(signal.morphology)
    others = (beats.early_rr(signal), beats.late_rr(signal), beats.late_shape(signal))
    chunks = []
    starts = range(0, len(windows), _CHUNK)
    for start in tqdm(starts, desc=lead.record, leave=False, disable=None):
        chunk = slice(start, start + _CHUNK)
        given = (None if rows is None else rows[chunk] for rows in others)
        chunks.append(ensemble.predict(windows[chunk], *given))
    probs = np.full((len(record.samples), len(CLASSES)), np.nan, dtype=np.float32)
    probs[record.left_out == ""] = np.concatenate(chunks)
    return ClassifiedRecord(
        name=lead.record,
        lead=lead.name,
        sampling_rate_hz=lead.sampling_rate_hz,
        signal_mv=lead.signal_mv,
        samples=record.samples,
        probs=probs,
        left_out=record.left_out,
        annotated=record.annotated,
    )


def _print_record(classified: ClassifiedRecord, notes: Sequence[str]) -> None:
    from study.reporting.classified import agreement, beat_counts

    rate_hz = classified.sampling_rate_hz
    resampled = "" if rate_hz == SAMPLING_RATE_HZ else f", resampled to {SAMPLING_RATE_HZ} Hz"
    print(
        f"record {classified.name}: lead {classified.lead}, {rate_hz:g} Hz{resampled}, "
        f"{clock(classified.duration_s)}\n  {beat_counts(classified)}"
    )
    for note in notes:
        print(textwrap.fill(f"note: {note}", 99, initial_indent="  ", subsequent_indent=" " * 8))
    if (labels := agreement(classified)) is not None:
        lines = labels.grid().splitlines()
        print("\n    ".join(["  beside its own labels (one record is no test):", *lines]))


def _notes(record: OneRecord, *, detect: bool) -> list[str]:
    from study.data.one_record import DETECTOR

    notes = [MADE_UP] if record.made_up else []
    if record.found_by:
        lacks = "beat annotations" if record.found_by == DETECTOR else "classes of beats"
        reason = "--detect" if detect else f"it has no {lacks}"
        notes.append(
            f"{reason}: R peaks are found by {record.found_by}. A beat that it misses or makes up "
            "changes the RR intervals of its neighbours too; scores are measured on annotated "
            "beats, so expect more errors than they say"
        )
    if record.doubled:
        samples = ", ".join(str(beat.samples[0]) for beat in record.doubled[:3])
        more = " ..." if len(record.doubled) > 3 else ""
        notes.append(
            f"{len(record.doubled)} beats are annotated more than once (samples {samples}{more}): "
            "each is taken once"
        )
    if record.lead.name != "MLII":
        notes.append(
            f"models trained on MIT-BIH have seen lead MLII alone, not {record.lead.name}"
        )
    if record.in_ds1:
        notes.append(
            "it is of MIT-BIH's DS1: a model trained on DS1 has learnt this very record, which "
            "says nothing about new patients"
        )
    return notes


def _write(
    folder: Path,
    name: str,
    classified: ClassifiedRecord,
    model: Loaded,
    notes: Sequence[str],
    args: argparse.Namespace,
) -> list[Path]:
    from study.data.annotations import write_annotations
    from study.reporting.classified import beats_csv
    from study.reporting.record_page import record_page

    annotations = write_annotations(
        folder,
        name,
        EXTENSION,
        samples=classified.samples,
        symbols=classified.symbols,
        sampling_rate_hz=classified.sampling_rate_hz,
    )
    table = folder / f"{name}.csv"
    write_whole(table, beats_csv(classified))
    if not args.plot_seconds:
        return [annotations, table]
    # Imported here: drawing takes longest to import.
    from study.reporting.strip import busiest_start, draw_strip

    strip, start_s = folder / f"{name}.png", args.plot_from
    if start_s is None:
        start_s = busiest_start(classified, args.plot_seconds)
    whose = "MADE UP record" if MADE_UP in notes else "record"
    detected = "" if classified.annotated is not None else ", R peaks found"
    draw_strip(
        strip,
        classified,
        start_s=start_s,
        length_s=args.plot_seconds,
        title=f"{whose} {classified.name}, lead {classified.lead}, "
        f"{classified.sampling_rate_hz:g} Hz{detected}\n{_model_line(model)}",
    )
    page = folder / f"{name}.html"
    about = _about(model)
    write_whole(page, record_page(classified, model=about, notes=notes, strip=strip.name))
    return [annotations, table, strip, page]


if __name__ == "__main__":
    leave(main())
