"""Why a study should end before it is done: a signal, a deadline, a fault of the machine."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from study.command import handling

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StopSignal:
    """Why a study should end before it is done; empty while it should not."""

    cause: str = ""  # said to the user
    interrupted: bool = False  # whether a signal asks for it
    faulty: bool = False  # whether something of the machine has to be mended first
    at_once: bool = False  # whether to end without waiting for anything


@contextmanager
def catching_signals(stop: StopSignal) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into an orderly stop; a second one ends at once."""

    def handle(number: signal.Signals) -> None:
        if stop.interrupted:
            stop.at_once = True
            raise KeyboardInterrupt(number.name)
        stop.cause, stop.interrupted = stop.cause or f"{number.name} received", True
        with suppress(OSError):  # the terminal may be gone
            _logger.warning(
                "%s: stopping; what is done is kept. Once more ends at once.", number.name
            )

    with handling(handle):
        yield
