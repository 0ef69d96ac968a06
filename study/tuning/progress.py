"""What a study says while it runs: a line per trial event, and a live bar on a terminal."""

from __future__ import annotations

import math
import sys
from typing import TextIO

from tqdm import tqdm

from study.keys import UNRANKED, Outcome
from study.store.trials import Proposal
from study.wording import plural, score_text


class Progress:
    """Prints events to stderr; in a pipe or CI plain lines, on a terminal above a bar.

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
            # Without tqdm's own estimate, which counts the start of the workers as training.
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
            self._quiet = True  # nobody reads any more, or the disk of the log is full

    def known(self, value: float) -> None:
        """Take note of a finished trial's score, so that the best is over all starts."""
        if math.isfinite(value) and not value <= self._best:
            self._best = value

    def started(self, number: int, proposal: Proposal) -> None:
        """Say that a trial runs."""
        self._running += 1
        self._slots = max(self._slots, self._running)
        differing = " ".join(f"{key}={_short(value)}" for key, value in proposal.params.items())
        attempt = f" (attempt {proposal.attempt})" if proposal.attempt > 1 else ""
        self.line(f"trial {number:>3} started  {proposal.arm}  {differing}{attempt}")

    def trained(self, epochs: int, busy_s: float) -> None:
        """Count epochs of a running trial.

        Args:
            epochs: Epochs that it is now further than ever before; 0 for one that a retry repeats.
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
        """Say how a trial ended, the best score so far and the time that is left.

        Args:
            number: Of the trial.
            outcome: How it ended.
            value: Its objective; not finite if it has none.
            epochs: Epochs that it has trained.
            untrained: Epochs of its budget that it has not.
            seconds: Wall time since its start.
            cause: Why it ended early; empty if it did not.
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
        """Return the best score, or what to say without one, and the time left."""
        best = f"best {score_text(self._best)}" if math.isfinite(self._best) else without
        if self._objective == UNRANKED:
            return f"{self.time_left()} left"
        return f"{best}, {self.time_left()} left"

    def time_left(self) -> str:
        """Return the time that the remaining epochs need, side by side, at the rate so far.

        Only training and scoring count: a worker's start, which takes long on a busy machine,
        happens once.
        """
        if not self._epochs_timed:
            return "?" if self._epochs_left > 0 else duration(0)
        per_epoch = self._busy_s / self._epochs_timed / max(1, self._slots)
        return duration(per_epoch * max(0, self._epochs_left))

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
