"""What asks a process to end: Ctrl-C; SIGTERM of Slurm, Docker and systemd; a closed terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES = {number.name for number in SIGNALS}

_AGAIN_S = 0.05
"""Seconds after which a signal that was dropped is sent again."""


@contextmanager
def handling(handler: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Let a function handle these signals for the time of a block, in the main thread.

    What the caller has ignored stays so: `nohup` must outlive its terminal.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        handler(signal.Signals(number))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    unraisable = sys.unraisablehook

    def again(raised: sys.UnraisableHookArgs) -> None:
        # Python drops what is raised while it frees an object: the signal would be lost.
        if raised.exc_type is KeyboardInterrupt and str(raised.exc_value) in _NAMES:
            number = signal.Signals[str(raised.exc_value)]
            sending = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
            sending.daemon = True
            sending.start()
        else:
            unraisable(raised)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let each of these signals raise `KeyboardInterrupt` with its name."""

    def interrupt(number: signal.Signals) -> None:
        raise KeyboardInterrupt(number.name)

    with handling(interrupt):
        yield
