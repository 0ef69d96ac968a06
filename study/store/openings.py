"""The openings of a sealed test set in a workspace, and the results that they left.

The log is an append-only file. Each opening's line is on disk before anything of the test set is
read. It holds the SHA-256 of the line before and of its own content, so that an edit shows. An
unreadable line is reported and counts as an opening. This module reads no records, so that pages
of studies can use it.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import math
import os
import socket
import statistics
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from study.errors import StudyStateError
from study.wording import plural

DS2 = "DS2"
"""The test set of MIT-BIH, which a plan is for unless another is named."""


def log_name(test_set: str = DS2) -> str:
    """Return the name of a test set's log, in the workspace."""
    return "test_openings.jsonl" if test_set == DS2 else f"test_openings_{test_set}.jsonl"


EVALUATIONS, RESULT = "evaluations", "result.json"
"""Folder of a workspace's sealed tests, and the file of an opening's result."""

_PREVIOUS, _DIGEST = "previous", "digest"


def plan_title(name: object, plan_hash: object) -> str:
    """Return the name of a plan and the start of its hash, as all messages show them."""
    return f"{name} ({str(plan_hash)[:12]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One line of the log."""

    number: int  # number of the line, from 1
    # Its content; empty if it cannot be read
    content: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""  # what is wrong with it; empty if nothing is

    @property
    def digest(self) -> str:
        """Digest of its content, as the line states it."""
        return str(self.content.get(_DIGEST, ""))

    @property
    def plan(self) -> str:
        """Name and digest of the plan, for display."""
        if "plan" not in self.content:
            return "an unreadable line"
        return plan_title(self.content["plan"], self.content.get("plan_hash", "?"))


class OpeningsLog:
    """The openings of one test set in one workspace.

    It is in the workspace, or in the folder of its rehearsals. Messages call the test set by
    `words`, or by its name.
    """

    def __init__(self, folder: Path, test_set: str = DS2, words: str = "") -> None:
        self.path = folder / log_name(test_set)
        self.test_set = test_set
        self.words = words or test_set

    def read(self) -> list[Opening]:
        """Return all openings, oldest first, damaged lines included.

        Raises:
            StudyStateError: If the file is there and cannot be read.
        """
        return _parsed(self._lines())

    def of_plan(self, plan_hash: str) -> list[Opening]:
        """Return the openings by a plan, oldest first; errors as in `read`."""
        return [one for one in self.read() if one.content.get("plan_hash") == plan_hash]

    def append(self, content: Mapping[str, Any]) -> Opening:
        """Record an opening, with time, host and user; it is on disk when this returns.

        Raises:
            StudyStateError: If the file cannot be written.
        """
        try:
            with self._locked() as file:
                lines = _split(file.read())
                opening = _signed(content, previous=lines[-1] if lines else b"")
                # A line that was cut short keeps its place, and does not spoil this one.
                file.seek(0, os.SEEK_END)
                size = file.tell()
                if size:
                    file.seek(size - 1)
                    file.write(b"" if file.read(1) == b"\n" else b"\n")
                file.write(json.dumps(opening, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self.path.parent)
        except OSError as error:
            raise StudyStateError(
                f"{self.path}: cannot be written ({error.strerror}); {self.words} was not opened"
            ) from error
        return Opening(number=len(lines) + 1, content=opening)

    def sentence(self) -> str:
        """Say how often the test set was opened, for which plans; then each fault in a line."""
        openings = self.read()
        plans = Counter(opening.plan for opening in openings)
        names = ", ".join(plan if n == 1 else f"{plan} x {n}" for plan, n in plans.items())
        which = f", for {'this plan' if len(plans) == 1 else 'these plans'}: {names}"
        often = f"{plural(len(openings), 'time')} in this workspace{which if plans else ''}"
        faults = [f"warning: {opening.fault}" for opening in openings if opening.fault]
        return "\n".join([f"{self.words} has been opened {often}.", *faults])

    def _lines(self) -> list[tuple[bytes, str]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StudyStateError(
                f"{self.path}: cannot be read ({error.strerror}), so how often {self.words} was "
                "opened is unknown; mend that first"
            ) from error
        return [
            (line, f"{self.path.name} line {number}")
            for number, line in enumerate(_split(content), start=1)
        ]

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file


def _split(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n") if line.strip()]


def _signed(content: Mapping[str, Any], *, previous: bytes) -> dict[str, Any]:
    opening = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **_who(),
        **content,
        _PREVIOUS: hashlib.sha256(previous).hexdigest(),
    }
    return {**opening, _DIGEST: _digest(opening)}


def _who() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under an id without a name
        user = "?"
    return {"host": socket.gethostname(), "user": user}


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _parsed(lines: list[tuple[bytes, str]]) -> list[Opening]:
    openings: list[Opening] = []
    before = b""
    for number, (line, where) in enumerate(lines, start=1):
        content, fault = _content(line)
        if not fault and content[_PREVIOUS] != hashlib.sha256(before).hexdigest():
            fault = "the line before it was altered, added or taken away since it was written"
        fault = f"{where}: {fault}" if fault else ""
        openings.append(Opening(number=number, content=content, fault=fault))
        before = line
    return openings


def _content(line: bytes) -> tuple[dict[str, Any], str]:
    """Return a line's content, and the fault of the line by itself."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}, "cannot be read, and counts as an opening"
    if not isinstance(content, dict) or not {"plan", _PREVIOUS, _DIGEST} <= content.keys():
        return {}, "is not an opening, and counts as one"
    unsigned = {name: value for name, value in content.items() if name != _DIGEST}
    altered = content[_DIGEST] != _digest(unsigned)
    return content, "was altered since it was written" if altered else ""


def _sync_folder(folder: Path) -> None:
    # A new file's name is on disk only when its folder is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedResult:
    """One opening of the sealed test set by a plan based on this study."""

    plan: str  # name and digest of its plan
    opened: str  # when
    # Mean and sd over seeds, by arm and metric
    arms: Mapping[str, Mapping[str, tuple[float, float]]]
    seeds: int  # seeds of each arm


def sealed_results(workspace: Path, study: str) -> list[SealedResult]:
    """Return the results of a study's openings, oldest first; a damaged one is left out."""
    openings = []
    for path in (workspace / EVALUATIONS).glob(f"*/opening_*/{RESULT}"):
        number = path.parent.name.removeprefix("opening_")
        if not number.isdigit():
            continue  # of another test set
        try:
            content = json.loads(path.read_text())
            plan = tomllib.loads(content["plan"])
            # A plan of the previous version has its study at the top level.
            if plan.get("test", plan).get("study", {}).get("name") == study:
                openings.append((int(number), _sealed(content)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return [result for _, result in sorted(openings, key=lambda pair: pair[0])]


def _sealed(content: Mapping[str, Any]) -> SealedResult:
    opening = content["opening"]
    arms = {arm: dict(_metrics(of["seeds"]["values"])) for arm, of in content["arms"].items()}
    seeds = max(
        (len(v) for of in content["arms"].values() for v in of["seeds"]["values"].values()),
        default=0,
    )
    return SealedResult(
        plan=plan_title(opening["plan"], opening["plan_hash"]),
        opened=str(opening["time"])[:10],
        arms=arms,
        seeds=seeds,
    )


def _metrics(
    values: Mapping[str, list[float | None]],
) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, by_seed in values.items():
        finite = [value for value in by_seed if value is not None]
        if finite and len(finite) == len(by_seed):
            sd = statistics.stdev(finite) if len(finite) > 1 else math.nan
            yield name, (statistics.fmean(finite), sd)
