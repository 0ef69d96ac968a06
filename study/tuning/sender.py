"""Sends a study's journal to its tracker from a thread of its own: in order, once, all of it.

A store that cannot be reached is tried again, ever more seldom, and nothing is sent past it: what
is told meanwhile waits in the journal. What is still there when the study ends, the next start
sends, or `send_owed`. An event that the store itself does not take is named and left out.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from study.errors import RefusedError, TrackingError
from study.keys import Outcome
from study.store.journal import JOURNAL, Event, Journal, Kind, Mark, read
from study.store.storage import Storage
from study.tracking.sink import Sink
from study.tuning.recorder import Recorder

_logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds without progress after which an ending study leaves the rest in its journal."""

PAUSES_S = (1.0, 30.0)
"""First and longest pause before a store is tried again."""

_LAST_PAUSE_S = 2.0
"""The longest pause once a study waits for its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of sending.

    Args:
        sent: Events that the tracker has now, and had not before.
        left: Events that wait in the journal.
        refused: Events that the store did not take, and never will.
    """

    sent: int = 0
    left: int = 0
    refused: int = 0


def owed(folder: Path, store: str = "") -> int:
    """Return how many events of a study's journal its tracker has not been sent.

    Args:
        folder: The study's folder.
        store: Which store; empty is the one that was told last.

    Raises:
        StudyStateError: If the journal cannot be read.
    """
    lines = read(folder)
    mark = Mark(folder, lines.last, store)
    return sum(event.number > mark.sent for event in lines.events)


def send_owed(
    folder: Path, sink: Sink, *, storage: Storage | None = None, patience_s: float = PATIENCE_S
) -> Sent:
    """Send what a study's journal still owes its tracker; the caller holds the study's lock.

    A study whose driver was killed is closed as stopped, with the trials that ran: nothing is left
    running in the tracker.

    Args:
        folder: The study's folder.
        sink: Where to.
        storage: Where its trials' files are; None is `trials/` in the folder.
        patience_s: Seconds without progress after which the rest is left.

    Raises:
        StudyStateError: If the journal cannot be read or written.
    """
    closed = read(folder).closed
    if closed and not owed(folder, sink.store()):
        return Sent()
    sender = Sender(folder, sink, storage=storage)
    if not closed:
        stopped = {"outcome": str(Outcome.STOPPED), "metrics": {}, "files": [], "weights": []}
        sender.tell(Kind.CLOSE, stopped)
    return sender.finish(patience_s)


class Sender:
    """Keeps the journal of a study, and sends it while the study runs.

    Args:
        folder: The study's folder.
        sink: Where to.
        storage: Where trials left their results; None is `trials/` in the folder.
        attach: Told the number and the run of each trial that is opened.
        pauses_s: First and longest pause before a store is tried again, s.

    Raises:
        StudyStateError: If the journal cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        sink: Sink,
        *,
        storage: Storage | None = None,
        attach: Callable[[int, str], None] | None = None,
        pauses_s: tuple[float, float] = PAUSES_S,
    ) -> None:
        self._journal = Journal(folder)
        before = self._journal.before
        self.outcomes: Mapping[str, str] = before.outcomes
        """What earlier starts have told last of each trial, by digest."""
        for fault in before.faults:
            _logger.warning("tracking: %s", fault)
        self._mark = Mark(folder, before.last, sink.store())
        if self._mark.other_store:
            _logger.warning(
                "tracking: %s was told so far; %s is told everything from the beginning",
                *(self._mark.other_store, sink.store()),
            )
        self._recorder = Recorder(
            sink=sink,
            folder=folder,
            storage=storage or Storage.at(folder / "trials"),
            attach=attach,
        )
        self._pauses_s = pauses_s
        self._queue: SimpleQueue[Event | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._left = self._sent = self._refused = 0
        self._ending, self._given_up = threading.Event(), threading.Event()
        for event in before.events:
            self._hand_over(event)
        # A daemon: a store that does not answer must not keep the process.
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def tell(self, kind: Kind, content: Mapping[str, Any]) -> None:
        """Write an event down; it is sent as soon as the store takes it.

        Raises:
            OSError: If the disk does not take it.
        """
        self._hand_over(self._journal.append(kind, content))

    def finish(self, patience_s: float = PATIENCE_S) -> Sent:
        """Wait for the store while it takes something, leave the rest, and end the thread."""
        self._journal.close()
        self._queue.put(None)
        self._ending.set()
        with self._changed:
            while self._left and self._changed.wait(patience_s):
                pass
            ended = Sent(sent=self._sent, left=self._left, refused=self._refused)
        self._given_up.set()
        if not ended.left:
            self._thread.join()
        return ended

    def _hand_over(self, event: Event) -> None:
        with self._changed:
            self._left += event.number > self._mark.sent
        self._queue.put(event)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            if event.number <= self._mark.sent:
                self._recorder.recall(event)
                continue
            taken = self._send(event)
            if taken is None:
                return
            self._mark.move(event.number)
            with self._changed:
                self._left -= 1
                self._sent += taken
                self._refused += not taken
                self._changed.notify_all()

    def _send(self, event: Event) -> bool | None:
        """Return whether the store took an event; None if the study could wait no longer."""
        pause_s, longest_s = self._pauses_s
        failures = 0
        while not self._given_up.is_set():
            try:
                self._recorder.record(event)
            # The one place that catches everything: no event may stop those behind it for good.
            except Exception as error:
                if isinstance(error, RefusedError) or not isinstance(
                    error, TrackingError | OSError
                ):
                    self._refuse(event, error)
                    return False
                failures += 1
                if failures == 1:
                    _logger.warning(
                        "%s. Nothing waits for it and nothing is lost: %s keeps what it is told",
                        *(error, self._journal.path),
                    )
                if self._ending.wait(pause_s):
                    self._given_up.wait(min(pause_s, _LAST_PAUSE_S))
                pause_s = min(2 * pause_s, longest_s)
            else:
                if failures:
                    _logger.info("tracking: the store takes what it is told again")
                return True
        return None

    def _refuse(self, event: Event, error: Exception) -> None:
        _logger.warning(
            "tracking: event %d of %s (%s) is left out: %s: %s",
            *(event.number, JOURNAL, event.kind, type(error).__name__, error),
        )
