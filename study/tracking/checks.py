"""Checks whether MLflow shows a study as it is: the faults of its runs, each with its mend."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from study.errors import TrackingError
from study.keys import Tag
from study.store.checks import Fault, Mend, trials_of
from study.store.study import Study
from study.store.trials import COUNTED, TRACKER
from study.tracking.experiment import Experiment
from study.tracking.mirror import Mirror
from study.tracking.mlflow_runs import (
    Difference,
    MlflowRun,
    difference,
    find_runs,
    first_and_others,
    read_points,
)
from study.tracking.mlflow_store import explained
from study.tracking.run_facts import FLOOR, RUNNING, STUDY, TRIAL, Key, RunFacts, ShownStudy
from study.wording import first_few

if TYPE_CHECKING:
    from study.store.ledger import Ledger

KIND = "tracker"


def tracker_faults(study: Study, experiment: Experiment) -> list[Fault]:
    """Compare a study's runs in MLflow with the runs that MLflow should have."""
    own, below = find_runs(experiment, study)
    mends = _Mends(experiment)
    if not own:
        finding = (
            f"{experiment.store.shown} has nothing of this study; if another store has it, give "
            "its --tracking-uri"
        )
        return [] if study.held else [Fault(kind=KIND, found=finding, mend=mends.log)]
    client, _ = experiment.connect()
    comparison = _Comparison(ShownStudy(study), [*own, *below], client, mends)
    with explained(experiment.store):
        return list(comparison.faults())


class _Mends:
    """The mends of MLflow."""

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
        mirrored = mirror.finish()
        if mirrored.left:
            raise TrackingError(
                f"{mirrored.left} runs could not be compared with the study: repeat --repair, or "
                "the next start compares them"
            )
        refused = f", {mirrored.refused} left out: see the warnings" if mirrored.refused else ""
        return f"{mirrored.sent} runs brought up to date{refused}"

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
    def __init__(
        self, shown: ShownStudy, runs: Sequence[MlflowRun], client: Any, mends: _Mends
    ) -> None:
        self._shown, self._client, self._mends = shown, client, mends
        # While a study runs, MLflow may lack data that the mirror is about to send.
        self._held = shown.study.held
        self._runs = defaultdict[Key, list[MlflowRun]](list)
        for run in runs:
            self._runs[run.key].append(run)

    def faults(self) -> Iterator[Fault]:
        keys = self._shown.keys()
        for key in keys:
            facts = self._shown.run(*key)
            if facts is not None:
                yield from self._of_run(facts, self._runs.get(key, ()))
        for key, runs in self._runs.items():
            for run in () if key in keys else runs:
                yield from self._unknown(run)

    def _unknown(self, run: MlflowRun) -> Iterator[Fault]:
        """Return the faults of a run that is of no part of the study."""
        kind, digest = run.key
        if run.status == RUNNING and not self._held:
            finding = f"MLflow's run {run.run_id}, which the study does not know, is RUNNING"
            yield Fault(kind=KIND, found=finding, mend=self._mends.log)
        if kind == TRIAL and run.outcome in COUNTED:
            finding = (
                f"the Optuna storage has no row of configuration {digest}, which MLflow "
                f"shows as {run.outcome}: bring the storage back from a copy, or let --resume "
                "run it again"
            )
            yield Fault(kind=KIND, found=finding, digest=digest)

    def _of_run(self, facts: RunFacts, runs: Sequence[MlflowRun]) -> Iterator[Fault]:
        run_name, subject = _names(facts)
        if not runs:
            if not self._held:
                yield self._lack(facts, f"MLflow has no run of {subject}")
            return
        first, others = first_and_others(runs)
        points = read_points(self._client, first)
        for run in others:
            finding = f"MLflow has a second run of {subject}, {run.run_id}"
            only_there = read_points(self._client, run).keys() - points.keys()
            yield self._wrong(facts, finding, run, only_there)
        different = difference(facts, first)
        if different.twice or different.other_points:
            how = "twice" if different.twice else "with other values"
            which = _some(different.twice or different.other_points)
            finding = f"MLflow has metrics of {subject} {how}: {which}"
            yield self._wrong(facts, finding, first, points.keys())
            return
        if not self._held:
            for lack in _lacks(facts, first, different):
                yield self._lack(facts, f"{run_name} {lack}")

    def _wrong(
        self, facts: RunFacts, found: str, run: MlflowRun, only_there: Set[tuple[str, int]]
    ) -> Fault:
        """Return the fault of a wrong run; its mend deletes it, unless it alone has a metric."""
        in_study = only_there <= {point.key for point in facts.points}
        if run.blank or (in_study and facts.kind != STUDY):
            return self._fault(facts, found, self._mends.delete, run.run_id)
        reason = "has trials below it" if facts.kind == STUDY else "has more than the study itself"
        return self._fault(
            facts, f"{found}, and it {reason}; delete the one that is wrong yourself"
        )

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
    """Return the run's name for a fault, and what it is a run of."""
    if facts.kind == TRIAL:
        return "its MLflow run", "it"
    subject = "the study" if facts.kind == STUDY else facts.name
    return f"MLflow's run of {subject}", subject


def _lacks(facts: RunFacts, run: MlflowRun, different: Difference) -> Iterator[str]:
    """Describe what MLflow's run lacks."""
    tags = {*different.tags, *different.past_tags}
    if different.status or Tag.OUTCOME in tags:
        tags -= {Tag.OUTCOME, Tag.CAUSE}
        if run.status == RUNNING:
            yield f"is RUNNING, and nothing runs it: it is {facts.outcome}"
        else:
            yield (
                f"says {run.status}, {Tag.OUTCOME} '{run.outcome}': "
                f"it is {facts.outcome or 'running'}"
            )
    if tags:
        yield f"lacks the study's {', '.join(sorted(tags))}"
    if different.params:
        yield f"has no parameter {', '.join(sorted(different.params))}"
    if different.points:
        yield f"has no {_some(point.key for point in different.points)}"


def _some(points: Iterable[tuple[str, int]]) -> str:
    # Metrics without a group, such as the objective, come first.
    ordered = sorted(points, key=lambda point: ("/" in point[0], point))
    return first_few(f"{name} of epoch {epoch}" for name, epoch in ordered)
