"""Whether MLflow shows a study as it is: the faults of its runs, each with its mend."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from study.errors import TrackingError
from study.keys import Tag
from study.store.checks import Fault, Mend, trials_of
from study.store.study import Study
from study.store.trials import COUNTED, TRACKER
from study.tracking.experiment import Experiment
from study.tracking.mirror import Mirror
from study.tracking.recorded import Points, RecordedRun, RecordedStudy
from study.tracking.run_facts import FLOOR, RUNNING, STUDY, TRIAL, RunFacts
from study.tracking.study_runs import ShownStudy

if TYPE_CHECKING:
    from study.store.ledger import Ledger

KIND = "tracker"


def tracker_faults(study: Study, experiment: Experiment) -> list[Fault]:
    """Compare the runs that MLflow has of a study with those that it is to have.

    Raises:
        TrackingError: If MLflow cannot be asked.
    """
    recorded = RecordedStudy(experiment, study.name, study.study_id)
    mends = _Mends(experiment)
    if not recorded.studies:
        found = (
            f"{experiment.store.shown} has nothing of this study; if another store has it, give "
            "its --tracking-uri"
        )
        return [] if study.held else [Fault(kind=KIND, found=found, mend=mends.log)]
    return list(_Comparison(ShownStudy(study), recorded, mends).faults())


class _Mends:
    """How MLflow is mended.

    Args:
        experiment: Where the study's runs are.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self.log = Mend(
            says=lambda faults: f"log what MLflow lacks of {trials_of(faults)}", do=self._log
        )
        self.delete = Mend(says=_say_deleted, do=self._delete)

    def _log(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        suspects = [
            (kind, fault.digest)
            for fault in faults
            for kind in ((TRIAL, FLOOR) if fault.digest else (STUDY,))
        ]
        ledger.note(TRACKER, self._experiment.store.name)
        mirror = Mirror(
            self._experiment,
            lambda: replace(study, trials=ledger.trials()),
            suspects=suspects,
        )
        came_of = mirror.finish()
        if came_of.left:
            raise TrackingError(
                f"{came_of.left} runs could not be compared with the study: --repair again, or "
                "the next start, does it"
            )
        refused = f", {came_of.refused} left out, as the warnings say" if came_of.refused else ""
        return f"{came_of.sent} runs brought up to date{refused}"

    def _delete(self, study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
        for fault in faults:
            self._experiment.delete_run(fault.target)
        return self._log(study, ledger, faults)


def _say_deleted(faults: Sequence[Fault]) -> str:
    runs = ", ".join(fault.target for fault in faults)
    return (
        f"delete run {runs} in MLflow (`mlflow runs restore --run-id {faults[0].target}` brings "
        f"it back), and log what MLflow then lacks of {trials_of(faults)}"
    )


class _Comparison:
    def __init__(self, shown: ShownStudy, recorded: RecordedStudy, mends: _Mends) -> None:
        self._shown, self._recorded, self._mends = shown, recorded, mends
        # While a study runs MLflow may lack what it gets in a moment.
        self._runs = shown.study.held
        self._by_key = defaultdict[tuple[str, str], list[RecordedRun]](list)
        # As the mirror chooses: an empty one is what a request made that was given up.
        for run in sorted([*recorded.studies, *recorded.runs], key=lambda run: run.blank):
            self._by_key[run.key].append(run)

    def faults(self) -> Iterator[Fault]:
        keys = self._shown.keys()
        for key in keys:
            facts = self._shown.run(*key)
            if facts is not None:
                yield from self._of_run(facts, self._by_key.get(key, []))
        for run in self._recorded.runs:
            if run.status == RUNNING and run.key not in keys and not self._runs:
                found = f"MLflow's run {run.run_id} of something unknown is RUNNING"
                yield Fault(kind=KIND, found=found, mend=self._mends.log)
            kind, digest = run.key
            if kind == TRIAL and run.outcome in COUNTED and run.key not in keys:
                found = (
                    f"the Optuna storage has no row of configuration {digest}, which MLflow "
                    f"shows as {run.outcome}: bring the storage back from a copy, or let --resume "
                    "run it again"
                )
                yield Fault(kind=KIND, found=found, digest=digest)

    def _of_run(self, facts: RunFacts, runs: Sequence[RecordedRun]) -> Iterator[Fault]:
        its, of = _names(facts)
        if not runs:
            if not self._runs:
                yield self._lack(facts, f"MLflow has no run of {of}")
            return
        first, *others = runs
        points = self._recorded.points(first)
        for run in others:
            found = f"MLflow has a second run of {of}, {run.run_id}"
            lost = {} if run.blank else self._recorded.points(run)
            only_there = {key: value for key, value in lost.items() if key not in points}
            yield self._wrong(facts, found, run, only_there)
        twice = [key for key, values in points.items() if len(values) > 1]
        other = _other(facts, points)
        if twice or other:
            how = f"twice: {_some(twice)}" if twice else f"with other values: {_some(other)}"
            yield self._wrong(facts, f"MLflow has metrics of {of} {how}", first, points)
            return
        if self._runs:
            return
        if end := _wrong_end(first, facts):
            yield self._lack(facts, f"{its} {end}")
        missing = [(p.name, p.step) for p in facts.points if (p.name, p.step) not in points]
        if missing:
            yield self._lack(facts, f"{its} has no {_some(missing)}")

    def _wrong(self, facts: RunFacts, found: str, run: RecordedRun, points: Points) -> Fault:
        """Return the fault of a run that is to be deleted, unless only it has something."""
        told_again = points.keys() <= {(point.name, point.step) for point in facts.points}
        if run.blank or (told_again and facts.kind != STUDY):
            return self._fault(facts, found, self._mends.delete, run.run_id)
        why = "has trials below it" if facts.kind == STUDY else "has more than the study itself"
        return self._fault(facts, f"{found}, and it {why}; delete the one that is wrong yourself")

    def _lack(self, facts: RunFacts, found: str) -> Fault:
        return self._fault(facts, found, self._mends.log)

    def _fault(
        self, facts: RunFacts, found: str, mend: Mend | None = None, target: str = ""
    ) -> Fault:
        trial = None
        if facts.kind == TRIAL:
            trial = self._shown.attempts[facts.digest][-1].number
        return Fault(
            kind=KIND, found=found, trial=trial, digest=facts.digest, mend=mend, target=target
        )


def _names(facts: RunFacts) -> tuple[str, str]:
    """Return how a run is called, and what it is of; a trial's fault follows its name."""
    if facts.kind == TRIAL:
        return "its MLflow run", "it"
    of = "the study" if facts.kind == STUDY else facts.name
    return f"MLflow's run of {of}", of


def _other(facts: RunFacts, points: Points) -> list[tuple[str, int]]:
    """Return the metrics that a run has with another value."""
    return [
        (point.name, point.step)
        for point in facts.points
        for value in points.get((point.name, point.step), [])
        if not math.isclose(point.value, value)
    ]


def _wrong_end(run: RecordedRun, facts: RunFacts) -> str:
    """Return how a run's end differs from what the study says."""
    if run.status == facts.status and run.outcome == facts.outcome:
        return ""
    if run.status == RUNNING:
        return f"is RUNNING, and nothing runs it: it is {facts.outcome}"
    return f"says {run.status}, {Tag.OUTCOME} '{run.outcome}': it is {facts.outcome or 'running'}"


def _some(points: Iterable[tuple[str, int]]) -> str:
    names = [f"{name} of epoch {epoch}" for name, epoch in sorted(points)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
