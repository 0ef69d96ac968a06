"""How every command runs: exit codes, one line for an error, interrupts by signals."""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from study.errors import DiskError, StudyError

DONE, REFUSED, INTERRUPTED, CLOSED_PIPE = 0, 2, 130, 141

PROGRAM = "ecg-fusion"
"""The command whose subcommands are all others (`study.__main__`)."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end: Ctrl-C; Slurm, Docker and systemd; a closed terminal."""
_NAMES = {number.name for number in SIGNALS}

_ASCII = {"±": "+-", "…": "...", "²": "^2", "×": "x", "µ": "u"}
"""ASCII replacements of characters in tables, for terminals and files that only take ASCII."""

_AGAIN_S = 0.05
"""Seconds after which a dropped signal is sent again."""

_SELDOM_S = 5.0
"""Seconds between two lines of progress."""


def as_called(text: str) -> str:
    """Return a text whose commands begin as the user began this one.

    In the code each command is `python -m study.X`; a user of `ecg-fusion` reads `ecg-fusion X`.
    """
    if Path(sys.argv[0]).stem != PROGRAM:
        return text
    return re.sub(
        r"python -m study\.(\w+)", lambda name: f"{PROGRAM} {name[1].replace('_', '-')}", text
    )


def carry_out(
    work: Callable[[], int],
    *,
    kept: Callable[[], str],
    readable: Callable[[], str] = lambda: "run it again with another output",
    verbose: bool = False,
) -> int:
    """Run a command and return its exit code; an error is printed as one line.

    Args:
        work: The command.
        kept: Returns a text on what is kept when the command ends early, and how to go on.
        readable: Returns a text on where to read what standard output did not take.
        verbose: Show an error's traceback.
    """
    _prepare_streams()
    try:
        with interrupting():
            code = work()
            # An error in this flush is handled below; the interpreter's own flush is too late.
            sys.stdout.flush()
            return code
    except (StudyError, OSError) as error:
        if _unread(error):
            # The reader has ended, as `head` does.
            _discard(sys.stdout)
            return CLOSED_PIPE
        if verbose:
            traceback.print_exc()
        # `_full` has to write to standard output: only ask it where the error names no file.
        unnamed = not isinstance(error, StudyError) and error.filename is None
        if unnamed and isinstance(error, OSError) and _full(sys.stdout):
            _say(f"error: standard output: {error.strerror or error}; {readable()}")
        else:
            _say(f"error: {_text(error, kept)}")
        return REFUSED
    except KeyboardInterrupt as interrupt:
        by = f" by {interrupt}" if str(interrupt) else ""
        _say(f"interrupted{by}; {kept()}")
        return INTERRUPTED


def one_thread() -> None:
    """Let PyTorch and NumPy, imported after this, compute in one thread, as trials do.

    On a busy machine OpenMP's threads wait for each other: a page took five times as long with
    two. Variables that the user has set stay.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def seldom(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that passes on a line of progress if the last one is seconds ago."""
    said = time.monotonic()

    def pass_on(line: str) -> None:
        nonlocal said
        if time.monotonic() - said > _SELDOM_S:
            say(line)
            said = time.monotonic()

    return pass_on


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    Python would search the objects of PyTorch, Ray and MLflow for cycles, which takes a second and
    more; the system frees them instead.
    """
    gc.freeze()
    sys.exit(code)


def _unread(error: Exception) -> bool:
    """Say whether an error means that the pipe's or terminal's reader is gone."""
    if isinstance(error, StudyError):
        return False
    assert isinstance(error, OSError)
    terminal_gone = error.errno == errno.EIO and error.filename is None
    return isinstance(error, BrokenPipeError) or terminal_gone


def _prepare_streams() -> None:
    """Make every text printable: a command must not fail at its last table."""
    if sys.stdout is None:  # closed, as by `>&-`
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="study.ascii")


def _as_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in characters), error.end


codecs.register_error("study.ascii", _as_ascii)


def _full(stream: TextIO) -> bool:
    """Say whether a stream rejects output; drop the unwritten output."""
    try:
        print(file=stream, flush=True)
    except OSError:
        _discard(stream)
        return True
    return False


def _discard(stream: TextIO) -> None:
    """Drop what a stream has not taken; the interpreter would complain when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _text(error: Exception, kept: Callable[[], str]) -> str:
    if isinstance(error, DiskError):
        return f"{error}; mend this; {kept()}"
    if isinstance(error, StudyError):
        return str(error)
    assert isinstance(error, OSError)
    return f"{error.filename or 'a file'}: {error.strerror or error}; mend this; {kept()}"


def _say(text: str) -> None:
    try:
        print(as_called(text), file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone
        _discard(sys.stderr)


@contextmanager
def handling(handler: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Let a function handle these signals during a block, in the main thread.

    Signals that the caller ignored stay ignored: `nohup` must outlive its terminal.
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
        # Python drops an exception raised while it frees an object: the signal would be lost.
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
