"""What a study tells its tracker: the `Sink` protocol, and a sink that keeps nothing.

A sink gets plain values only (names, numbers, paths) and decides nothing: outcomes and causes
come from the one who decided them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from study.keys import Outcome


class Sink(Protocol):
    """Receives a study: one parent run, one nested run per configuration digest."""

    failures: int
    """Calls that could not be recorded; a trial goes on without them."""

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
    ) -> str:
        """Open or reopen the parent run of a study and return its id.

        Raises:
            TrackingError: If the store cannot be used at all.
        """

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> str:
        """Open or reopen the run of a configuration under the parent and return its id."""

    def recorded(self) -> Mapping[str, str]:
        """Return the outcome tag of each trial that the open study has in the store, by digest."""

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
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
    ) -> None:
        """Record a floor under the open study; one that is recorded already is left as it is."""

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Record how the study ended; no run of it stays open."""

    def where(self) -> str:
        """Return one line for the user: where to look at what was recorded."""


class NullSink:
    """Keeps nothing: for `--no-track` and for tests."""

    def __init__(self) -> None:
        self.failures = 0

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
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
    ) -> str:
        """Return an empty run id."""
        return ""

    def recorded(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
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
    ) -> None:
        """Do nothing."""

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Do nothing."""

    def where(self) -> str:
        """Say that nothing is recorded."""
        return "tracking: off"
