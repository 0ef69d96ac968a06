"""What a study says while it runs: a line per trial event, and a live bar on a terminal."""

from __future__ import annotations

import errno
import math
import sys
import time
from typing import TextIO

from tqdm import tqdm

from study.keys import Outcome
from study.store.ledger import Proposal


class Progress:
    """Prints events to stderr; in a pipe or CI plain lines, on a terminal above a bar.

    Args:
        total: Trials of the study.
        done: Trials that earlier starts have settled.
        objective: Name of the score.
        epochs: Epochs of all trials, and those that earlier starts have trained, where trials have
            unequal budgets; None takes one trial to be as long as another.
        quiet: Show neither lines nor bar.
        stream: Where to print; stderr by default.
    """

    def __init__(
        self,
        *,
        total: int,
        done: int = 0,
        objective: str,
        epochs: tuple[int, int] | None = None,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._total = total
        self._done = done
        self._objective = objective
        self._best = math.nan
        self._began = time.monotonic()
        self._here = self._epochs_here = 0
        self._epochs = epochs
        live = not quiet and self._stream.isatty()
        self._bar = (
            tqdm(total=total, initial=done, file=self._stream, unit="trial", dynamic_ncols=True)
            if live
            else None
        )

    def line(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        try:
            if self._bar is not None:
                self._bar.write(text, file=self._stream)
            else:
                print(text, file=self._stream, flush=True)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            self._quiet = True  # nobody reads any more: what is done is still written down

    def known(self, value: float) -> None:
        """Take note of a finished trial's score, so that the best is over all starts."""
        if math.isfinite(value) and not value <= self._best:
            self._best = value

    def started(self, number: int, proposal: Proposal, note: str = "") -> None:
        """Say that a trial runs."""
        differing = " ".join(f"{key}={_short(value)}" for key, value in proposal.params.items())
        attempt = f" (attempt {proposal.attempt})" if proposal.attempt > 1 else ""
        self.line(f"trial {number:>3} started  {proposal.arm}  {differing}{attempt}{note}")

    def ended(
        self,
        number: int,
        outcome: Outcome,
        *,
        value: float,
        epochs: int,
        seconds: float,
        cause: str,
    ) -> None:
        """Say how a trial ended, the best score so far and the time that is left."""
        self._done += 1
        self._here += 1
        self._epochs_here += epochs
        if outcome is Outcome.COMPLETE:
            self.known(value)
        score = f"{self._objective} {value:.4f}" if math.isfinite(value) else "no score"
        why = f"  {cause.splitlines()[0]}" if cause else ""
        none = "none in full yet" if outcome is Outcome.SCREENED else "no score yet"
        best = f"best {self._best:.4f}" if math.isfinite(self._best) else none
        plural = "" if epochs == 1 else "s"
        self.line(
            f"trial {number:>3} {outcome:<8} {score}  {epochs} epoch{plural}, {seconds:.0f} s"
            f"  [{self._done}/{self._total}, {best}, {self.eta()} left]{why}"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(best)
            self._bar.update(1)

    def eta(self) -> str:
        """Return the time that the remaining trials need at this start's rate so far."""
        seconds = time.monotonic() - self._began
        if self._epochs is not None and self._epochs_here:
            total, before = self._epochs
            return duration(
                seconds / self._epochs_here * max(0, total - before - self._epochs_here)
            )
        if not self._here:
            return "?"
        return duration(seconds / self._here * (self._total - self._done))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Write a time span for people: 42 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
