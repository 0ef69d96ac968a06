"""The options of `python -m study.run`.

It imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse

from study.keys import OBJECTIVES, PRECISIONS
from study.options import (
    Group,
    add_machine,
    add_plugin,
    add_records,
    add_tracker,
    add_verbosity,
    command,
    whole_number,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line, under its description."""
    options = command("run", description)
    options.add_argument("--list", action="store_true", help="show spaces and studies, and end")
    options.add_argument("--space", metavar="NAME", help="a space of search_spaces/, or a .toml")
    # Words without an option are taken so that the command can say what was meant.
    options.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    add_plugin(options)
    _add_checks(
        options.add_argument_group(
            "look at a study (give --storage, --study-storage, --tracking-uri as at its start)"
        )
    )
    _add_confirmation(
        options.add_argument_group("confirm a search on fresh seeds and fold partitions")
    )
    _add_content(options.add_argument_group("what is run (default: as the space says)"))
    add_records(
        options.add_argument_group(
            "records (default: MITDB_DIR, ./data/mitdb, PhysioNet, else synthetic ones)"
        )
    )
    _add_machine(options.add_argument_group("what it runs on"))
    _add_storage(options.add_argument_group("where it is stored"))
    _add_course(options.add_argument_group("how it goes"))
    return options


def _add_checks(group: Group) -> None:
    group.add_argument(
        "--status",
        metavar="STUDY",
        help="show which trials are done, running, failed and owed, and whether Optuna's storage, "
        "MLflow and files agree; changes nothing; works while the study runs",
    )
    group.add_argument(
        "--repair",
        metavar="STUDY",
        help="make Optuna's storage, MLflow and files agree, after showing how. Optuna's storage "
        "counts as the truth; trials whose results are lost run again at the next --resume. With "
        "--dry-run it only shows",
    )


def _add_confirmation(group: Group) -> None:
    group.add_argument(
        "--confirm", metavar="STUDY", help="compare the best configurations of this search"
    )
    group.add_argument(
        "--top", type=whole_number, metavar="K", help="how many arms to confirm (default 4)"
    )


def _add_content(group: Group) -> None:
    group.add_argument(
        "--quick",
        action="store_true",
        help="rehearse the space: the same path in minutes, with scores that mean nothing",
    )
    group.add_argument(
        "--trials", type=whole_number, metavar="N", help="configurations of a search"
    )
    group.add_argument(
        "--epochs",
        type=whole_number,
        metavar="N",
        help="epochs of a full trial; with --confirm they may differ from the search's",
    )
    group.add_argument(
        "--folds", type=_folds, metavar="N", help="folds over the records, or 'published' (17/5)"
    )
    group.add_argument(
        "--seeds",
        type=whole_number,
        metavar="N",
        help="seeds of each fold; a comparison shares them out over its partitions (default of "
        "--confirm: 5)",
    )
    group.add_argument(
        "--partitions",
        type=whole_number,
        metavar="P",
        help="partitions into folds of a comparison (with --confirm: a study each, default 3)",
    )
    group.add_argument("--sampler", metavar="NAME", help="tpe, random, grid (every cell), qmc, gp")
    group.add_argument("--scheduler", metavar="NAME", help="asha, screening or none")
    group.add_argument("--objective", metavar="NAME", help=f"one of {', '.join(OBJECTIVES)}")
    group.add_argument(
        "--start-from",
        metavar="STUDY",
        help="let tpe or gp learn from the trials of this study, which are not counted",
    )
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="root of all random streams (default 0)"
    )
    group.add_argument(
        "--partition-seed",
        type=_seed,
        default=0,
        metavar="N",
        help="which partition of the records into folds; of several, the first (default 0)",
    )


def _add_machine(group: Group) -> None:
    add_machine(group, "trials")
    group.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="number format of training: fp32; bf16 on CPU or CUDA; tf32 on CUDA; auto takes bf16 "
        "on a CPU that is faster in it, else fp32 (default auto)",
    )
    group.add_argument(
        "--gpus-per-trial",
        type=_gpus,
        metavar="X",
        help="share of a GPU that a trial gets (default: half where a GPU holds two trials, else "
        "all)",
    )


def _add_storage(group: Group) -> None:
    group.add_argument(
        "--storage",
        metavar="PLACE",
        help="checkpoints and results: shared folder, s3://, gs:// (default: studies/NAME/trials)",
    )
    group.add_argument(
        "--study-storage", metavar="URL", help="Optuna storage (default: studies/NAME/study.db)"
    )
    add_tracker(group)


def _add_course(group: Group) -> None:
    group.add_argument("--name", help="name of the study (default: that of its space)")
    group.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="STUDY",
        help="go on with an unfinished study, by the command, space and records in its folder; "
        "without a name: the study that the other options start",
    )
    group.add_argument(
        "--retry-failed", action="store_true", help="with --resume: try failed trials again"
    )
    group.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="T",
        help="stop the study after this time, such as 90s, 30m or 2h (default none)",
    )
    group.add_argument(
        "--trial-time-limit",
        type=_seconds,
        metavar="T",
        help="the longest time for each trial. After every epoch, a trial that has taken longer "
        "fails. A worker that takes longer than T for one epoch counts as hanging: it is ended, "
        "and its trial is tried again, at most twice. The first epoch includes the worker's "
        "start, the last one the final scores (default none)",
    )
    group.add_argument(
        "--on-end",
        metavar="COMMAND",
        help="shell command to run when the study has ended, unless by an error; it gets "
        "STUDY_NAME, STUDY_FOLDER, STUDY_STATE and STUDY_EXIT_CODE",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be trained, and for how long; with -v also run each branch once",
    )
    add_verbosity(group)


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
