"""What a study tells its tracker: the `Sink` protocol, and a sink that keeps nothing.

A sink gets plain values only (names, numbers, paths) and decides nothing: outcomes and causes
come from the one who decided them. Every call may raise `TrackingError`, where the store cannot be
used, or `RefusedError`, where it does not take this; a call may be made again, and what was
recorded already is then left as it is. `at_s` is when it happened, in seconds since 1970; None is
now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from study.keys import Outcome


class Sink(Protocol):
    """Receives a study: one parent run, one nested run per configuration digest."""

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> str:
        """Open or reopen the parent run of a study and return its id."""

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        at_s: float | None = None,
    ) -> str:
        """Open or reopen the run of a configuration under the parent and return its id."""

    def log_epoch(
        self, run_id: str, epoch: int, metrics: Mapping[str, float], *, at_s: float | None = None
    ) -> None:
        """Record one epoch's metrics in one write; an epoch already recorded is left as it is."""

    def close_trial(
        self,
        run_id: str,
        *,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record how a trial ended, its final metrics and its files.

        The files may be deleted as soon as this returns.
        """

    def add_floor(
        self,
        digest: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record a floor under the open study; one that is recorded already is left as it is."""

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Record how the study ended; no run of it stays open.

        Metrics get a step of their own at every ending: a resumed study has new ones. One that
        ended at the same time is the same.
        """

    def where(self) -> str:
        """Return one line for the user: where to look at what was recorded."""

    def store(self) -> str:
        """Which store this is, without credentials: what one was told another was not."""


class NullSink:
    """Keeps nothing: for `--no-track` and for tests."""

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> str:
        """Return an empty run id."""
        return ""

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        at_s: float | None = None,
    ) -> str:
        """Return an empty run id."""
        return ""

    def log_epoch(
        self, run_id: str, epoch: int, metrics: Mapping[str, float], *, at_s: float | None = None
    ) -> None:
        """Do nothing."""

    def close_trial(
        self,
        run_id: str,
        *,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Do nothing."""

    def add_floor(
        self,
        digest: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Do nothing."""

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Do nothing."""

    def where(self) -> str:
        """Say that nothing is recorded."""
        return "tracking: off"

    def store(self) -> str:
        """No store."""
        return ""
