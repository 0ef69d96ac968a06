"""Where a study prints while it runs: plain lines and, on a terminal, one line that moves."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S, _PLAIN_EVERY_S = 1.0, 60.0
"""Seconds between two states of the moving line, and between two lines where nothing moves."""

_CLEAR = "\r\x1b[K"
_COLUMNS = 80


class Screen:
    """Prints lines; above a moving one on a terminal, and plain ones in a pipe, a file or CI.

    `moving` returns the moving line; it is called with its greatest length in characters.
    """

    def __init__(
        self, stream: TextIO | None, *, quiet: bool, moving: Callable[[int], str]
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._moving = moving
        terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self.moves = terminal and not quiet
        """Whether a line moves."""
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self._printed = time.monotonic()

    def open(self) -> None:
        """Begin to show the moving line."""
        if self._quiet or self._ticker is not None:
            return
        # Otherwise a warning would be printed into the moving line.
        for handler in logging.getLogger().handlers if self.moves else ():
            handler.addFilter(self._make_room)
        self._ticker = threading.Thread(target=self._tick, daemon=True, name="progress")
        self._ticker.start()

    def close(self) -> None:
        """Remove the moving line, for good."""
        self._ended.set()
        if self._ticker is None:
            return
        self._ticker.join(timeout=_EVERY_S)
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._make_room)
        if self.moves:
            self._write(_CLEAR)

    def line(self, text: str) -> None:
        """Print one line."""
        self._printed = time.monotonic()
        self._write(f"{_CLEAR}{text}\n" if self.moves else f"{text}\n")
        self.show()

    def _tick(self) -> None:
        while not self._ended.wait(_EVERY_S):
            if self.moves:
                self.show()
            elif time.monotonic() - self._printed > _PLAIN_EVERY_S:
                self.line(self._moving(10 * _COLUMNS))

    def show(self) -> None:
        """Show the moving line as it is now."""
        if self.moves and self._ticker is not None and not self._ended.is_set():
            self._write(_CLEAR + self._moving(self._columns() - 1))

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def _make_room(self, record: logging.LogRecord) -> bool:
        self._write(_CLEAR)
        return True

    def _write(self, text: str) -> None:
        with self._lock:
            if self._quiet:
                return
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                self._quiet = True  # the reader is gone, or the disk of the log is full
