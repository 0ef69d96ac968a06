"""The runs that MLflow is to have of a study, derived from its plan, trials, starts and floors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from study.data.folds import ALL
from study.keys import Outcome, Tag
from study.store.floors import stored_floors
from study.store.history import BEGAN, Start, epochs_of
from study.store.study import Study
from study.store.trials import CONFIG, COUNTED, EPOCHS, METRICS, SECONDS
from study.tracking.run_facts import FLOOR, STUDY, TRIAL, Point, RunFacts, points_of, trial_name

PARAMS = (
    *("kind", "objective", "sampler", "scheduler", "trials"),
    *("epochs", "folds", "n_seeds", "study_seed"),
)
"""What of a plan is shown as parameters of the study's run."""

Key = tuple[str, str]
"""Kind and digest of a run."""


class ShownStudy:
    """What MLflow is to show of a study as it was read."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._plan = study.plan

    @cached_property
    def attempts(self) -> dict[str, list[Any]]:
        """The attempts at each configuration that a worker had, first to last."""
        return {
            digest: attempts
            for digest, attempts in self.study.trials.attempts.items()
            if any(map(_begun, attempts))
        }

    @cached_property
    def _floors(self) -> dict[str, RunFacts]:
        return {run.digest: run for run in self._floor_runs()}

    def keys(self) -> list[Key]:
        """Return kind and digest of every run, the study's last: it ends after the others."""
        trials = [(TRIAL, digest) for digest in self.attempts]
        return [*trials, *((FLOOR, digest) for digest in self._floors), (STUDY, "")]

    def run(self, kind: str, digest: str) -> RunFacts | None:
        """Return what a run is to show; None where there is to be none."""
        if kind == STUDY:
            return self.study_run()
        if kind == FLOOR:
            return self._floors.get(digest)
        return self._trial(digest) if digest in self.attempts else None

    def study_run(self) -> RunFacts:
        """Return the run of the study itself."""
        points, undefined = list[Point](), frozenset[str]()
        for start in self.study.starts:
            if start.ended_s is not None:
                # A resumed study has new figures: each end has a step of its own.
                more, undefined = points_of(start.metrics, start.number, start.ended_s)
                points += more
        # Nothing is mirrored before the first start.
        first, last = self.study.starts[0], self.study.starts[-1]
        return RunFacts(
            kind=STUDY,
            name=self.study.name,
            params={name: getattr(self._plan, name) for name in PARAMS},
            tags=self._tags(last),
            points=tuple(points),
            undefined=undefined,
            began_s=first.at_s,
            ended_s=last.ended_s,
            outcome=last.outcome,
        )

    def _trial(self, digest: str) -> RunFacts:
        attempts = self.attempts[digest]
        last, attrs = attempts[-1], attempts[-1].user_attrs
        outcome, cause = attrs.get(Tag.OUTCOME, ""), attrs.get(Tag.CAUSE, "")
        withdrawn = self.study.trials.marks.withdrawn.get(last.number)
        if withdrawn is not None:
            outcome, cause = str(Outcome.STOPPED), f"owed again: {withdrawn}"
        began_s, ended_s = _times(last)
        points, undefined = _points(attempts, ended_s)
        config = attrs[CONFIG]
        return RunFacts(
            kind=TRIAL,
            digest=digest,
            name=trial_name(last.number, config),
            params=config,
            tags={
                **self._tags(self._start_at(began_s)),
                Tag.ARM: attrs[Tag.ARM],
                Tag.INPUT: config["input"],
                Tag.FUSION: config["fusion"],
                Tag.ATTEMPT: str(attrs[Tag.ATTEMPT]),
            },
            points=points,
            undefined=undefined,
            began_s=_times(attempts[0])[0],
            ended_s=ended_s if outcome else None,
            outcome=outcome,
            cause=cause,
        )

    def _floor_runs(self) -> Iterator[RunFacts]:
        for floor in stored_floors(self.study.folder):
            points, undefined = points_of(floor.metrics, 0, floor.at_s)
            yield RunFacts(
                kind=FLOOR,
                digest=floor.digest,
                name=floor.label,
                params={"floor": floor.name, **floor.settings},
                tags=self._tags(self._start_at(floor.at_s)),
                points=tuple(points),
                undefined=undefined,
                began_s=floor.at_s,
                ended_s=floor.at_s,
                outcome=str(Outcome.COMPLETE),
            )

    def _start_at(self, time_s: float) -> Start | None:
        """Return the start that ran at a time; None where a clock was set back since."""
        # Not up to the first that is later: a clock may have been set back in between.
        begun = [start for start in self.study.starts if start.at_s <= time_s]
        return begun[-1] if begun else None

    def _tags(self, start: Start | None) -> dict[str, str]:
        plan = self._plan
        return {
            Tag.STUDY: self.study.name,
            Tag.STUDY_ID: self.study.study_id,
            Tag.SPACE: plan.space,
            Tag.STAGE: "test" if plan.folds == ALL else "validation",
            Tag.DATA_SOURCE: plan.data_source,
            Tag.DATA_FINGERPRINT: " ".join(plan.data_fingerprints.values()),
            Tag.FOLD_FINGERPRINT: plan.fold_fingerprint,
            Tag.ENGINE: plan.engine,
            **(start.about if start else {}),
        }


def _begun(trial: Any) -> bool:
    """Whether a worker had a trial, or could not be had for it: that is a failure."""
    return BEGAN in trial.user_attrs or trial.user_attrs.get(Tag.OUTCOME) in COUNTED


def _times(trial: Any) -> tuple[float, float]:
    """Return when a trial began and, if it has, ended, in seconds since 1970."""
    began_s = trial.user_attrs.get(BEGAN)
    if began_s is None:
        asked = trial.datetime_start
        began_s = asked.timestamp() if asked is not None else 0.0
    return float(began_s), began_s + trial.user_attrs.get(SECONDS, 0.0)


def _points(attempts: Sequence[Any], ended_s: float) -> tuple[tuple[Point, ...], frozenset[str]]:
    """Return a trial's metrics by epoch, and at its last the final ones that no epoch had."""
    points, undefined = list[Point](), frozenset[str]()
    for number, epoch in epochs_of(trial.user_attrs for trial in attempts).items():
        more, lost = points_of(epoch.metrics, number, epoch.at_s)
        points, undefined = points + more, undefined | lost
    attrs: Mapping[str, Any] = attempts[-1].user_attrs
    # The outcome is written last: before it, what is said of the end may be half there.
    if Tag.OUTCOME in attrs:
        steps = {(point.name, point.step) for point in points}
        final, _ = points_of(attrs.get(METRICS, {}), attrs.get(EPOCHS, 0), ended_s)
        points += [point for point in final if (point.name, point.step) not in steps]
    return tuple(points), undefined
