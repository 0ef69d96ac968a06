"""Makes a study's records agree: its Optuna storage is the truth, and its journal tells the rest.

What is to be done is known before anything is: a list of steps. Nothing that is intact is lost: a
trial whose results are gone is owed again, a run of the tracker is deleted only where the journal
can tell all that it has, and MLflow can restore it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.errors import RefusedError, StudyError, TrackingError
from study.files import write_whole
from study.keys import Outcome
from study.store.checks import Disagreement, Mend
from study.store.folder import TRIALS
from study.store.journal import JOURNAL, Kind, Mark, read
from study.store.ledger import Ledger
from study.store.status import Facts
from study.store.trials import EXHAUSTED, OBJECTIVE, RUN_ID, trials_csv
from study.tracking.mlflow_runs import MlflowRecords
from study.tracking.sink import Sink
from study.tuning.recorder import Recorder
from study.tuning.sender import Sender, Sent, send_owed
from study.tuning.teller import Teller

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that is to be done.

    Args:
        mend: What it is.
        text: What it is, in words.
        what: The disagreements that it ends.
    """

    mend: Mend
    text: str
    what: tuple[Disagreement, ...] = ()


def steps(facts: Facts, found: Sequence[Disagreement], *, tracking: bool) -> list[Step]:
    """Return what makes a study's records agree, in the order in which it is done.

    Args:
        facts: The study.
        found: Where they do not.
        tracking: Whether the tracker may be told.
    """
    by = {mend: tuple(one for one in found if one.mend is mend) for mend in Mend}
    listed = [*_in_storage(by)]
    listed += [
        Step(mend=Mend.DELETE, text=f"delete {_file(one)}", what=(one,)) for one in by[Mend.DELETE]
    ]
    if by[Mend.TABLE] or by[Mend.SETTLE] or by[Mend.WITHDRAW]:
        listed.append(Step(mend=Mend.TABLE, text=f"write {TRIALS} as the storage has it"))
    return listed + (list(_in_tracker(facts, by)) if tracking else [])


def _in_storage(by: dict[Mend, tuple[Disagreement, ...]]) -> Iterator[Step]:
    if ended := by[Mend.SETTLE]:
        text = f"tell Optuna how {_trials(ended)} ended; what has no outcome is owed"
        yield Step(mend=Mend.SETTLE, text=text, what=ended)
    if earlier := by[Mend.MARK]:
        text = f"mark {_trials(earlier)} as superseded"
        yield Step(mend=Mend.MARK, text=text, what=earlier)
    for one in by[Mend.WITHDRAW]:
        text = (
            f"withdraw the outcome of trial {one.trial}, whose {one.what}: --resume runs it again"
        )
        yield Step(mend=Mend.WITHDRAW, text=text, what=(one,))


def _in_tracker(facts: Facts, by: dict[Mend, tuple[Disagreement, ...]]) -> Iterator[Step]:
    told = facts.journal.outcomes
    withdrawn = tuple(one for one in by[Mend.WITHDRAW] if one.digest in told)
    if late := (*by[Mend.TELL], *withdrawn):
        text = f"tell MLflow how {_trials(late)} stand{'' if len(late) > 1 else 's'}"
        if facts.unsent:
            text += f", after the {facts.unsent} events that {JOURNAL} keeps"
        yield Step(mend=Mend.TELL, text=text, what=late)
    elif by[Mend.SEND]:
        parts = [f"the {facts.unsent} events that {JOURNAL} keeps"] if facts.unsent else []
        parts += [] if facts.journal.closed else ["that the last start was stopped"]
        text = f"send MLflow {', and '.join(parts)}"
        yield Step(mend=Mend.SEND, text=text, what=by[Mend.SEND])
    for one in by[Mend.REMOVE]:
        run = one.run.run_id if one.run else ""
        text = f"delete run {run} in MLflow (`mlflow runs restore --run-id {run}` brings it back)"
        yield Step(mend=Mend.REMOVE, text=text, what=(one,))
    again = tuple({one.digest: one for one in (*by[Mend.RESEND], *by[Mend.REMOVE])}.values())
    if by[Mend.REPLAY]:
        text = f"tell MLflow all {len(facts.journal.events)} events of {JOURNAL} again"
        yield Step(mend=Mend.REPLAY, text=text, what=by[Mend.REPLAY])
    elif again:
        text = f"tell MLflow again what {JOURNAL} has of {_trials(again)}"
        yield Step(mend=Mend.RESEND, text=text, what=again)


def _trials(found: Sequence[Disagreement]) -> str:
    numbers = sorted({one.trial for one in found if one.trial is not None})
    if not numbers:
        return "the study"
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _file(one: Disagreement) -> str:
    return one.file if one.trial is None else f"{one.file} of trial {one.trial}"


class Repair:
    """Does steps, one after the other; the caller holds the study's lock.

    Args:
        facts: The study as it was read.
        ledger: Its storage, open.
        sink: Its tracker; None where that is not told.
        records: Looks into the tracker; None where it is not.
    """

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        *,
        sink: Sink | None = None,
        records: MlflowRecords | None = None,
    ) -> None:
        self._facts, self._ledger = facts, ledger
        self._sink, self._records = sink, records

    def do(self, step: Step) -> str:
        """Do a step.

        Returns:
            What was done beyond what the step says, or why it was not.
        """
        does: dict[Mend, Callable[[Step], str]] = {
            Mend.SETTLE: self._reconcile,
            Mend.MARK: self._reconcile,
            Mend.WITHDRAW: self._withdraw,
            Mend.DELETE: self._delete,
            Mend.TABLE: self._table,
            Mend.TELL: self._tell,
            Mend.SEND: self._send,
            Mend.REMOVE: self._remove,
            Mend.RESEND: self._resend,
            Mend.REPLAY: self._replay,
        }
        try:
            return does[step.mend](step) or "done"
        except (StudyError, OSError) as error:
            return f"NOT DONE: {error}"

    def _reconcile(self, step: Step) -> str:
        owed = self._ledger.reconcile()
        return f"{len(owed)} owed now" if step.mend is Mend.SETTLE else ""

    def _withdraw(self, step: Step) -> str:
        for one in step.what:
            if one.trial is not None:
                self._ledger.withdraw(one.trial, one.what)
        return ""

    def _delete(self, step: Step) -> str:
        for one in step.what:
            if one.trial is None:
                Path(one.file).unlink(missing_ok=True)
            else:
                self._facts.storage.folder(one.digest).delete(one.file)
        return ""

    def _table(self, step: Step) -> str:
        write_whole(self._facts.folder / TRIALS, trials_csv(self._ledger.rows()))
        return ""

    def _tell(self, step: Step) -> str:
        """Tell every outcome that the tracker was told otherwise, and how the study stands."""
        assert self._sink is not None
        folder = self._facts.folder
        sender = Sender(folder, self._sink, storage=self._facts.storage, attach=self._attach)
        teller = Teller(sender.tell, folder)
        settled, owed = self._ledger.settled(), self._ledger.owed()
        teller.catch_up(settled, sender.outcomes)
        teller.call_back(owed, sender.outcomes)
        done = len(settled) >= int(self._facts.plan["trials"]) or self._ledger.noted(EXHAUSTED)
        outcome = str(Outcome.COMPLETE if done else Outcome.STOPPED)
        teller.close_study(outcome=outcome, metrics={}, rows=(), objective=OBJECTIVE, files=())
        return _came_of(sender.finish())

    def _attach(self, number: int, run_id: str) -> None:
        self._ledger.attach(number, RUN_ID, run_id)

    def _send(self, step: Step) -> str:
        assert self._sink is not None
        return _came_of(send_owed(self._facts.folder, self._sink, storage=self._facts.storage))

    def _remove(self, step: Step) -> str:
        for one in step.what:
            if self._records is not None and one.run is not None:
                self._records.remove(one.run)
        return ""

    def _resend(self, step: Step) -> str:
        """Record again what the journal has of some configurations, and the study's last end."""
        assert self._sink is not None
        digests = {one.digest for one in step.what}
        events = read(self._facts.folder).events
        recorder = Recorder(
            sink=self._sink, folder=self._facts.folder, storage=self._facts.storage
        )
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

    def _replay(self, step: Step) -> str:
        folder = self._facts.folder
        Mark(folder, read(folder).last).move(0)
        return self._send(step)


def _came_of(sent: Sent) -> str:
    if sent.left:
        raise TrackingError(
            f"{sent.left} events could not be sent, and are kept in {JOURNAL}: --repair again, "
            "or the next start, sends them"
        )
    refused = f", {sent.refused} left out, as the warnings say" if sent.refused else ""
    return f"{sent.sent} events sent{refused}"
