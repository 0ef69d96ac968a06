"""How every command runs: exit codes, one line for an error, interrupts by signals."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from study.errors import DiskError, StudyError

DONE, REFUSED, INTERRUPTED, CLOSED_PIPE = 0, 2, 130, 141

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end: Ctrl-C; Slurm, Docker and systemd; a closed terminal."""
_NAMES = {number.name for number in SIGNALS}

_AGAIN_S = 0.05
"""Seconds after which a signal that was dropped is sent again."""


def carry_out(work: Callable[[], int], *, kept: Callable[[], str], verbose: bool = False) -> int:
    """Run a command and return its exit code; an error is printed as one line.

    Args:
        work: The command.
        kept: Returns a text on what is kept when the command ends early, and how to go on.
        verbose: Show where an error came from.
    """
    try:
        with interrupting():
            code = work()
            # An error of this flush is handled below; the interpreter's own flush comes too late.
            sys.stdout.flush()
            return code
    except (StudyError, OSError) as error:
        if _unread(error):
            # The reader has gone, as `head` does; the interpreter would complain when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CLOSED_PIPE
        if verbose:
            traceback.print_exc()
        _say(f"error: {_text(error, kept)}")
        return REFUSED
    except KeyboardInterrupt as interrupt:
        by = f" by {interrupt}" if str(interrupt) else ""
        _say(f"interrupted{by}; {kept()}")
        return INTERRUPTED


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    Python would search the objects of PyTorch, Ray and MLflow for cycles, which takes a second
    and more; they are left to the system instead.
    """
    gc.freeze()
    sys.exit(code)


def _unread(error: Exception) -> bool:
    """Say whether an error means that nobody reads the pipe or terminal any more."""
    if isinstance(error, StudyError):
        return False
    assert isinstance(error, OSError)
    terminal_gone = error.errno == errno.EIO and error.filename is None
    return isinstance(error, BrokenPipeError) or terminal_gone


def _text(error: Exception, kept: Callable[[], str]) -> str:
    if isinstance(error, DiskError):
        return f"{error}; mend this; {kept()}"
    if isinstance(error, StudyError):
        return str(error)
    assert isinstance(error, OSError)
    return f"{error.filename or 'a file'}: {error.strerror or error}; mend this; {kept()}"


def _say(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
