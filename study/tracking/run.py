"""One MLflow run while it is open: what is stored of it and what is still to be sent.

Nothing here talks to MLflow. What cannot be sent stays in the run and goes with its next write,
so that a tracker that was away for a while still ends up with everything.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from study.config import SignalSpec
from study.keys import Tag

UNDEFINED = "undefined_metrics"
"""Tag that names the metrics left out because they were NaN or infinite."""

MAX_TEXT = 5000
"""Characters of a tag or parameter that every MLflow store takes."""


@dataclass(slots=True, kw_only=True)
class Ending:
    """How a run is to be closed: its MLflow status and the files that go with it."""

    status: str
    artifacts: list[Path]

    def keep_files(self, folder: Path) -> None:
        """Copy the files that could not be sent: their owner may delete them."""
        kept = []
        for path in self.artifacts:
            if path.is_dir():
                kept.append(Path(shutil.copytree(path, folder / path.name)))
            elif path.exists():
                kept.append(Path(shutil.copy(path, folder)))
        self.artifacts = kept


@dataclass(slots=True, kw_only=True)
class Run:
    """A run of this session.

    Args:
        name: What the MLflow UI shows.
        tags: Tags not sent yet.
        params: Parameters not sent yet; MLflow never lets one change.
        run_id: Id of the stored run to open; None creates one.
        digest: Digest of a trial's configuration; empty for a study.
        opened: Whether the run exists in the store and is open.
        points: Metric points not sent yet: name, value, step.
        seen: Metric names and steps that were sent or are waiting.
        undefined: Names of metrics that were left out.
        last_step: Last epoch recorded.
        ending: How to close it; None while it goes on.
    """

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    run_id: str | None = None
    digest: str = ""
    opened: bool = False
    points: list[tuple[str, float, int]] = field(default_factory=list)
    seen: set[tuple[str, int]] = field(default_factory=set)
    undefined: set[str] = field(default_factory=set)
    last_step: int = 0
    ending: Ending | None = None

    def add_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue metrics of a step; what the run has already is left, what is not finite named."""
        self.last_step = max(self.last_step, step)
        for name, value in metrics.items():
            if (name, step) in self.seen:
                continue
            if math.isfinite(value):
                self.seen.add((name, step))
                self.points.append((name, float(value), step))
            else:
                self.undefined.add(name)
                self.tags[UNDEFINED] = shortened(", ".join(sorted(self.undefined)))

    def recall(
        self, tags: Mapping[str, str], params: Mapping[str, str], seen: set[tuple[str, int]]
    ) -> dict[str, tuple[str, str]]:
        """Take over what the store has of this run and return the parameters that differ.

        Args:
            tags: Stored tags.
            params: Stored parameters.
            seen: Stored metric names and steps.

        Returns:
            By name, the stored and the new value of each parameter that differs: the stored one
            stays, since MLflow never changes a parameter.
        """
        self.seen |= seen
        self.last_step = max([self.last_step, *(step for _, step in seen)])
        self.undefined |= set(filter(None, tags.get(UNDEFINED, "").split(", ")))
        differing = {
            name: (params[name], value)
            for name, value in self.params.items()
            if params.get(name, value) != value
        }
        self.params = {name: v for name, v in self.params.items() if name not in params}
        return differing

    def end(
        self,
        status: str,
        outcome: str,
        cause: str,
        *,
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Queue the ending: its tags, MLflow's status and the files to send before it."""
        why = {Tag.CAUSE: cause} if cause else {}
        self.tags |= as_text({**(tags or {}), Tag.OUTCOME: outcome, **why})
        self.ending = Ending(status=status, artifacts=list(artifacts))

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
