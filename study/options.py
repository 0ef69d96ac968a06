"""The options of `python -m study.run`; nothing heavy is imported for its help."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.keys import OBJECTIVES, PRECISIONS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line, under its description."""
    options = argparse.ArgumentParser(
        prog="python -m study.run",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--list", action="store_true", help="show spaces and studies, and end")
    options.add_argument("--space", metavar="NAME", help="a space of search_spaces/, or a .toml")
    _add_checks(
        options.add_argument_group(
            "look at a study (--storage, --study-storage, --tracking-uri as it was started)"
        )
    )
    _add_confirmation(
        options.add_argument_group("confirm a search on fresh seeds and fold partitions")
    )
    _add_content(options.add_argument_group("what is run (default: as the space says)"))
    _add_records(
        options.add_argument_group(
            "records (default: MITDB_DIR, ./data/mitdb, PhysioNet, else synthetic ones)"
        )
    )
    _add_machine(options.add_argument_group("what it runs on"))
    _add_storage(options.add_argument_group("where it is stored"))
    _add_course(options.add_argument_group("how it goes"))
    return options


def _add_checks(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--status",
        metavar="STUDY",
        help="show what is done, running, failed and owed, and whether Optuna's storage, MLflow "
        "and files agree; changes nothing; also while it runs",
    )
    group.add_argument(
        "--repair",
        metavar="STUDY",
        help="show where they disagree and what will be done, then do it: Optuna's storage is the "
        "truth, trials whose results are lost run again at the next --resume; with --dry-run only "
        "show",
    )


def _add_confirmation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--confirm", metavar="STUDY", help="compare the best configurations of a search"
    )
    group.add_argument(
        "--top", type=int, metavar="K", help="arms whose best configuration is taken (default 4)"
    )
    group.add_argument(
        "--partitions", type=int, metavar="P", help="fold partitions, a study each (default 3)"
    )


def _add_content(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--trials", type=int, metavar="N", help="configurations of a search")
    group.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="epochs of a trial in full (with --confirm: others than the search's)",
    )
    group.add_argument(
        "--folds", type=_folds, metavar="N", help="folds over the records, or 'published' (17/5)"
    )
    group.add_argument(
        "--seeds", type=int, metavar="N", help="seeds per fold (default of --confirm: 5)"
    )
    group.add_argument("--sampler", metavar="NAME", help="tpe, random, grid (every cell), qmc, gp")
    group.add_argument("--scheduler", metavar="NAME", help="asha, screening or none")
    group.add_argument("--objective", metavar="NAME", help=f"one of {', '.join(OBJECTIVES)}")
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="root of all random streams (default 0)"
    )
    group.add_argument(
        "--partition-seed",
        type=_seed,
        default=0,
        metavar="N",
        help="which of the even fold partitions (default 0)",
    )


def _add_records(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder of the MIT-BIH records"
    )
    group.add_argument("--records", type=Path, metavar="DIR", help="one's own WFDB records")
    group.add_argument(
        "--split", type=Path, metavar="FILE", help="their split; `python -m study.data --help`"
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--concurrency", type=int, metavar="N", help="trials at once (default: one a core)"
    )
    group.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help="what trials train on (default auto)",
    )
    group.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of training: fp32; bf16 (CPU, CUDA); tf32 (CUDA); auto is bf16 on a CPU that "
        "convolves faster in it, else fp32 (default auto)",
    )
    group.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        metavar="X",
        help="share of a GPU (default: half of one where it holds two trials, else one)",
    )
    group.add_argument(
        "--address", metavar="ADDR", help="a running Ray cluster; 'auto' finds it on this host"
    )


def _add_storage(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--storage",
        metavar="PLACE",
        help="checkpoints and results: shared folder, s3://, gs:// (default: studies/NAME/trials)",
    )
    group.add_argument(
        "--study-storage", metavar="URL", help="Optuna storage (default: studies/NAME/study.db)"
    )
    group.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )
    group.add_argument("--no-track", action="store_true", help="record nothing in MLflow")


def _add_course(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--name", help="name of the study (default: that of its space)")
    group.add_argument("--resume", action="store_true", help="continue an unfinished study")
    group.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="T",
        help="of the study: 90s, 30m, 2h (default none)",
    )
    group.add_argument(
        "--trial-time-limit",
        type=_seconds,
        metavar="T",
        help="of each trial, checked after every epoch: a trial above it has failed. A worker "
        "whose epoch takes longer than all of T hangs (the first epoch includes the worker's "
        "start, the last one the final scores): it is ended, and the trial is tried again, twice "
        "at most (default none)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="show the plan and its time; with -v run each branch once",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="debug messages, tracebacks")
    group.add_argument("-q", "--quiet", action="store_true", help="only the result and errors")


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
