"""The options that several commands have, and how a command's parser and log behave.

It imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, NoReturn

from study.command import as_called

Group = argparse._ActionsContainer
"""A parser, or a group of its options."""


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line; argparse prints every option before it."""

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse misspelt options and empty texts before anything else.

        A misspelt option is told with the nearest one.
        """
        words = list(sys.argv[1:] if args is None else args)
        names = [word.partition("=")[0] for word in takewhile("--".__ne__, words)]
        options = [name for name in names if name.startswith("--") and " " not in name]
        unknown = [name for name in options if name not in self._option_string_actions]
        if unknown:
            self.error(f"unrecognized arguments: {', '.join(map(self._with_hint, unknown))}")
        for before, word in pairwise(["the command", *words]):
            name, equals, value = word.partition("=")
            if not word or (equals and not value and name.startswith("--")):
                self.error(f"{name or before}: is given no text (an unset variable of the shell?)")
        return super().parse_known_args(words, namespace)

    def _with_hint(self, name: str) -> str:
        known = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        near = get_close_matches(name[2:], known, n=1)
        return f"{name} (did you mean --{near[0]}?)" if near else name

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def command(name: str, description: str | None, epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of a command; its help names the command as it was called."""
    return _Parser(
        prog=as_called(f"python -m study.{name}"),
        description=as_called(description or ""),
        epilog=as_called(epilog),
        # A shortened option could come to mean another one when an option is added.
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_machine(options: Group, trials: str) -> None:
    """Add the options for the machine; `trials` is the command's word for its trials."""
    options.add_argument(
        "--concurrency",
        type=_one_or_more,
        metavar="N",
        help=f"{trials} at once (default: one a core, and as many as the GPUs hold)",
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


def add_plugin(options: Group) -> None:
    """Add the option for files with fusions and backbones."""
    options.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with fusions or backbones (docs/plugins.md); may be given again",
    )


def add_tracking_uri(options: Group) -> None:
    """Add the option for the address of MLflow."""
    options.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, else ./mlflow.db)",
    )


def add_tracker(options: Group) -> None:
    """Add the options for the address of MLflow and for leaving it out."""
    add_tracking_uri(options)
    options.add_argument("--no-track", action="store_true", help="do not use MLflow")


def add_lead(options: Group, purpose: str, leads: Sequence[str]) -> None:
    """Add the option for the lead to read; `leads` are read without it, best first."""
    options.add_argument(
        "--lead",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{purpose}; given again: the next best (default {', '.join(leads)})",
    )


def add_verbosity(options: Group) -> None:
    """Add the options for verbosity, which `set_logging` applies."""
    options.add_argument("-v", "--verbose", action="store_true", help="debug messages, tracebacks")
    options.add_argument("-q", "--quiet", action="store_true", help="only the result and errors")


def given_besides(
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


def add_records(group: Group) -> None:
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


def _one_or_more(text: str) -> int:
    if (number := whole_number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 or more")
    return number


def whole_number(text: str) -> int:
    """Return the whole number that an option gives (`ArgumentTypeError` if it is none)."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number") from error
