"""What a study has to tell its tracker: an append-only file, a line an event, and how far it went.

A line is handed to the system before anything else handles its event, so that a killed driver has
told all that it said. Each line has its number and a checksum of its own bytes. A last line that
was cut off is dropped: who wrote it was killed before it counted, and what it was about happens
again. How far the tracker was told is in a file of its own, which may lag behind: what is sent
twice is recorded once. A power cut may take the last moments of both; the next start runs them
again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from study.errors import StudyStateError
from study.files import write_whole, writing

JOURNAL, SENT = "journal.jsonl", "journal.sent"
"""The two files, in a study's folder."""

_SUM = b',"sum":"%s"}'
_DIGITS = 12
_TAIL = len(_SUM) - len(b"%s") + _DIGITS


class Kind(StrEnum):
    """What an event is about."""

    STUDY = "study"
    """A start of the driver: the study is opened."""
    TRIAL = "trial"
    EPOCH = "epoch"
    END = "end"
    """How a trial ended."""
    FLOOR = "floor"
    CLOSE = "close"
    """How a start of the driver ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line.

    Args:
        number: Its place, from 1.
        time_s: When it was written, seconds since 1970.
        kind: What it is about.
        content: What it says; plain values only.
    """

    number: int
    time_s: float
    kind: Kind
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What a journal holds.

    Args:
        events: In order.
        faults: What is wrong with it; altered lines are named here, and left out of the events.
        size: Bytes up to where it was cut off.
        last: Number of its last line.
    """

    events: tuple[Event, ...] = ()
    faults: tuple[str, ...] = ()
    size: int = 0
    last: int = 0

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome that was told last of each trial, by digest."""
        ends = (event.content for event in self.events if event.kind is Kind.END)
        return {end["digest"]: end["outcome"] for end in ends}

    @property
    def closed(self) -> bool:
        """Whether the last driver said how it ended; one that is killed does not."""
        bounds = [event.kind for event in self.events if event.kind in (Kind.STUDY, Kind.CLOSE)]
        return bounds[-1:] != [Kind.STUDY]


class Journal:
    """A journal that is written to; one process at a time may.

    Args:
        folder: The study's folder.

    Raises:
        StudyStateError: If it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.before = read(folder)
        self._size, self._next = self.before.size, self.before.last + 1
        try:
            self._file = self.path.open("ab", buffering=0)
            self._file.truncate(self._size)
        except OSError as error:
            raise StudyStateError(
                f"{self.path}: cannot be written ({error.strerror}); it keeps what MLflow is to "
                "be told: mend that, or start with --no-track"
            ) from error

    def append(self, kind: Kind, content: Mapping[str, Any]) -> Event:
        """Write an event down; when this returns, no end of this process can lose it.

        Raises:
            DiskError: If the disk does not take it; the file is then as it was.
        """
        event = Event(number=self._next, time_s=time.time(), kind=kind, content=content)
        line = _line(event)
        with writing(self.path, len(line)):
            try:
                if self._file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, "no space left for a whole line", str(self.path))
            except OSError:
                self._file.truncate(self._size)
                raise
        self._size += len(line)
        self._next += 1
        return event

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(folder: Path) -> Lines:
    """Read a study's journal; there need be none.

    Raises:
        StudyStateError: If it cannot be read.
    """
    try:
        content = (folder / JOURNAL).read_bytes()
    except FileNotFoundError:
        return Lines()
    except OSError as error:
        raise StudyStateError(
            f"{folder / JOURNAL}: cannot be read ({error.strerror}); it keeps what MLflow is to "
            "be told: mend that first"
        ) from error
    *lines, rest = content.split(b"\n")
    events, faults, due = list[Event](), list[str](), 1
    for place, line in enumerate(lines, start=1):
        event, where = _event(line), f"{JOURNAL} line {place}"
        if event is None:
            faults.append(f"{where}: was altered since it was written, and is left out")
            due += 1
            continue
        if event.number != due:
            faults.append(
                f"{where}: is event {event.number}, where {due} was due: lines before it were "
                "added, moved or taken away"
            )
        events.append(event)
        due = max(due, event.number) + 1
    if rest:
        faults.append(f"{JOURNAL}: its last line was cut off ({len(rest)} bytes), and is dropped")
    return Lines(
        events=tuple(events),
        faults=tuple(faults),
        size=len(content) - len(rest),
        last=due - 1,
    )


def _line(event: Event) -> bytes:
    body = {"n": event.number, "time": event.time_s, "event": str(event.kind), **event.content}
    # NaN and infinities are written by those names, as Python reads them.
    text = json.dumps(body, separators=(",", ":")).encode()
    return text[:-1] + _SUM % _sum(text) + b"\n"


def _event(line: bytes) -> Event | None:
    text = line[:-_TAIL] + b"}"
    if line != text[:-1] + _SUM % _sum(text):
        return None
    body = json.loads(text)
    number, time_s, kind = body.pop("n"), body.pop("time"), Kind(body.pop("event"))
    return Event(number=number, time_s=time_s, kind=kind, content=body)


def _sum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


class Mark:
    """How far a journal was sent.

    Args:
        folder: The study's folder.
        last: Number of the journal's last event: a mark beyond it is of lines that are lost.
        store: Which store it is about; empty is whichever was told last.
    """

    def __init__(self, folder: Path, last: int, store: str = "") -> None:
        self._path = folder / SENT
        self._store = store
        self.sent = 0
        self.other_store = ""
        """The store that was told instead of this one, which is to be told everything."""
        # Without it, or where it is damaged, everything is sent again, and recorded once.
        with suppress(OSError, ValueError, KeyError, TypeError):
            stored = dict(json.loads(self._path.read_text()))
            told = str(stored.get("store", store))
            if store and told != store:
                self.other_store = told
            else:
                self.sent = min(int(stored["sent"]), last)

    def move(self, number: int) -> None:
        """Note that the tracker has everything up to an event."""
        self.sent = number
        with suppress(OSError):
            write_whole(self._path, json.dumps({"sent": number, "store": self._store}) + "\n")
