"""Tells a study's journal what its tracker is to know: parameters, epochs, outcomes, floors.

Everything is written down as plain values, with files by their names in the study's folder, so
that it can be sent without the driver that told it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.keys import Outcome, Tag
from study.models import rules
from study.store.floors import SETTINGS
from study.store.journal import Kind
from study.store.study_floors import StudyFloor
from study.store.trials import OBJECTIVE, Proposal, TrialRow

BEST_WEIGHTS = 3
"""Trials whose weights are recorded; those of all trials stay in the study's storage."""


class Teller:
    """Puts a study's events into words; nothing here waits for the tracker.

    Args:
        tell: Takes an event's kind and content; None where nothing is tracked.
        folder: The study's folder, which all files are in.
    """

    def __init__(
        self, tell: Callable[[Kind, Mapping[str, Any]], object] | None, folder: Path
    ) -> None:
        self._tell = tell or (lambda kind, content: None)
        self._folder = folder

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        files: Sequence[Path],
    ) -> None:
        """Tell of a start of the driver.

        Args:
            name: Name of the study.
            params: What it does.
            tags: Tags of every run.
            files: Its plan and space.
        """
        content = {"name": name, "params": dict(params), "tags": dict(tags)}
        self._tell(Kind.STUDY, {**content, "files": self._names(files)})

    def open_trial(self, number: int, proposal: Proposal) -> None:
        """Tell that a configuration is being trained, for the first time or again."""
        signal, model = proposal.config.signal, proposal.config.model
        content = {
            "digest": proposal.digest,
            "number": number,
            "params": rules.active_parameters(proposal.config),
            "config": proposal.config.flat(),
            "tags": {
                Tag.ARM: proposal.arm,
                Tag.INPUT: signal.input,
                Tag.FUSION: model.fusion,
                Tag.ATTEMPT: str(proposal.attempt),
            },
        }
        self._tell(Kind.TRIAL, content)

    def log_epoch(self, digest: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Tell of an epoch."""
        content = {"digest": digest, "epoch": epoch, "metrics": _plain(metrics)}
        self._tell(Kind.EPOCH, content)

    def close_trial(
        self,
        digest: str,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        details: str = "",
    ) -> None:
        """Tell how a trial ended; the details are a failure's traceback."""
        content = {"digest": digest, "outcome": str(outcome), "cause": cause}
        self._tell(Kind.END, {**content, "metrics": _plain(metrics), "details": details})

    def catch_up(
        self, settled: Sequence[tuple[TrialRow, Proposal]], told: Mapping[str, str]
    ) -> int:
        """Tell of settled trials that were never told of, as by a start with `--no-track`.

        Their outcomes, final metrics and files are recorded; epochs before the last are not known
        any more.

        Args:
            settled: All settled trials.
            told: The outcome that was told last, by digest.

        Returns:
            How many there were.
        """
        missing = [pair for pair in settled if told.get(pair[0].digest) != pair[0].outcome]
        for row, proposal in missing:
            self.open_trial(row.number, proposal)
            metrics = {name: value for name, value in row.metrics.items() if name != OBJECTIVE}
            if row.epochs and metrics:
                # An earlier attempt may have told epochs: final metrics would stand at its last.
                self.log_epoch(row.digest, row.epochs, metrics)
            self.close_trial(row.digest, row.outcome, row.cause, metrics)
        return len(missing)

    def call_back(self, owed: Sequence[tuple[int, Proposal, str]], told: Mapping[str, str]) -> int:
        """Tell of owed trials whose end was told: their results are lost, or its driver died then.

        Args:
            owed: Number and proposal of the last attempts that are owed, and why they are.
            told: The outcome that was told last, by digest.

        Returns:
            How many there were.
        """
        ended = [one for one in owed if told.get(one[1].digest) not in (None, Outcome.STOPPED)]
        for number, proposal, cause in ended:
            self.open_trial(number, proposal)
            self.close_trial(proposal.digest, Outcome.STOPPED, f"owed again: {cause}", {})
        return len(ended)

    def add_floors(self, floors: Sequence[StudyFloor]) -> None:
        """Tell of the study's floors, each a run of its own."""
        for floor in floors:
            if not floor.missing:
                content = {
                    "digest": floor.digest,
                    "name": floor.label,
                    "params": {"floor": floor.name, **SETTINGS},
                    "metrics": _plain(floor.metrics),
                    "files": self._names(floor.files),
                }
                self._tell(Kind.FLOOR, content)

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        rows: Sequence[TrialRow],
        objective: str,
        files: Sequence[Path],
    ) -> None:
        """Tell how a start of the driver ended, and which trials are best."""
        ranked = sorted(
            (row for row in rows if row.ranks(objective)),
            key=lambda row: -row.metric(objective),
        )
        content = {
            "outcome": outcome,
            "metrics": _plain(metrics),
            "files": self._names(files),
            "weights": [[row.number, row.digest] for row in ranked[:BEST_WEIGHTS]],
        }
        self._tell(Kind.CLOSE, content)

    def _names(self, files: Sequence[Path]) -> list[str]:
        return [file.relative_to(self._folder).as_posix() for file in files]


def _plain(metrics: Mapping[str, float]) -> dict[str, float]:
    # NumPy's single precision is no number to JSON.
    return {name: float(value) for name, value in metrics.items()}
