"""Whether a tracker has what the journal told it, once, and the outcomes of the storage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from study.keys import Outcome, Tag
from study.store.checks import Fault
from study.store.journal import JOURNAL, Event, Kind
from study.store.study import Study
from study.store.trials import COUNTED
from study.tracking.mlflow_runs import MlflowRecords, Points, RecordedRun, RecordedStudy
from study.tracking.mlflow_sink import FLOOR, STATUS, TRIAL
from study.tuning.repair import TrackerMends


@dataclass(slots=True)
class _Told:
    """What the journal says of one configuration."""

    number: int = 0
    outcome: str = ""
    epochs: dict[tuple[str, int], float] = field(default_factory=dict)
    final: set[str] = field(default_factory=set)
    last: int = 0

    def take(self, event: Event) -> None:
        """Add an event."""
        content = event.content
        self.last = event.number
        if event.kind is Kind.TRIAL:
            self.number = content["number"]
        elif event.kind is Kind.EPOCH:
            for name, value in _finite(content["metrics"]).items():
                # Of an epoch that was run again the tracker keeps the first.
                self.epochs.setdefault((name, content["epoch"]), value)
        elif event.kind is Kind.END:
            self.outcome = content["outcome"]
            self.final |= set(_finite(content["metrics"]))

    def missing(self, points: Points) -> list[str]:
        """Return the metrics that a run lacks, and at which epoch."""
        names = {name for name, _ in points}
        lost = sorted(self.epochs.keys() - points.keys())
        return _named(lost) + sorted(self.final - names - {name for name, _ in self.epochs})

    def other(self, points: Points) -> list[str]:
        """Return the metrics that a run has with another value, and at which epoch."""
        return _named(
            sorted(
                key
                for key, value in self.epochs.items()
                if not all(math.isclose(value, got) for got in points.get(key, []))
            )
        )

    def has_all(self, points: Points) -> bool:
        """Whether the journal can tell everything that a run has."""
        return all(name in self.final or (name, step) in self.epochs for name, step in points)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    # What is not finite is a tag in MLflow, and no metric.
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _named(points: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{name} of epoch {epoch}" for name, epoch in points]


def unsent(facts: Study, mends: TrackerMends) -> list[Fault]:
    """Compare the journal alone: with how far it was sent, and with the storage's outcomes."""
    if facts.held or not facts.tracked or facts.gap:
        return []
    found = []
    waiting, closed = facts.unsent, facts.journal.closed
    if waiting or not closed:
        parts = [f"{waiting} events that {JOURNAL} keeps"] if waiting else []
        parts += [] if closed else ["how the last start ended"]
        what = f"MLflow has not been told {' and '.join(parts)}"
        found.append(Fault(kind="tracker", mend=mends.send, found=what))
    told = facts.journal.outcomes
    for row in facts.rows:
        if told.get(row.digest) != row.outcome:
            what = f"is {row.outcome}, and MLflow was {_as_told(told.get(row.digest))}"
            found.append(_tell(mends, what, row.number, row.digest))
    for trial in facts.trials.owed:
        digest = trial.user_attrs[Tag.DIGEST]
        if told.get(digest) in COUNTED:
            what = f"is owed, and MLflow was {_as_told(told[digest])}"
            found.append(_tell(mends, what, trial.number, digest))
    return found


def _tell(mends: TrackerMends, what: str, number: int, digest: str) -> Fault:
    return Fault(kind="tracker", mend=mends.tell, found=what, trial=number, digest=digest)


def _as_told(outcome: str | None) -> str:
    return f"told that it is {outcome}" if outcome else "never told how it ended"


def in_tracker(facts: Study, records: MlflowRecords, mends: TrackerMends) -> list[Fault]:
    """Compare what the tracker has with what it was sent, where nothing more is to be sent.

    Raises:
        TrackingError: If the tracker cannot be used.
    """
    if not facts.sent or facts.gap:
        return []
    recorded = records.study(facts.name, facts.study_id)
    if not recorded.studies:
        what = (
            f"{records.where} has nothing of this study; if another store has it, give its "
            "--tracking-uri"
        )
        return [Fault(kind="tracker", mend=mends.replay, found=what)]
    return list(_Comparison(facts, records, recorded, mends).all())


class _Comparison:
    def __init__(
        self,
        facts: Study,
        records: MlflowRecords,
        recorded: RecordedStudy,
        mends: TrackerMends,
    ) -> None:
        self._mends = mends
        self._settled = {row.digest: row for row in facts.rows}
        self._facts, self._records, self._recorded = facts, records, recorded
        self._told: dict[str, _Told] = {}
        self._floors: dict[str, Event] = {}
        for event in facts.journal.events:
            if event.kind in (Kind.TRIAL, Kind.EPOCH, Kind.END):
                self._told.setdefault(event.content["digest"], _Told()).take(event)
            elif event.kind is Kind.FLOOR:
                self._floors[event.content["digest"]] = event
        self._ended = facts.journal.closed and not facts.held

    def all(self) -> Iterator[Fault]:
        yield from self._study()
        for digest, told in self._told.items():
            # What waits in the journal may be all that is missing.
            if told.last <= self._facts.sent:
                yield from self._trial(digest, told)
        for digest, event in self._floors.items():
            if event.number <= self._facts.sent:
                yield from self._floor(digest, str(event.content["name"]))
        if self._ended and not self._facts.unsent:
            for run in self._recorded.runs:
                if run.running and run.digest not in self._told | self._floors:
                    what = f"MLflow's run {run.run_id} of something unknown is RUNNING"
                    yield Fault(kind="tracker", mend=self._mends.resend, found=what)

    def _runs(self, kind: str, digest: str) -> list[RecordedRun]:
        found = [run for run in self._recorded.runs if run.kind == kind and run.digest == digest]
        # As the sink chooses: an empty one is what a request made that was given up.
        return sorted(found, key=lambda run: run.blank)

    def _study(self) -> Iterator[Fault]:
        runs, facts = sorted(self._recorded.studies, key=lambda run: run.blank), self._facts
        for run in runs[1:]:
            what = f"MLflow has a second run of the study, {run.run_id}"
            if run.blank:
                yield Fault(kind="tracker", mend=self._mends.remove, found=what, target=run.run_id)
            else:
                what += "; delete the one that has no trials yourself"
                yield Fault(kind="tracker", found=what)
        closes = [e.content["outcome"] for e in facts.journal.events if e.kind is Kind.CLOSE]
        if self._ended and not facts.unsent and closes:
            wrong = _wrong_end(runs[0], closes[-1])
            if wrong:
                yield Fault(
                    kind="tracker",
                    mend=self._mends.resend,
                    found=f"MLflow's run of the study {wrong}",
                )

    def _trial(self, digest: str, told: _Told) -> Iterator[Fault]:
        row = self._settled.get(digest)
        if row is None and not self._ended:
            return  # it runs, or its end is still to be told
        if row is not None and row.outcome != told.outcome:
            return  # it will be told
        if row is None and told.outcome in COUNTED:
            return  # so will that
        number = row.number if row else told.number
        runs = self._runs(TRIAL, digest)
        if not runs:
            yield self._resend("MLflow has no run of it", number, digest)
            return
        kept, *others = runs
        points = self._records.points(kept)
        for run in others:
            theirs = self._records.points(run)
            safe = told.has_all({key: theirs[key] for key in theirs.keys() - points.keys()})
            what = f"MLflow has a second run of it, {run.run_id}"
            yield self._remove(what, run, safe, number, digest)
        twice = _named(sorted(key for key, values in points.items() if len(values) > 1))
        other = told.other(points)
        if twice or other:
            what = f"twice: {_some(twice)}" if twice else f"with other values: {_some(other)}"
            what = f"MLflow has metrics of it {what}"
            yield self._remove(what, kept, told.has_all(points), number, digest)
            return
        wrong = _wrong_end(kept, str(row.outcome if row else Outcome.STOPPED))
        missing = told.missing(points)
        if wrong:
            yield self._resend(f"its MLflow run {wrong}", number, digest)
        if missing:
            yield self._resend(f"its MLflow run has no {_some(missing)}", number, digest)

    def _floor(self, digest: str, name: str) -> Iterator[Fault]:
        runs = self._runs(FLOOR, digest)
        what = "" if runs else f"MLflow has no run of {name}"
        if self._ended and runs and (wrong := _wrong_end(runs[0], str(Outcome.COMPLETE))):
            what = f"MLflow's run of {name} {wrong}"
        if what:
            yield Fault(kind="tracker", mend=self._mends.resend, found=what, digest=digest)
        for run in runs[1:]:
            what = f"MLflow has a second run of {name}, {run.run_id}"
            yield Fault(
                kind="tracker",
                mend=self._mends.remove,
                found=what,
                digest=digest,
                target=run.run_id,
            )

    def _resend(self, what: str, number: int, digest: str) -> Fault:
        return Fault(
            kind="tracker", mend=self._mends.resend, found=what, trial=number, digest=digest
        )

    def _remove(self, what: str, run: RecordedRun, safe: bool, number: int, digest: str) -> Fault:
        if safe:
            return Fault(
                kind="tracker",
                mend=self._mends.remove,
                found=what,
                trial=number,
                digest=digest,
                target=run.run_id,
            )
        what += f", with more than {JOURNAL} can tell again; delete the one that is wrong yourself"
        return Fault(kind="tracker", found=what, trial=number, digest=digest)


def _wrong_end(run: RecordedRun, outcome: str) -> str:
    """Return how a run's end differs from what the storage or the journal says."""
    status = STATUS[Outcome(outcome)] if outcome in set(Outcome) else "FINISHED"
    if run.status == status and run.outcome == outcome:
        return ""
    if run.running:
        return f"is RUNNING, and nothing runs it: it is {outcome}"
    return f"says {run.status}, {Tag.OUTCOME} '{run.outcome}': it is {outcome}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
