"""The options of `python -m study.run`; nothing heavy is imported for its help."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.keys import OBJECTIVES, PRECISIONS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line, under its description."""
    found = argparse.ArgumentParser(
        prog="python -m study.run",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--list", action="store_true", help="show spaces and studies, and end")
    found.add_argument("--space", metavar="NAME", help="a space of search_spaces/, or a .toml")
    records = found.add_argument_group(
        "what a study's records say (--storage, --study-storage, --tracking-uri as it was started)"
    )
    records.add_argument(
        "--status",
        metavar="STUDY",
        help="what is done, running, failed and owed, and whether Optuna's storage, MLflow and "
        "files agree; changes nothing; also while it runs",
    )
    records.add_argument(
        "--repair",
        metavar="STUDY",
        help="show where they disagree and what will be done, then do it: Optuna's storage is the "
        "truth, lost results are owed again; with --dry-run only show",
    )
    confirming = found.add_argument_group("confirm a search on fresh seeds and fold partitions")
    confirming.add_argument(
        "--confirm", metavar="STUDY", help="compare the best configurations of a search"
    )
    confirming.add_argument(
        "--top", type=int, metavar="K", help="arms whose best configuration is taken (default 4)"
    )
    confirming.add_argument(
        "--partitions", type=int, metavar="P", help="fold partitions, a study each (default 3)"
    )
    what = found.add_argument_group("what is run (default: as the space says)")
    what.add_argument("--trials", type=int, metavar="N", help="configurations of a search")
    what.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs of a trial in full (with --confirm: others than the search's)",
    )
    what.add_argument(
        "--folds", type=_folds, metavar="N", help="folds over the records, or 'published' (17/5)"
    )
    what.add_argument(
        "--seeds", type=int, metavar="N", help="seeds per fold (default of --confirm: 5)"
    )
    what.add_argument("--sampler", metavar="NAME", help="tpe, random, grid (every cell), qmc, gp")
    what.add_argument("--scheduler", metavar="NAME", help="asha, screening or none")
    what.add_argument("--objective", metavar="NAME", help=f"one of {', '.join(OBJECTIVES)}")
    what.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="root of all random streams (default 0)"
    )
    what.add_argument(
        "--partition-seed",
        type=_seed,
        default=0,
        metavar="N",
        help="which of the even fold partitions (default 0)",
    )
    data = found.add_argument_group(
        "records (default: MITDB_DIR, ./data/mitdb, PhysioNet, else synthetic ones)"
    )
    data.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of the MIT-BIH records")
    data.add_argument("--records", type=Path, metavar="DIR", help="one's own WFDB records")
    data.add_argument(
        "--split", type=Path, metavar="FILE", help="their split; `python -m study.data --help`"
    )
    where = found.add_argument_group("where it runs")
    where.add_argument(
        "--concurrency", type=int, metavar="N", help="trials at once (default: one a core)"
    )
    where.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help="what trials train on (default auto)",
    )
    where.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of training: fp32; bf16 (CPU, CUDA); tf32 (CUDA); auto is bf16 on a CPU that "
        "convolves faster in it, else fp32 (default auto)",
    )
    where.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        metavar="X",
        help="share of a GPU (default: half of one where it holds two trials, else one)",
    )
    where.add_argument(
        "--address", metavar="ADDR", help="a running Ray cluster; 'auto' finds it on this host"
    )
    where.add_argument(
        "--storage",
        metavar="PLACE",
        help="checkpoints and results: shared folder, s3://, gs:// (default: studies/NAME/trials)",
    )
    where.add_argument(
        "--study-storage", metavar="URL", help="Optuna storage (default: studies/NAME/study.db)"
    )
    where.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )
    where.add_argument("--no-track", action="store_true", help="record nothing in MLflow")
    how = found.add_argument_group("how it goes")
    how.add_argument("--name", help="name of the study (default: that of its space)")
    how.add_argument("--resume", action="store_true", help="continue an unfinished study")
    how.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="T",
        help="of the study: 90s, 30m, 2h (default none)",
    )
    how.add_argument(
        "--trial-time-limit",
        type=_seconds,
        metavar="T",
        help="of each trial, checked at every epoch; it then counts as failed. Where an epoch "
        "(the first one with the worker's start, the last with the final scores) takes longer "
        "than all of T, its worker is taken for hung and ended, and the trial tried again, twice "
        "at most (default none)",
    )
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="show the plan and its time; with -v run each branch once",
    )
    how.add_argument("-v", "--verbose", action="store_true", help="debug messages and tracebacks")
    how.add_argument("-q", "--quiet", action="store_true", help="only the result and errors")
    return found


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 0 to 2^31 - 1")
    return int(text)


def _gpus(text: str) -> float:
    try:
        gpus = float(text)
    except ValueError:
        gpus = float("nan")
    if not (0 < gpus <= 1 or (gpus > 1 and gpus.is_integer())):
        raise argparse.ArgumentTypeError(f"{text!r}: give a share up to 1, or a whole number")
    return gpus


def _folds(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _seconds(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "s")
    if unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number and s, m, h or d, as in 30m")
    try:
        seconds = float(number) * _UNITS[unit]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number, as in 30m") from error
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be above 0")
    return seconds
