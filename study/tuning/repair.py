"""Mends what a study's tracker has: the journal tells it again, nothing that is intact is lost.

A run of the tracker is deleted only where the journal can tell all that it has, and MLflow can
restore it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from study.errors import RefusedError, TrackingError
from study.keys import Outcome
from study.store.checks import Fault, Mend, trials_of
from study.store.journal import JOURNAL, Kind, read
from study.store.journal import Mark as SentMark
from study.store.ledger import Ledger
from study.store.study import Study
from study.store.trials import EXHAUSTED, OBJECTIVE, RUN_ID, Proposal
from study.tracking.mlflow_runs import MlflowRecords
from study.tracking.sink import Sink
from study.tuning.recorder import Recorder
from study.tuning.sender import Sender, Sent, send_owed
from study.tuning.teller import Teller

_logger = logging.getLogger(__name__)


class TrackerMends:
    """How the tracker is mended.

    Args:
        records: Looks into the tracker.
        open_sink: Opens the tracker, to be told.
    """

    def __init__(self, records: MlflowRecords, open_sink: Callable[[], Sink]) -> None:
        self._records, self._open_sink = records, open_sink
        self.send = Mend(
            says=lambda faults: f"send MLflow what {JOURNAL} keeps, and how the last start ended",
            do=self._send,
        )
        self.tell = Mend(
            says=lambda faults: f"tell MLflow how it stands with {trials_of(faults)}",
            do=self._tell,
        )
        self.remove = Mend(says=_say_removed, do=self._remove)
        self.resend = Mend(
            says=lambda faults: f"tell MLflow again what {JOURNAL} has of {trials_of(faults)}",
            do=self._resend,
        )
        self.replay = Mend(
            says=lambda faults: f"tell MLflow all events of {JOURNAL} again", do=self._replay
        )

    def _tell(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        """Tell every outcome that the tracker was told otherwise, and how the study stands."""

        def attach(number: int, run_id: str) -> None:
            ledger.attach(number, RUN_ID, run_id)

        sender = Sender(study.folder, self._open_sink(), storage=study.files, attach=attach)
        teller = Teller(sender.tell, study.folder)
        trials = ledger.trials()
        teller.catch_up(trials.proposals, sender.outcomes)
        owed = [(t.number, Proposal.of(t), trials.why_owed(t)) for t in trials.owed]
        teller.call_back(owed, sender.outcomes)
        done = len(trials.settled) >= int(study.plan["trials"]) or ledger.noted(EXHAUSTED)
        outcome = str(Outcome.COMPLETE if done else Outcome.STOPPED)
        teller.close_study(outcome=outcome, metrics={}, rows=(), objective=OBJECTIVE, files=())
        return _came_of(sender.finish())

    def _send(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        return _came_of(send_owed(study.folder, self._open_sink(), storage=study.files))

    def _remove(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        for fault in faults:
            self._records.remove(fault.target)
        return self._resend(study, ledger, faults)

    def _resend(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        """Record again what the journal has of some configurations, and the study's last end."""
        digests = {fault.digest for fault in faults}
        events = read(study.folder).events
        recorder = Recorder(sink=self._open_sink(), folder=study.folder, storage=study.files)
        for event in events:
            if event.kind is Kind.STUDY:
                recorder.recall(event)
        last = [event for event in events if event.kind is Kind.CLOSE][-1:]
        mine = [event for event in events if event.content.get("digest") in digests]
        refused = 0
        for event in (*mine, *last):
            try:
                recorder.record(event)
            except RefusedError as error:
                refused += 1
                _logger.warning("tracking: event %d is left out: %s", event.number, error)
        return f"{len(mine) - refused} events" + (f", {refused} refused" if refused else "")

    def _replay(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        SentMark(study.folder, read(study.folder).last).move(0)
        return self._send(study, ledger, faults)


def _say_removed(faults: Sequence[Fault]) -> str:
    runs = ", ".join(fault.target for fault in faults)
    return (
        f"delete run {runs} in MLflow (`mlflow runs restore --run-id RUN` brings one back), and "
        f"tell it again what {JOURNAL} has of {trials_of(faults)}"
    )


def _came_of(sent: Sent) -> str:
    if sent.left:
        raise TrackingError(
            f"{sent.left} events could not be sent, and are kept in {JOURNAL}: --repair again, "
            "or the next start, sends them"
        )
    refused = f", {sent.refused} left out, as the warnings say" if sent.refused else ""
    return f"{sent.sent} events sent{refused}"
