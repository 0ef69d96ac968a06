"""Keeps MLflow equal to a study, from its own thread: no trial ever waits for it.

The study is the truth and has everything that MLflow shows. The mirror keeps the set of runs that
changed: it compares each with MLflow, and logs what MLflow lacks. While a store is away the set
stays, and the mirror tries again after longer and longer pauses. Every start begins with all runs
of the study, so that a store that was away, or a new store, gets what it lacks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from study.errors import RefusedError, StudyError, StudyStateError, TrackingError
from study.store.scratch import scratch
from study.store.study import Study
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import StudyRuns
from study.tracking.run_facts import STUDY, TRIAL, Key, RunFacts, ShownStudy
from study.tracking.run_files import gather_files

_logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""Seconds without progress after which an ending study leaves other runs to its next start."""

PAUSES_S = (1.0, 30.0)
"""First and longest pause before a store is tried again."""

_LAST_PAUSE_S = 2.0
"""The longest pause once a study waits only for the mirror."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """How many runs a mirror sent, and how many it could not send."""

    sent: int = 0  # runs of which MLflow got something new
    left: int = 0  # runs that may still be incomplete or missing in MLflow
    refused: int = 0  # runs that the store refused


class Mirror:
    """Brings MLflow up to date with a study until `finish` is called.

    Args:
        experiment: Where the study's runs are.
        read: Returns the study as it is now; called from the mirror's thread.
        suspects: As in `StudyRuns`.
        pauses_s: First and longest pause before a store is tried again, s.
    """

    def __init__(
        self,
        experiment: Experiment,
        read: Callable[[], Study],
        *,
        suspects: Iterable[Key] = (),
        pauses_s: tuple[float, float] = PAUSES_S,
    ) -> None:
        self._read = read
        self._runs = StudyRuns(experiment, suspects)
        self._pauses_s = pauses_s
        self._progress = threading.Condition()
        self._shown, self._outdated = ShownStudy(read()), False
        # An ordered set: a dict without values.
        self._due: dict[Key, None] = dict.fromkeys(self._shown.keys())
        self._taken: Key | None = None
        self._progress_at = 0.0
        self._written, self._refused = set[Key](), set[Key]()
        self._ending, self._given_up = threading.Event(), threading.Event()
        # A daemon: a store that does not answer must not keep the process.
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def trial_changed(self, digest: str) -> None:
        """Note that a trial changed; MLflow gets it as soon as the store takes it."""
        self._add([(TRIAL, digest)])

    def finish(self, patience_s: float = PATIENCE_S) -> Mirrored:
        """Wait while the store takes runs, leave the others, and end the thread.

        The floors and the study's own run, which no event announces, are compared now.
        """
        self._add(key for key in ShownStudy(self._read()).keys() if key[0] != TRIAL)
        self._ending.set()
        with self._progress:
            self._progress.notify_all()
            self._progress_at = time.monotonic()
            while self._left and (wait_s := self._progress_at + patience_s - time.monotonic()) > 0:
                self._progress.wait(wait_s)
            ended = Mirrored(sent=len(self._written), left=self._left, refused=len(self._refused))
        self._given_up.set()
        if not ended.left:
            self._thread.join()
        return ended

    @property
    def _left(self) -> int:
        return len(self._due.keys() | ({self._taken} if self._taken else set()))

    def _add(self, keys: Iterable[Key]) -> None:
        with self._progress:
            self._due |= dict.fromkeys(keys)
            self._outdated = True
            self._progress.notify_all()

    def _next(self) -> Key | None:
        """Wait for a run that changed, the study's own last; None when there is no more."""
        with self._progress:
            while not self._due:
                if self._ending.is_set():
                    return None
                self._progress.wait()
            self._taken = min(self._due, key=lambda key: key[0] == STUDY)
            del self._due[self._taken]
            return self._taken

    def _run(self) -> None:
        pause_s, failures = self._pauses_s[0], 0
        while not self._given_up.is_set() and (key := self._next()) is not None:
            try:
                wrote = self._sync(key)
            # Catches every error here: one run must never stop the others.
            except Exception as error:
                if _may_pass(error):
                    self._add([key])
                    failures += 1
                    if failures == 1 and not self._given_up.is_set():
                        _logger.warning(
                            "%s. Nothing waits for it and nothing is lost: MLflow gets what it "
                            "lacks as soon as the store answers",
                            error.args[0] if isinstance(error, StudyError) else error,
                        )
                    if self._ending.wait(pause_s):
                        self._given_up.wait(min(pause_s, _LAST_PAUSE_S))
                    pause_s = min(2 * pause_s, self._pauses_s[1])
                    continue
                self._refuse(key, error)
                wrote = False
            if failures:
                _logger.info("tracking: the store takes what it is sent again")
            pause_s, failures = self._pauses_s[0], 0
            with self._progress:
                self._written |= {key} if wrote else set()
                self._taken, self._progress_at = None, time.monotonic()
                self._progress.notify_all()

    def _sync(self, key: Key) -> bool:
        """Log what MLflow lacks of a run; return whether it lacked anything."""
        with self._progress:
            outdated, self._outdated = self._outdated, False
        if outdated:
            # Read once for all runs that are due; a later change makes it outdated again.
            self._shown = ShownStudy(self._read())
        shown = self._shown
        if not self._runs.open:
            study = shown.study_run()
            if self._runs.open_study(study):
                # A store that has nothing of the study lacks all of it.
                self._add(shown.keys())
            if not study.outcome:
                self._write(shown, study)
        facts = shown.run(*key)
        if facts is None or self._runs.has(facts):
            return False
        if facts.kind == STUDY and facts.outcome:
            self._runs.close_abandoned(shown.keys())
        self._write(shown, facts)
        return True

    def _write(self, shown: ShownStudy, facts: RunFacts) -> None:
        with scratch() as temporary:
            folder = temporary / "files"
            folder.mkdir()
            gather_files(shown, facts, folder)
            self._runs.write(facts, folder)

    def _refuse(self, key: Key, error: Exception) -> None:
        with self._progress:
            self._refused.add(key)
        _logger.warning(
            "tracking: the run of %s is left out: %s: %s",
            " ".join(filter(None, key)),
            type(error).__name__,
            error,
        )


def _may_pass(error: Exception) -> bool:
    """Whether a later try may succeed: the store or a disk may be away for a time."""
    if isinstance(error, RefusedError):
        return False
    return isinstance(error, TrackingError | StudyStateError | OSError)
