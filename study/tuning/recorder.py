"""Records a study's journal in its tracker: parameters, epochs, final metrics, pictures, weights.

It needs the study's folder and no more, so that what one driver told another process can send.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.store.beats_file import read_beats
from study.store.folder import BEATS
from study.store.journal import JOURNAL, Event, Kind
from study.store.storage import Storage
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES, WEIGHTS, read_predictions
from study.tracking.sink import Sink
from study.tuning.scratch import scratch

_logger = logging.getLogger(__name__)


class Recorder:
    """Writes events into a sink, in their order; an event may come again.

    Args:
        sink: Where to write.
        folder: The study's folder.
        storage: Where trials left their results.
        attach: Told the number and the run of each trial that is opened.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        folder: Path,
        storage: Storage,
        attach: Callable[[int, str], None] | None = None,
    ) -> None:
        self._sink = sink
        self._folder = folder
        self._storage = storage
        self._attach = attach or (lambda number, run_id: None)
        self._study: Event | None = None
        self._trials: dict[str, Event] = {}
        self._runs: dict[str, str] = {}
        self._open = False

    def recall(self, event: Event) -> None:
        """Take note of an event that was recorded before: later ones refer to it."""
        if event.kind is Kind.STUDY:
            self._study, self._open = event, False
        elif event.kind is Kind.TRIAL:
            self._trials[event.content["digest"]] = event

    def record(self, event: Event) -> None:
        """Record an event.

        Raises:
            TrackingError: If the store cannot be reached.
            RefusedError: If the store does not take this event.
            StudyStateError: If the journal lacks what came before it.
        """
        self.recall(event)
        if not self._open:
            self._open_study()
        record = {
            Kind.TRIAL: self._open_trial,
            Kind.EPOCH: self._log_epoch,
            Kind.END: self._close_trial,
            Kind.FLOOR: self._add_floor,
            Kind.CLOSE: self._close_study,
        }.get(event.kind)
        if record is not None:
            record(event.content, event.time_s)

    def _open_study(self) -> None:
        study = self._known(self._study, "the study")
        self._runs.clear()
        self._sink.open_study(
            study.content["name"],
            params=study.content["params"],
            tags=self._tags({Tag.KIND: "study"}),
            artifacts=self._files(study.content["files"]),
            at_s=study.time_s,
        )
        self._open = True

    def _open_trial(self, content: Mapping[str, Any], time_s: float) -> None:
        run_id = self._sink.open_trial(
            content["digest"],
            number=content["number"],
            params=content["params"],
            tags=self._tags({Tag.KIND: "trial", **content["tags"]}),
            at_s=time_s,
        )
        self._runs[content["digest"]] = run_id
        self._attach(content["number"], run_id)

    def _log_epoch(self, content: Mapping[str, Any], time_s: float) -> None:
        run_id = self._run(content["digest"])
        self._sink.log_epoch(run_id, content["epoch"], content["metrics"], at_s=time_s)

    def _close_trial(self, content: Mapping[str, Any], time_s: float) -> None:
        digest, outcome = content["digest"], Outcome(content["outcome"])
        run_id = self._run(digest)
        with scratch() as folder:
            configuration = folder / "configuration.json"
            config = self._trials[digest].content["config"]
            configuration.write_text(json.dumps(config, indent=1))
            files = [configuration]
            if content["details"]:
                files.append(folder / "traceback.txt")
                files[-1].write_text(content["details"])
            if outcome is Outcome.COMPLETE:
                files += self._results(digest, folder)
            self._sink.close_trial(
                run_id,
                outcome=outcome,
                cause=content["cause"],
                metrics=content["metrics"],
                artifacts=files,
                at_s=time_s,
            )
        del self._runs[digest]

    def _add_floor(self, content: Mapping[str, Any], time_s: float) -> None:
        self._sink.add_floor(
            content["digest"],
            name=content["name"],
            params=content["params"],
            tags=self._tags({Tag.KIND: "floor"}),
            metrics=content["metrics"],
            artifacts=self._files(content["files"]),
            at_s=time_s,
        )

    def _close_study(self, content: Mapping[str, Any], time_s: float) -> None:
        with scratch() as folder:
            weights = []
            for number, digest in content["weights"]:
                stored = self._storage.folder(digest).read(WEIGHTS)
                if stored is not None:
                    weights.append(folder / f"weights_{number:03d}_{digest}.pt")
                    weights[-1].write_bytes(stored)
            self._sink.close_study(
                outcome=content["outcome"],
                metrics=content["metrics"],
                artifacts=[*self._files(content["files"]), *weights],
                at_s=time_s,
            )
        self._open = False

    def _run(self, digest: str) -> str:
        """Return a trial's run, which an earlier process may have opened."""
        if digest not in self._runs:
            trial = self._known(self._trials.get(digest), f"trial {digest}")
            self._open_trial(trial.content, trial.time_s)
        return self._runs[digest]

    def _known(self, event: Event | None, what: str) -> Event:
        if event is None:
            raise StudyStateError(f"{self._folder / JOURNAL} does not say how {what} was opened")
        return event

    def _tags(self, own: Mapping[str, str]) -> dict[str, str]:
        return {**self._known(self._study, "the study").content["tags"], **own}

    def _files(self, names: Sequence[str]) -> list[Path]:
        files = [self._folder / name for name in names]
        for file in files:
            if not file.exists():
                _logger.warning("tracking: %s is not there any more", file)
        return [file for file in files if file.exists()]

    def _results(self, digest: str, folder: Path) -> list[Path]:
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
        # Half a second of matplotlib, which the start of a study does not wait for.
        from study.reporting.figures import draw_trial

        try:
            beats = read_beats(self._folder / BEATS)
            arrays = read_predictions(self._storage, digest, n_beats=len(beats.label)) or {}
        except StudyStateError as error:
            _logger.warning("a trial without pictures: %s", error)
            return []
        return draw_trial(
            folder,
            label=beats.label,
            record=beats.record,
            log_probs=arrays["log_probs"],
            gates=arrays.get("gates"),
            attention=arrays.get("attention"),
        )
