"""Attributes of a study in Optuna: each trial's epochs, each start of the driver.

Epochs are attributes of their trial, starts are attributes of the study. This is the only copy:
MLflow shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.files import from_json, to_json

METRICS = "metrics"
"""Key under which an epoch, an ended trial, an ended start and a file of scores keep metrics."""

EPOCH, START, END = "epoch", "start", "end"
"""Kinds of numbered attributes, such as `epoch:3`."""

BEGAN, TRACEBACK = "began", "traceback"
"""Attributes of a trial: when a worker first had it, s since 1970; the traceback of a failure."""


def name_of(kind: str, number: int) -> str:
    """Return the name of a numbered attribute."""
    return f"{kind}:{number}"


def numbered(kind: str, attrs: Mapping[str, Any]) -> dict[int, Any]:
    """Return the attributes of a kind by number, in order."""
    pairs = ((name.partition(":"), value) for name, value in attrs.items())
    values = {
        int(n): value for (attr_kind, _, n), value in pairs if attr_kind == kind and n.isdigit()
    }
    return dict(sorted(values.items()))


@dataclass(frozen=True, slots=True)
class Epoch:
    """The report of one epoch of a trial."""

    at_s: float  # when, seconds since 1970
    metrics: Mapping[str, float]  # NaN where one was undefined

    def attr(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        values = {name: float(value) for name, value in self.metrics.items()}
        return {"at": round(self.at_s, 3), METRICS: to_json(values)}


def epochs_of(attempts: Iterable[Mapping[str, Any]]) -> dict[int, Epoch]:
    """Return a configuration's epochs by number, from its attempts' attributes, first to last.

    Where an epoch ran again, after a loss of its worker or driver, its first report counts.
    """
    epochs: dict[int, Epoch] = {}
    for attrs in attempts:
        for number, value in numbered(EPOCH, attrs).items():
            epochs.setdefault(number, Epoch(value["at"], from_json(value[METRICS])))
    return dict(sorted(epochs.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start of the driver."""

    number: int  # counted from 1
    at_s: float  # when, seconds since 1970
    about: Mapping[str, str] = field(default_factory=dict)  # commit, versions and device
    ended_s: float | None = None  # when it ended; None while it runs, and where it was killed
    outcome: str = ""  # how it ended
    metrics: Mapping[str, float] = field(default_factory=dict)  # figures of the study at its end


def starts_of(attrs: Mapping[str, Any]) -> list[Start]:
    """Return the starts among a study's attributes, oldest first."""
    ends = {
        number: {**ended, METRICS: from_json(ended[METRICS])}
        for number, ended in numbered(END, attrs).items()
    }
    return [
        Start(number=number, **begun, **ends.get(number, {}))
        for number, begun in numbered(START, attrs).items()
    ]
