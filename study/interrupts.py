"""What asks a process to end: Ctrl-C; SIGTERM of Slurm, Docker and systemd; a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let each of these signals raise `KeyboardInterrupt` with its name."""

    def interrupt(number: signal.Signals) -> None:
        raise KeyboardInterrupt(number.name)

    with handling(interrupt):
        yield
