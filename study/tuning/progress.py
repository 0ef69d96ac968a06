"""Shows a running study: a line for each event and, on a terminal, a line that moves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from study.keys import UNRANKED, Outcome
from study.statistics.findings import metric_name
from study.store.trials import Proposal
from study.tuning.screen import Screen
from study.wording import clock, plural, score_text, short_names


@dataclass(slots=True)
class _Running:
    """A trial that runs. Times are from `time.monotonic()`."""

    number: int
    digest: str
    label: str  # its arm and parameters
    epochs: int  # its budget
    epoch: int  # the last epoch that was reported
    since: float  # when the present epoch began


class Progress:
    """Prints events to stderr, and keeps what the moving line shows.

    Args:
        total: Trials of the study.
        done: Trials that earlier starts have settled.
        objective: Name of the score.
        epochs: Epochs of all trials that have not settled yet.
        epoch_s: Estimated seconds of an epoch, until one was timed; NaN if unknown.
        slots: Trials at once.
        arms: Names of all arms, to leave out the parts that all have.
        place: Returns where the trial of a digest is, such as `epoch 2/6 fold 3/5`, if known.
        quiet: Show nothing.
        stream: Where to print; stderr by default.
    """

    def __init__(
        self,
        *,
        total: int,
        done: int = 0,
        objective: str,
        epochs: int = 0,
        epoch_s: float = math.nan,
        slots: int = 1,
        arms: Iterable[str] = (),
        place: Callable[[str], str] = lambda digest: "",
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self._screen = Screen(stream, quiet=quiet, moving=self.moving)
        self._total, self._done = total, done
        self._objective = objective
        self._best = self._best_screened = math.nan
        self._epochs_left, self._epoch_s = epochs, epoch_s
        self._epochs_timed, self._busy_s = 0, 0.0
        self._slots = slots
        self._names = short_names(arms)
        self._place = place
        self._phase, self._stopping = "", False
        self._running: dict[int, _Running] = {}

    def open(self) -> None:
        """Begin: a moving line every second on a terminal, else a plain line every minute."""
        self._screen.open()

    def close(self) -> None:
        """Remove the moving line."""
        self._screen.close()

    def line(self, text: str) -> None:
        """Print one line."""
        self._screen.line(text)

    def phase(self, text: str) -> None:
        """Say what is done while no trial runs: in the moving line, or in one of its own."""
        self._phase = text
        if self._screen.moves:
            self._screen.show()
        else:
            self.line(text)

    def known(self, outcome: Outcome, value: float) -> None:
        """Note a settled trial's score, so that the best score covers all starts."""
        if outcome is Outcome.COMPLETE and math.isfinite(value) and not value <= self._best:
            self._best = value
        screened = outcome is Outcome.SCREENED and math.isfinite(value)
        if screened and not value <= self._best_screened:
            self._best_screened = value

    def started(self, number: int, proposal: Proposal) -> None:
        """Announce that a trial runs."""
        # In a comparison the arm is a parameter too.
        params = {key: v for key, v in proposal.params.items() if v != proposal.arm}
        arm = self._names.get(proposal.arm, proposal.arm)
        differing = [f"{key}={_short(v)}" for key, v in params.items() if str(v) not in arm]
        label = " ".join([arm, *differing])
        self._running[number] = _Running(
            number=number,
            digest=proposal.digest,
            label=label,
            epochs=proposal.config.train.epochs,
            epoch=0,
            since=time.monotonic(),
        )
        self._slots = max(self._slots, len(self._running))
        begun = f"trial {number:>3} started"
        if proposal.follows is not None:
            begun = f"trial {proposal.follows:>3} goes on as {number} (attempt {proposal.attempt})"
        if not self._screen.moves or proposal.follows is not None:
            self.line(f"{begun}  {label}")

    def trained(self, number: int, epoch: int, new_epochs: int, busy_s: float) -> None:
        """Record that a running trial has reported an epoch.

        Args:
            number: Of the trial.
            epoch: The epoch that it has reported.
            new_epochs: Epochs that it had not reported before; 0 where a retry repeats one.
            busy_s: Seconds that its last epoch took to train and score.
        """
        self._epochs_left -= new_epochs
        self._epochs_timed += 1
        self._busy_s += busy_s
        if number in self._running:
            self._running[number].epoch = epoch
            self._running[number].since = time.monotonic()

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
        self._epochs_left -= untrained
        self.known(outcome, value)
        running = self._running.pop(number, None)
        score = "no score"
        if math.isfinite(value) and self._objective != UNRANKED:
            score = f"{metric_name(self._objective)} {score_text(value)}"
        text = (
            f"trial {number:>3} {outcome:<8} {score}  {plural(epochs, 'epoch')}, {seconds:.0f} s"
        )
        if running:
            text += f"  {running.label}"
        if not self._screen.moves:
            text += f"  [{', '.join(self._state(duration(self.seconds_left())))}]"
        self.line(f"{text}  {cause.splitlines()[0]}" if cause else text)

    def stopped(self, number: int) -> None:
        """Forget a running trial that was stopped."""
        self._running.pop(number, None)
        self._stopping, self._phase = True, "stopping: Ray ends, what is done is kept"

    def moving(self, width: int) -> str:
        """Return the line that moves, in at most `width` characters."""
        done, *others = self._state(clock(self.seconds_left()))
        if self._stopping:
            others.pop()  # nothing runs in the time left
        now = [self._now(trial) for trial in list(self._running.values())]
        for shown in range(len(now), -1, -1):
            more = [f"{len(now) - shown} more run"] if shown < len(now) else []
            text = " | ".join([done, *(now[:shown] or [self._phase] * (not now)), *more, *others])
            if len(text) <= width:
                break
        return text[:width]

    def _now(self, trial: _Running) -> str:
        """Return where a running trial is."""
        epoch = f"epoch {min(trial.epoch + 1, trial.epochs)}/{trial.epochs}"
        return f"{trial.number}: {self._place(trial.digest) or epoch}"

    def _state(self, left: str) -> list[str]:
        """Return how many trials are done, the best scores so far and the time left."""
        state = [f"{self._done}/{self._total}"]
        scores = {"best": self._best, "best screened": self._best_screened}
        known = [f"{name} {score_text(v)}" for name, v in scores.items() if math.isfinite(v)]
        if self._objective != UNRANKED:
            state += known or ["no score yet"]
        return [*state, f"{left} left"]

    def seconds_left(self) -> float:
        """Return the time for the remaining epochs, run in parallel at the rate so far.

        Only training and scoring count: a worker's start is slow on a busy machine, but happens
        once. NaN where no epoch was timed or estimated.
        """
        per_epoch = self._busy_s / self._epochs_timed if self._epochs_timed else self._epoch_s
        if self._epochs_left <= 0 or math.isnan(per_epoch):
            return math.nan if self._epochs_left > 0 else 0.0
        now = time.monotonic()
        # Seconds of the present epochs so far: the time left runs down between reports.
        taken = [now - trial.since for trial in list(self._running.values())]
        per_epoch = max([per_epoch, *taken])
        return max(0.0, per_epoch * self._epochs_left - sum(taken)) / self._slots


def duration(seconds: float) -> str:
    """Format a time span: 42 s, 12 min, 3.4 h; ? where it is unknown."""
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
