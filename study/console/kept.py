"""The command that started a study: kept in its folder, and read again by `--resume NAME`."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.addresses import redact
from study.command import as_called
from study.errors import UsageError
from study.store.folder import COMMAND, SPACE_COPY, study_folder

if TYPE_CHECKING:
    from study.data.source import Source
    from study.spaces.space import Space

RUN = "python -m study.run"

_OF_ONE_START = {
    *("resume", "retry_failed", "time_limit", "dry_run", "verbose", "quiet", "words"),
}
"""Options of one start, which the next need not repeat."""

_IN_THE_SPACE = (
    *("trials", "epochs", "folds", "seeds", "partitions"),
    *("sampler", "scheduler", "objective", "quick", "plugin"),
)
"""Options whose content the study's folder already has: its `space.toml`, its plug-ins."""

_IN_PLACES = ("storage", "study_storage")
"""Options that `places.json` has, or whose credentials are kept in no file."""


_RECORDS = ("data", "data_dir", "records", "split")
"""Options that name records."""


def resume_words(name: str) -> str:
    """Return the command that goes on with a study."""
    return as_called(f"{RUN} --resume {name}")


def command_line(args: Namespace, defaults: Mapping[str, Any], source: Source) -> str:
    """Return the command that started a study, without credentials, with its records' folders."""
    given = {
        name: value
        for name, value in vars(args).items()
        if name not in _OF_ONE_START and value != defaults[name]
    }
    if source.synthetic:
        given["data"] = source.kind  # they may have been taken for want of a network
    elif source.kind != "records":
        # A variable or ./data may have named them, which another shell or folder lacks.
        folders = {origin.database: origin.folder for origin in source.origins.values()}
        given["data_dir"] = [f"{database}={folder}" for database, folder in folders.items()]
    words = [word for name, value in given.items() for word in _words(name, value)]
    return " ".join([RUN, *map(shlex.quote, words)])


def _words(name: str, value: Any) -> Iterator[str]:
    option = f"--{name.replace('_', '-')}"
    for each in value if isinstance(value, list) else [value]:
        yield option
        if each is not True:
            yield redact(each, str(each))  # it keeps a mark where credentials were


def started_by(folder: Path) -> str:
    """Return the command that started a study; empty where it is not kept."""
    path = folder / COMMAND
    return path.read_text().strip() if path.exists() else ""


def resumed(args: Namespace, parser: ArgumentParser) -> Namespace:
    """Return the options of `--resume NAME`: those of the kept command, and those given now.

    Raises:
        UsageError: If there is no such study, its command is not kept or is another's, it had an
            address with credentials, or its space is missing.
    """
    from study.store.plan import StudyPlan

    name, defaults = str(args.resume), vars(parser.parse_args([]))
    folder = study_folder(Path.cwd(), name)
    StudyPlan.load(folder)  # raises if there is no such study
    if args.space or args.name or args.quick:
        raise UsageError(
            f"--resume {name}: goes by the study's own folder; leave --space, --name and --quick "
            "out, or give --resume alone"
        )
    line = started_by(folder)
    if not line.startswith(f"{RUN} "):
        how = f"was started by `{line}`" if line else f"has no {COMMAND}, as an early version's"
        raise UsageError(f"study '{name}': {how}: go on with that command and --resume")
    kept = _parsed(line, parser)
    for option in (*_IN_THE_SPACE, *_IN_PLACES):
        setattr(kept, option, defaults[option])
    for option, value in vars(args).items():
        if value != defaults[option]:
            setattr(kept, option, value)
    address = kept.tracking_uri or ""
    if not args.tracking_uri and "://" in address and "***" in address:
        raise UsageError(
            f"study '{name}' was started with --tracking-uri {address}, whose credentials are "
            "kept in no file: give the option again"
        )
    if not (folder / SPACE_COPY).is_file():
        raise UsageError(
            f"study '{name}': its {SPACE_COPY} is missing; `{line} --resume` writes it again"
        )
    kept.space, kept.name = str(folder / SPACE_COPY), name
    return kept


def on_records_of(name: str, args: Namespace, parser: ArgumentParser) -> None:
    """Take the records of an earlier study from its kept command, where `args` name none."""
    defaults, line = vars(parser.parse_args([])), started_by(study_folder(Path.cwd(), name))
    if line.startswith(f"{RUN} ") and all(getattr(args, n) == defaults[n] for n in _RECORDS):
        kept = _parsed(line, parser)
        for option in _RECORDS:
            setattr(args, option, getattr(kept, option))


def _parsed(line: str, parser: ArgumentParser) -> Namespace:
    """Return the options of a kept command."""
    return parser.parse_args(shlex.split(line.removeprefix(RUN)))


def own_space(space: Space) -> Space:
    """Return the space of a study's folder, under the name of the space that was started."""
    from study.store.plan import StudyPlan

    return replace(space, name=StudyPlan.load(space.path.parent).space)
