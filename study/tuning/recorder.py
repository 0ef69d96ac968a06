"""Hands a study's events to its tracker: parameters, epochs, final metrics, pictures, weights."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from study.data.beatset import BeatSet
from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.models import rules
from study.reporting.figures import draw_trial
from study.reporting.tables import TrialRow
from study.tracking.sink import Sink
from study.tuning.floors import SETTINGS
from study.tuning.ledger import OBJECTIVE, RUN_ID, Ledger, Proposal
from study.tuning.plan import StudyPlan
from study.tuning.storage import Storage
from study.tuning.study_floors import StudyFloor
from study.tuning.trial import CHECKPOINT, PER_RECORD, PREDICTIONS, SCORES, WEIGHTS
from study.tuning.trial_files import read_predictions

_logger = logging.getLogger(__name__)

BEST_WEIGHTS = 3
"""Trials whose weights are logged; those of all trials stay in the study's storage."""


class Recorder:
    """Writes a study into a sink; called from one thread, in the order of events.

    Args:
        sink: Where to write.
        plan: The study's plan.
        ledger: Told which run belongs to which trial.
        storage: Where trials left their results.
        beats: Any beat set of the study: labels and records are the same in all.
        tags: Tags of every run.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        plan: StudyPlan,
        ledger: Ledger,
        storage: Storage,
        beats: BeatSet,
        tags: Mapping[str, str],
    ) -> None:
        self._sink = sink
        self._plan = plan
        self._ledger = ledger
        self._storage = storage
        self._beats = beats
        self._tags = dict(tags)
        self._runs: dict[str, str] = {}
        self._configs: dict[str, str] = {}

    def open_study(self, params: Mapping[str, object], artifacts: Sequence[Path]) -> None:
        """Open the parent run."""
        self._sink.open_study(
            self._plan.name,
            params=params,
            tags={**self._tags, Tag.KIND: "study"},
            artifacts=artifacts,
        )

    def open_trial(self, number: int, proposal: Proposal) -> None:
        """Open the nested run of a configuration, or open it again."""
        signal, model = proposal.config.signal, proposal.config.model
        run_id = self._sink.open_trial(
            proposal.digest,
            number=number,
            params=rules.active_parameters(proposal.config),
            tags={
                **self._tags,
                Tag.KIND: "trial",
                Tag.ARM: proposal.arm,
                Tag.INPUT: signal.input,
                Tag.FUSION: model.fusion,
                Tag.ATTEMPT: str(proposal.attempt),
            },
        )
        self._runs[proposal.digest] = run_id
        self._configs[proposal.digest] = json.dumps(proposal.config.flat(), indent=1)
        self._ledger.attach(number, RUN_ID, run_id)

    def log_epoch(self, digest: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record one epoch."""
        self._sink.log_epoch(self._runs[digest], epoch, metrics)

    def close_trial(
        self,
        digest: str,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        details: str = "",
    ) -> None:
        """Record how a trial ended: its files where it finished, the traceback where it failed."""
        if outcome is not Outcome.STOPPED:
            self._storage.folder(digest).delete(CHECKPOINT)
        with tempfile.TemporaryDirectory(prefix="study-") as name:
            configuration = Path(name) / "configuration.json"
            configuration.write_text(self._configs[digest])
            files = [configuration]
            if details:
                files.append(Path(name) / "traceback.txt")
                files[-1].write_text(details)
            if outcome is Outcome.COMPLETE:
                files += self._files(digest, Path(name))
            self._sink.close_trial(
                self._runs[digest], outcome=outcome, cause=cause, metrics=metrics, artifacts=files
            )

    def replay(self, settled: Sequence[tuple[TrialRow, Proposal]]) -> int:
        """Record settled trials that a killed driver did not record; return how many.

        What was reported between the last write and the kill is lost to the tracker; the outcome,
        final metrics and files are not.
        """
        recorded = self._sink.recorded()
        missing = [pair for pair in settled if recorded.get(pair[0].digest) != pair[0].outcome]
        for row, proposal in missing:
            self.open_trial(row.number, proposal)
            metrics = {key: value for key, value in row.metrics.items() if key != OBJECTIVE}
            self.close_trial(row.digest, row.outcome, row.cause, metrics)
        return len(missing)

    def _files(self, digest: str, folder: Path) -> list[Path]:
        stored = self._storage.folder(digest)
        files = []
        for name in (PREDICTIONS, PER_RECORD, SCORES):
            content = stored.read(name)
            if content is None:
                _logger.warning("trial %s left no %s in its storage", digest, name)
                continue
            (folder / name).write_bytes(content)
            files.append(folder / name)
            if name == PREDICTIONS:
                files += self._draw(digest, folder)
        return files

    def _draw(self, digest: str, folder: Path) -> list[Path]:
        label = self._beats.label
        try:
            arrays = read_predictions(self._storage, digest, n_beats=len(label)) or {}
        except StudyStateError as error:
            _logger.warning("a trial without pictures: %s", error)
            return []
        return draw_trial(
            folder,
            label=label,
            record=self._beats.record,
            log_probs=arrays["log_probs"],
            gates=arrays.get("gates"),
            attention=arrays.get("attention"),
        )

    def add_floors(self, floors: Sequence[StudyFloor]) -> None:
        """Record the study's floors, each as a run of its own."""
        for floor in floors:
            if not floor.missing:
                self._sink.add_floor(
                    floor.digest,
                    name=floor.label,
                    params={"floor": floor.name, **SETTINGS},
                    tags={**self._tags, Tag.KIND: "floor"},
                    metrics=floor.metrics,
                    artifacts=floor.files,
                )

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        rows: Sequence[TrialRow],
        files: Sequence[Path],
    ) -> None:
        """Record how the study ended, and the weights of its best trials."""
        ranked = sorted(
            (row for row in rows if row.ranks(self._plan.objective)),
            key=lambda row: -row.metric(self._plan.objective),
        )
        with tempfile.TemporaryDirectory(prefix="study-") as name:
            weights = []
            for row in ranked[:BEST_WEIGHTS]:
                content = self._storage.folder(row.digest).read(WEIGHTS)
                if content is not None:
                    weights.append(Path(name) / f"weights_{row.number:03d}_{row.digest}.pt")
                    weights[-1].write_bytes(content)
            self._sink.close_study(outcome=outcome, metrics=metrics, artifacts=[*files, *weights])
