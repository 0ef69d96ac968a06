"""One MLflow run while it is open: what is stored of it and what is still to be sent.

Nothing here talks to MLflow. What could not be sent stays in the run, less what turns out to have
arrived, and goes with the next try.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from study.config import SignalSpec
from study.keys import Tag

UNDEFINED = "undefined_metrics"
"""Tag that names the metrics left out because they were NaN or infinite."""

MAX_TEXT = 5000
"""Characters of a tag or parameter that every MLflow store takes."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run of this session.

    Args:
        name: What the MLflow UI shows.
        tags: Tags not sent yet.
        params: Parameters not sent yet; MLflow never lets one change.
        identity: Tags that no other run has together; without any it is always a new run.
        began_ms: When it began, where it does not exist yet; None is now.
        run_id: Id of the stored run; None looks for its identity.
        opened: Whether the run is known to be in the store as it is here, and open.
        points: Metric points not sent yet: name, value, step, time in ms.
        seen: Metric names and steps that were sent or are waiting.
        step_at: Step of the metrics of each time in ms.
        undefined: Names of metrics that were left out.
        last_step: Last epoch recorded.
    """

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    identity: Mapping[str, str] = field(default_factory=dict)
    began_ms: int | None = None
    run_id: str | None = None
    opened: bool = False
    points: list[tuple[str, float, int, int]] = field(default_factory=list)
    seen: set[tuple[str, int]] = field(default_factory=set)
    step_at: dict[int, int] = field(default_factory=dict)
    undefined: set[str] = field(default_factory=set)
    last_step: int = 0

    def add_metrics(self, metrics: Mapping[str, float], step: int, at_ms: int) -> None:
        """Queue metrics of a step; what the run has already is left, what is not finite named."""
        self.last_step = max(self.last_step, step)
        self.step_at[at_ms] = step
        for name, value in metrics.items():
            if (name, step) in self.seen:
                continue
            if math.isfinite(value):
                self.seen.add((name, step))
                self.points.append((name, float(value), step, at_ms))
            else:
                self.undefined.add(name)
                self.tags[UNDEFINED] = shortened(", ".join(sorted(self.undefined)))

    def recall(
        self,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        points: Collection[tuple[str, int, int]],
    ) -> dict[str, tuple[str, str]]:
        """Take over what the store has of this run and return the parameters that differ.

        Args:
            tags: Stored tags.
            params: Stored parameters.
            points: Stored metric names, steps and times in ms.

        Returns:
            By name, the stored and the new value of each parameter that differs: the stored one
            stays, since MLflow never changes a parameter.
        """
        stored = {(name, step) for name, step, _ in points}
        self.step_at |= {at_ms: step for _, step, at_ms in points}
        # An answer that was lost on its way left them waiting here.
        self.points = [point for point in self.points if (point[0], point[2]) not in stored]
        self.seen |= stored
        self.last_step = max([self.last_step, *(step for _, step in stored)])
        self.undefined |= set(filter(None, tags.get(UNDEFINED, "").split(", ")))
        differing = {
            name: (params[name], value)
            for name, value in self.params.items()
            if params.get(name, value) != value
        }
        self.params = {name: v for name, v in self.params.items() if name not in params}
        return differing

    def end(self, outcome: str, cause: str, tags: Mapping[str, str] | None = None) -> None:
        """Queue the tags of its ending."""
        why = {Tag.CAUSE: cause} if cause else {}
        self.tags |= as_text({**(tags or {}), Tag.OUTCOME: outcome, **why})

    def sent(self) -> None:
        """Forget what has been written."""
        self.points.clear()
        self.params.clear()
        self.tags.clear()


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
