"""The options that several commands have, and all of `python -m study.run`.

It imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from study.command import as_called
from study.keys import OBJECTIVES, PRECISIONS

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_Group = argparse._ActionsContainer
"""A parser, or a group of its options."""


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line; argparse prints every option before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def command(name: str, description: str | None, epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of a command; its help names the command as it was called."""
    return _Parser(
        prog=as_called(f"python -m study.{name}"),
        description=as_called(description or ""),
        epilog=as_called(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_machine(options: _Group, trials: str) -> None:
    """Add the options for the machine; `trials` is the command's word for its trials."""
    options.add_argument(
        "--concurrency", type=_whole, metavar="N", help=f"{trials} at once (default: one a core)"
    )
    options.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda", "mps"),
        help=f"what {trials} train on (default auto)",
    )
    options.add_argument(
        "--address", metavar="ADDR", help="a running Ray cluster; 'auto' finds it on this host"
    )


def add_plugin(options: _Group) -> None:
    """Add the option for files with fusions and backbones."""
    options.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with fusions or backbones (docs/plugins.md); may be given again",
    )


def add_tracking_uri(options: _Group) -> None:
    """Add the option for the address of MLflow."""
    options.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )


def add_tracker(options: _Group) -> None:
    """Add the options for the address of MLflow and for leaving it out."""
    add_tracking_uri(options)
    options.add_argument("--no-track", action="store_true", help="do not use MLflow")


def add_lead(options: _Group, purpose: str, leads: Sequence[str]) -> None:
    """Add the option for the lead to read; `leads` are read without it, best first."""
    options.add_argument(
        "--lead",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{purpose}; given again: the next best (default {', '.join(leads)})",
    )


def add_verbosity(options: _Group) -> None:
    """Add the options for verbosity, which `set_logging` applies."""
    options.add_argument("-v", "--verbose", action="store_true", help="debug messages, tracebacks")
    options.add_argument("-q", "--quiet", action="store_true", help="only the result and errors")


def besides(
    args: argparse.Namespace, defaults: Mapping[str, Any], allowed: Collection[str]
) -> list[str]:
    """Return the options that were given and are not among those allowed; -v and -q always are."""
    return [
        f"--{name.replace('_', '-')}"
        for name, value in vars(args).items()
        if name not in (*allowed, "verbose", "quiet") and value != defaults[name]
    ]


def set_logging(*, verbose: bool = False, quiet: bool = False) -> None:
    """Let this package log as asked, and other packages only warnings."""
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("study").setLevel(level)
    # Even a quiet command says that records are synthetic, and that a GPU is left unused.
    for name in ("study.data.source", "study.training.device"):
        logging.getLogger(name).setLevel(min(level, logging.WARNING))


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


def _add_checks(group: argparse._ArgumentGroup) -> None:
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


def _add_confirmation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--confirm", metavar="STUDY", help="compare the best configurations of this search"
    )
    group.add_argument(
        "--top", type=_whole, metavar="K", help="how many arms to confirm (default 4)"
    )


def _add_content(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--quick",
        action="store_true",
        help="rehearse the space: the same path in minutes, with scores that mean nothing",
    )
    group.add_argument("--trials", type=_whole, metavar="N", help="configurations of a search")
    group.add_argument(
        "--epochs",
        type=_whole,
        metavar="N",
        help="epochs of a full trial; with --confirm they may differ from the search's",
    )
    group.add_argument(
        "--folds", type=_folds, metavar="N", help="folds over the records, or 'published' (17/5)"
    )
    group.add_argument(
        "--seeds",
        type=_whole,
        metavar="N",
        help="seeds of each fold; a comparison shares them out over its partitions (default of "
        "--confirm: 5)",
    )
    group.add_argument(
        "--partitions",
        type=_whole,
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


def add_records(group: _Group) -> None:
    """Add the options for the records of a study."""
    group.add_argument(
        "--data",
        default="mitdb",
        metavar="NAMES",
        help="databases by name, joined by +, as in mitdb+svdb; or synthetic, for made-up "
        f"records (default mitdb; `{as_called('python -m study.data')} --help` lists them)",
    )
    group.add_argument(
        "--data-dir",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder of a database; with several, once for each, as in svdb=DIR (default: "
        "MITDB_DIR, SVDB_DIR and so on, ./data/NAME, PhysioNet)",
    )
    group.add_argument(
        "--records", type=Path, metavar="DIR", help="folder of your own WFDB records"
    )
    group.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="TOML file that says which --records to use (see "
        f"`{as_called('python -m study.data')} --help`)",
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
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


def _add_storage(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--storage",
        metavar="PLACE",
        help="checkpoints and results: shared folder, s3://, gs:// (default: studies/NAME/trials)",
    )
    group.add_argument(
        "--study-storage", metavar="URL", help="Optuna storage (default: studies/NAME/study.db)"
    )
    add_tracker(group)


def _add_course(group: argparse._ArgumentGroup) -> None:
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


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number") from error


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
