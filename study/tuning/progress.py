"""Progress of a running study: a line for each trial event, and a live bar on a terminal."""

from __future__ import annotations

import math
import sys
from typing import TextIO

from tqdm import tqdm

from study.keys import UNRANKED, Outcome
from study.store.trials import Proposal
from study.wording import plural, score_text


class Progress:
    """Prints events to stderr: plain lines in a pipe or CI, above a bar on a terminal.

    Args:
        total: Trials of the study.
        done: Trials that earlier starts have settled.
        objective: Name of the score.
        epochs: Epochs of all trials that have not settled yet.
        quiet: Show neither lines nor bar.
        stream: Where to print; stderr by default.
    """

    def __init__(
        self,
        *,
        total: int,
        done: int = 0,
        objective: str,
        epochs: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._total = total
        self._done = done
        self._objective = objective
        self._best = math.nan
        self._epochs_left = epochs
        self._epochs_timed, self._busy_s = 0, 0.0
        self._running = self._slots = 0
        self._bar: tqdm | None = None
        if not quiet and self._stream.isatty():
            # tqdm's own estimate is left out: it counts the workers' start as training.
            self._bar = tqdm(
                total=total,
                initial=done,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
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
        except OSError:
            self._quiet = True  # the reader is gone, or the disk of the log is full

    def known(self, value: float) -> None:
        """Note a finished trial's score, so that the best score covers all starts."""
        if math.isfinite(value) and not value <= self._best:
            self._best = value

    def started(self, number: int, proposal: Proposal) -> None:
        """Announce that a trial runs."""
        self._running += 1
        self._slots = max(self._slots, self._running)
        # In a comparison the arm is a parameter too.
        params = {key: v for key, v in proposal.params.items() if v != proposal.arm}
        differing = " ".join(f"{key}={_short(value)}" for key, value in params.items())
        begun = f"trial {number:>3} started"
        if proposal.follows is not None:
            begun = f"trial {proposal.follows:>3} goes on as {number} (attempt {proposal.attempt})"
        self.line(f"{begun}  {proposal.arm}  {differing}")

    def trained(self, epochs: int, busy_s: float) -> None:
        """Count epochs of a running trial.

        Args:
            epochs: Epochs beyond the furthest that it had reached; 0 for an epoch that a retry
                repeats.
            busy_s: Seconds that its last epoch took to train and score.
        """
        self._epochs_left -= epochs
        self._epochs_timed += 1
        self._busy_s += busy_s
        if self._bar is not None:
            self._bar.set_postfix_str(self._state("no score yet"))

    def ended(
        self,
        number: int,
        outcome: Outcome,
        *,
        value: float,
        epochs: int,
        untrained: int = 0,
        seconds: float,
        cause: str,
    ) -> None:
        """Print how a trial ended, the best score so far and the time left.

        Args:
            number: Of the trial.
            outcome: How it ended.
            value: Its objective; not finite if it has none.
            epochs: Epochs that it has trained.
            untrained: Epochs of its budget that it has not trained.
            seconds: Wall time since its start.
            cause: Why it ended early, or an empty string.
        """
        self._done += 1
        self._running = max(0, self._running - 1)
        self._epochs_left -= untrained
        if outcome is Outcome.COMPLETE:
            self.known(value)
        score = f"{self._objective} {score_text(value)}" if math.isfinite(value) else "no score"
        reason = f"  {cause.splitlines()[0]}" if cause else ""
        state = self._state("none in full yet" if outcome is Outcome.SCREENED else "no score yet")
        self.line(
            f"trial {number:>3} {outcome:<8} {score}  {plural(epochs, 'epoch')}, {seconds:.0f} s"
            f"  [{self._done}/{self._total}, {state}]{reason}"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(state)
            self._bar.update(1)

    def _state(self, without: str) -> str:
        """Return the best score (or a remark that there is none) and the time left."""
        best = f"best {score_text(self._best)}" if math.isfinite(self._best) else without
        if self._objective == UNRANKED:
            return f"{self.time_left()} left"
        return f"{best}, {self.time_left()} left"

    def time_left(self) -> str:
        """Return the time for the remaining epochs, run in parallel at the rate so far.

        Only training and scoring count: a worker's start is slow on a busy machine, but happens
        once.
        """
        if not self._epochs_timed:
            return "?" if self._epochs_left > 0 else duration(0)
        per_epoch = self._busy_s / self._epochs_timed / max(1, self._slots)
        return duration(per_epoch * max(0, self._epochs_left))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Format a time span: 42 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
