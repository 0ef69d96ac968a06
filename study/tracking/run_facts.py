"""What a run of MLflow is to show: plain values, of a study, a trial, a floor, a tested arm.

Nothing here talks to MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from study.config import SignalSpec
from study.keys import Outcome, Tag

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
"""Characters of a tag or parameter that every MLflow store takes."""


class Point(NamedTuple):
    """A value of a metric."""

    name: str
    step: int
    value: float
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run as it is to be."""

    kind: str  # `study`, `trial` or `floor`
    name: str  # what the MLflow UI shows
    # Of its configuration; empty for a study. A study has one run of a kind and digest.
    digest: str = ""
    # Parameters; MLflow never lets one change
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)  # tags besides those of its end
    points: tuple[Point, ...] = ()  # metrics that are finite, each step of a metric once
    undefined: frozenset[str] = frozenset()  # names of the metrics that were not
    began_s: float  # when it began, seconds since 1970
    ended_s: float | None = None  # when it ended
    outcome: str = ""  # how; empty while it runs
    cause: str = ""  # why it ended so

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other runs of its study."""
        return self.kind, self.digest

    @property
    def status(self) -> str:
        """What MLflow is to call its state."""
        if not self.outcome:
            return RUNNING
        return STATUS[Outcome(self.outcome)] if self.outcome in set(Outcome) else "FINISHED"

    @property
    def identity(self) -> dict[str, str]:
        """The tags by which it is found among the runs of its study, or of the experiment."""
        if self.kind != STUDY:
            return {Tag.KIND: self.kind, Tag.DIGEST: self.digest}
        names = [Tag.STUDY, Tag.STUDY_ID] if Tag.STUDY_ID in self.tags else [Tag.STUDY]
        return {Tag.KIND: STUDY, **{name: self.tags[name] for name in names}}

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
        Point(name, step, float(value), in_ms(at_s))
        for name, value in metrics.items()
        if math.isfinite(value)
    ]
    return finite, frozenset(metrics) - {point.name for point in finite}


def in_ms(at_s: float) -> int:
    """Return a time as MLflow keeps it."""
    return int(1000 * at_s)


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Return parameters or tags as MLflow keeps them: as text of bounded length."""
    return {name: shortened(str(value)) for name, value in values.items()}


def shortened(text: str) -> str:
    """Return a text cut to what a store takes, saying so."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 6]} (...)"


def trial_name(number: int, params: Mapping[str, object]) -> str:
    """Return the name of a trial's run, such as `12 opt3/film d=64 g=-2`.

    Segmentation, RR set and placebo are named where they are not the default.
    """
    default = SignalSpec()
    parts = [params.get("input"), params.get("fusion")]
    parts += [
        params[name]
        for name in ("segmentation", "late_rr", "rr")
        if params.get(name) not in (None, getattr(default, name))
    ]
    short = {"embed_dim": "d", "heads": "h", "gate_init": "g"}
    values = [
        f"{letter}={_number(params[name])}" for name, letter in short.items() if name in params
    ]
    return " ".join([str(number), "/".join(str(part) for part in parts if part), *values])


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
