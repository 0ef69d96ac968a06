"""The facts that MLflow should show of each run, from a study's plan, trials, starts and floors.

This module never contacts MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from study.config import SignalSpec
from study.data.folds import ALL
from study.keys import Outcome, Tag, current_word
from study.store.floors import stored_floors
from study.store.history import BEGAN, Start, epochs_of
from study.store.study import Study
from study.store.trials import CONFIG, SECONDS
from study.tracking.names import metric_shown, with_absent

STUDY, TRIAL, FLOOR = "study", "trial", "floor"
"""Values of the tag `kind`."""

STATUS = {
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.SCREENED: "FINISHED",
    Outcome.STOPPED: "KILLED",
    Outcome.FAILED: "FAILED",
}
"""MLflow's word for each outcome; the tag `outcome` has ours."""

RUNNING = "RUNNING"

UNDEFINED = "undefined_metrics"
"""Tag that names the metrics left out because they were NaN or infinite."""

MAX_TEXT = 5000
"""Length of a tag or parameter, in characters, that every MLflow store takes."""

PARAMS = (
    *("kind", "data_source", "objective", "sampler", "scheduler", "trials"),
    *("epochs", "folds", "n_partitions", "n_seeds", "study_seed"),
)
"""The parts of a plan that the study's run shows as parameters."""

Key = tuple[str, str]
"""Kind and digest of a run, its key among the runs of its study."""


class Point(NamedTuple):
    """A value of a metric."""

    name: str
    step: int
    value: float
    at_ms: int

    @property
    def key(self) -> tuple[str, int]:
        """Name and step: a run has one value of them."""
        return self.name, self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run as MLflow should have it."""

    kind: str  # `study`, `trial` or `floor`
    name: str  # its name in MLflow's UI
    # Of its configuration; empty for a study. A study has one run of a kind and digest.
    digest: str = ""
    # Parameters; MLflow never lets one change
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)  # tags besides those of its end
    points: tuple[Point, ...] = ()  # metrics that are finite, each step of a metric once
    undefined: frozenset[str] = frozenset()  # names of the metrics that are not finite
    began_s: float  # when it began, seconds since 1970
    ended_s: float | None = None  # when it ended
    outcome: str = ""  # its outcome; empty while it runs
    cause: str = ""  # why it ended so

    @property
    def key(self) -> Key:
        """Kind and digest."""
        return self.kind, self.digest

    @property
    def status(self) -> str:
        """MLflow's word for its state."""
        return STATUS[Outcome(self.outcome)] if self.outcome else RUNNING

    @property
    def identity(self) -> dict[str, str]:
        """The tags by which a study's run is found among those of the experiment."""
        return {Tag.KIND: STUDY, **{name: self.tags[name] for name in (Tag.STUDY, Tag.STUDY_ID)}}

    def own_tags(self) -> dict[str, str]:
        """Return its tags without those of its end, as MLflow keeps them."""
        digest = {Tag.DIGEST: self.digest} if self.digest else {}
        return as_text({**self.tags, Tag.KIND: self.kind, **digest})

    def all_tags(self) -> dict[str, str]:
        """Return its tags, those of its end included, as MLflow keeps them."""
        tags = self.own_tags()
        tags |= {Tag.OUTCOME: self.outcome} if self.outcome else {}
        tags |= {Tag.CAUSE: self.cause} if self.cause else {}
        tags |= {UNDEFINED: ", ".join(sorted(self.undefined))} if self.undefined else {}
        return as_text(tags)


def points_of(
    metrics: Mapping[str, float], step: int, at_s: float
) -> tuple[list[Point], frozenset[str]]:
    """Return the metrics of a step that are finite, and the names of those that are not."""
    finite = [
        Point(metric_shown(name), step, float(value), in_ms(at_s))
        for name, value in metrics.items()
        if math.isfinite(value)
    ]
    return finite, frozenset(name for name, value in metrics.items() if not math.isfinite(value))


def in_ms(at_s: float) -> int:
    """Return a time as MLflow keeps it."""
    return int(1000 * at_s)


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Return parameters or tags as MLflow keeps them: as text, cut to the length it takes."""
    texts = {name: str(value) for name, value in values.items()}
    return {
        name: text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 6]} (...)"
        for name, text in texts.items()
    }


def trial_name(number: int, params: Mapping[str, object]) -> str:
    """Return the name of a trial's run, such as `12 opt3/film d=64 g=-2`.

    Segmentation, template, RR set, shape and placebo are named where they are not the default.
    """
    default = SignalSpec()
    parts = [params.get("input"), params.get("fusion")]
    parts += [
        params[name]
        for name in ("segmentation", "template", "morphology", "late_rr", "late_shape", "rr")
        if params.get(name) not in (None, getattr(default, name))
    ]
    short = {"embed_dim": "d", "heads": "h", "gate_init": "g"}
    values = [
        f"{letter}={_number(params[name])}" for name, letter in short.items() if name in params
    ]
    return " ".join([str(number), "/".join(str(part) for part in parts if part), *values])


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


class ShownStudy:
    """The facts that MLflow should show of a study, as the study was read."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._plan = study.plan

    @cached_property
    def attempts(self) -> dict[str, list[Any]]:
        """The attempts at each configuration that a worker had, first to last."""
        return {
            digest: attempts
            for digest, attempts in self.study.trials.attempts.items()
            if any(BEGAN in trial.user_attrs for trial in attempts)
        }

    @cached_property
    def _floors(self) -> dict[str, RunFacts]:
        return {run.digest: run for run in self._floor_runs()}

    def keys(self) -> list[Key]:
        """Return kind and digest of every run, the study's last: it ends after the others."""
        trials = [(TRIAL, digest) for digest in self.attempts]
        return [*trials, *((FLOOR, digest) for digest in self._floors), (STUDY, "")]

    def run(self, kind: str, digest: str) -> RunFacts | None:
        """Return the facts of a run; None where MLflow should have no run."""
        if kind == STUDY:
            return self.study_run()
        if kind == FLOOR:
            return self._floors.get(digest)
        return self._trial(digest) if digest in self.attempts else None

    def study_run(self) -> RunFacts:
        """Return the run of the study itself, once it has a start."""
        points, undefined = list[Point](), frozenset[str]()
        for start in self.study.starts:
            if start.ended_s is not None:
                # A resumed study has new figures: each end of a start is its own step.
                more, undefined = points_of(start.metrics, start.number, start.ended_s)
                points += more
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
        # The last attempt may not have had a worker yet.
        began = [float(t.user_attrs[BEGAN]) for t in attempts if BEGAN in t.user_attrs]
        points, undefined = _points(attempts)
        config = attrs[CONFIG]
        return RunFacts(
            kind=TRIAL,
            digest=digest,
            name=trial_name(last.number, config),
            params=with_absent(config),
            tags={
                **self._tags(self._start_at(began[-1])),
                Tag.ARM: current_word(attrs[Tag.ARM]),
                Tag.INPUT: config["input"],
                Tag.FUSION: config["fusion"],
                Tag.ATTEMPT: str(attrs[Tag.ATTEMPT]),
            },
            points=points,
            undefined=undefined,
            began_s=began[0],
            ended_s=began[-1] + attrs.get(SECONDS, 0.0) if outcome else None,
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
                params=with_absent({"fusion": floor.label, "floor": floor.name, **floor.settings}),
                tags=self._tags(self._start_at(floor.at_s)),
                points=tuple(points),
                undefined=undefined,
                began_s=floor.at_s,
                ended_s=floor.at_s,
                outcome=str(Outcome.COMPLETE),
            )

    def _start_at(self, time_s: float) -> Start | None:
        """Return the start that ran at a time; None where a clock was set back."""
        # Check every start: a clock set back may have put them out of order.
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


def _points(attempts: Sequence[Any]) -> tuple[tuple[Point, ...], frozenset[str]]:
    """Return a trial's metrics by epoch, and the names of those that were undefined."""
    points, undefined = list[Point](), frozenset[str]()
    for number, epoch in epochs_of(trial.user_attrs for trial in attempts).items():
        more, lost = points_of(epoch.metrics, number, epoch.at_s)
        points, undefined = points + more, undefined | lost
    return tuple(points), undefined
