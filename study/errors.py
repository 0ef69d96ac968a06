"""The errors of this project.

Each derives from `StudyError` and from a builtin, so that callers need not know this module. A
message names the place of the fault, the broken rule, the value found, the allowed values and the
remedy. All faults of one input are reported together; files with the same fault share a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from study.wording import first_few

_NAMED = 3
"""At most this many files with the same fault are named; further ones are only counted."""

T = TypeVar("T")


class StudyError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(StudyError, ValueError):
    """A configuration breaks a rule: a value, a combination, a synonym."""


class SpaceError(StudyError, ValueError):
    """A search-space file breaks a rule."""


class PluginError(StudyError, ImportError):
    """A plug-in's file that cannot be used."""


class PlanError(StudyError, ValueError):
    """The plan of a sealed test breaks a rule, or does not fit its study or records."""


class UsageError(StudyError, ValueError):
    """A command line asks for something that the command cannot do."""


class DataError(StudyError, ValueError):
    """Records or annotations that cannot be used.

    Args:
        fault: What is wrong, in words that are the same for every file with this fault.
        where: The file, folder or record that has it.
    """

    def __init__(self, fault: str, where: Path | str = "") -> None:
        super().__init__(f"{where}: {fault}" if where else fault)
        self.fault, self.where = fault, where


class MissingDataError(DataError, FileNotFoundError):
    """A folder, record or file that should be there is not."""


class NoBeatsError(DataError):
    """A record's annotations hold no beats."""


class ChecksumError(DataError):
    """A file does not have the expected checksum."""


class DownloadError(StudyError, OSError):
    """Records could not be downloaded."""


class DivergedError(StudyError, ArithmeticError):
    """A member's loss is no longer finite."""


class ArchiveError(StudyError, ValueError):
    """An npz or pt file is damaged, or lacks the expected content."""


class CheckpointError(StudyError, RuntimeError):
    """A checkpoint is damaged, or belongs to another configuration."""


class DiskError(StudyError, OSError):
    """A disk, shared folder or object store cannot write or read a file."""


class StudyStateError(StudyError, RuntimeError):
    """A study on disk does not allow what was asked: it exists, differs, or is in use."""


class ComparisonError(StudyError, ValueError):
    """Arms whose predictions cannot be compared."""


class TrackingError(StudyError, RuntimeError):
    """The tracking store cannot be used."""


class StoreAwayError(TrackingError):
    """The tracking store does not answer, or answers with an error."""

    def __str__(self) -> str:
        """Add what the user of a command can do."""
        return (
            f"{self.args[0]}; start it, give another --tracking-uri, or leave MLflow out with "
            "--no-track"
        )


class RefusedError(TrackingError):
    """The tracking store works, but refuses what is sent to it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    near = get_close_matches(name, sorted(known), n=1)
    return f" Did you mean '{near[0]}'?" if near and near != [name] else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, list the known ones and suggest the nearest."""
    names = sorted(known)
    listing = ", ".join(names) or "none"
    return f"unknown {kind} '{name}'; known: {listing}.{did_you_mean(name, names)}"


def listed(heading: str, faults: Sequence[str]) -> str:
    """Join all faults of one input into one message: a line if one, a list if more."""
    if len(faults) == 1:
        return f"{heading}: {faults[0]}"
    lines = "\n".join(f"  - {fault}" for fault in faults)
    return f"{heading}: {len(faults)} faults\n{lines}"


def read_all(
    names: Iterable[str], read: Callable[[str], T], *, folder: Path | str
) -> dict[str, T]:
    """Apply a function to each record of a folder; return the results by name.

    Raises:
        DataError: For one faulty record, its own error; for several, one error of their common
            kind, or a plain DataError if kinds differ.
    """
    results, errors = {}, list[DataError]()
    for name in names:
        try:
            results[name] = read(name)
        except DataError as error:
            errors.append(error)
    if errors:
        raise together(errors, folder)
    return results


def together(errors: Sequence[DataError], folder: Path | str) -> DataError:
    """Join the errors of a folder's files into one; each different fault takes one line."""
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else DataError
    files: dict[str, list[str]] = {}
    for error in errors:
        file = Path(error.where)
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        files.setdefault(error.fault, []).append(str(name))
    lines = []
    for fault, names in files.items():
        total = f" ({len(names)} in all)" if len(names) > _NAMED + 1 else ""
        lines.append(f"{first_few(names, _NAMED)}{total}: {fault}")
    return kind(listed(str(folder), lines))
