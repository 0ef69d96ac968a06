"""What Optuna's trials say: the attempts at each configuration, how they ended, what is owed.

A configuration may have several attempts: an interrupted one is followed by another under the same
digest, and so is one whose result files were lost. Optuna lets no attribute of a finished trial
change: what is said of one later is an attribute of the study that has its number in its name.

Neither torch nor Ray is needed to read any of it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from study.keys import Outcome, Tag

PROTECTED, DUPLICATE_OF, RUN_ID = "protected", "duplicate_of", "mlflow_run_id"
INDEX, METRICS, EPOCHS, SECONDS = "index", "metrics", "epochs", "seconds"
OBJECTIVE, CONFIG, DRAW = "objective", "config", "draw"
PLAN, EXHAUSTED, TRACKED = "plan", "exhausted", "tracked"
PLACE = "place"
"""Folder and process of the last start."""

SUPERSEDED, WITHDRAWN = "superseded", "withdrawn"
"""Marks of finished trials: the number of the attempt that followed; why it is owed again."""

STATES = {
    Outcome.COMPLETE: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    # Samplers learn from pruned trials, and rank them behind complete ones.
    Outcome.SCREENED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
    Outcome.STOPPED: TrialState.FAIL,
}
"""What Optuna calls an outcome."""

COUNTED = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.SCREENED, Outcome.FAILED)
"""Outcomes that settle a configuration."""


def mark(kind: str, number: int) -> str:
    """Return the name of the study's attribute that marks a trial."""
    return f"{kind}:{number}"


@dataclass(frozen=True, slots=True)
class Marks:
    """What was said of finished trials later.

    Args:
        superseded: The attempt that followed, by the trial's number.
        withdrawn: Why its outcome does not count any more, by the trial's number.
    """

    superseded: Mapping[int, int] = field(default_factory=dict)
    withdrawn: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> Self:
        """Return the marks among a study's attributes."""
        found: dict[str, dict[int, Any]] = {SUPERSEDED: {}, WITHDRAWN: {}}
        for name, value in attrs.items():
            kind, _, number = name.partition(":")
            if kind in found and number.isdigit():
                found[kind][int(number)] = value
        return cls(found[SUPERSEDED], found[WITHDRAWN])

    def aside(self, number: int) -> bool:
        """Whether a trial's outcome counts no more."""
        return number in self.superseded or number in self.withdrawn


def is_attempt(trial: FrozenTrial) -> bool:
    """Whether a trial was opened to be run: no repeat, and none cut off while it was proposed."""
    return Tag.DIGEST in trial.user_attrs and DUPLICATE_OF not in trial.user_attrs


def attempts(trials: Iterable[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """Return the attempts at each configuration, first to last, by its digest."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if is_attempt(trial):
            found.setdefault(trial.user_attrs[Tag.DIGEST], []).append(trial)
    return found


def settled(trials: Iterable[FrozenTrial], marks: Marks) -> Iterator[FrozenTrial]:
    """Yield the trials whose outcome counts, one a configuration."""
    for trial in trials:
        outcome = trial.user_attrs.get(Tag.OUTCOME)
        if outcome in COUNTED and trial.state.is_finished() and not marks.aside(trial.number):
            yield trial


def owed(trials: Iterable[FrozenTrial], marks: Marks) -> list[FrozenTrial]:
    """Return the last attempts that were interrupted or withdrawn, in order of number."""
    last = [tries[-1] for tries in attempts(trials).values()]
    return sorted(
        (
            trial
            for trial in last
            if trial.user_attrs.get(Tag.OUTCOME) == Outcome.STOPPED
            or trial.number in marks.withdrawn
        ),
        key=lambda trial: trial.number,
    )


def unmarked(trials: Iterable[FrozenTrial], marks: Marks) -> dict[int, int]:
    """Return the attempts that another followed and that do not say so, each with its follower."""
    return {
        earlier.number: later.number
        for tries in attempts(trials).values()
        for earlier, later in pairwise(tries)
        if earlier.number not in marks.superseded
    }


def row_of(trial: FrozenTrial, full_epochs: int) -> TrialRow:
    """Return a settled trial as a row of a table.

    Args:
        trial: The trial.
        full_epochs: Full budget of a trial of its study.
    """
    attrs = trial.user_attrs
    metrics = dict(attrs.get(METRICS, {}))
    value = trial.value if trial.state is TrialState.COMPLETE else _last(trial)
    if value is not None:
        metrics[OBJECTIVE] = value
    return TrialRow(
        number=trial.number,
        digest=attrs[Tag.DIGEST],
        arm=attrs[Tag.ARM],
        params=dict(trial.params),
        outcome=Outcome(attrs[Tag.OUTCOME]),
        cause=attrs.get(Tag.CAUSE, ""),
        metrics=metrics,
        epochs=attrs.get(EPOCHS, 0),
        seconds=attrs.get(SECONDS, 0.0),
        full_epochs=full_epochs,
        draw=attrs.get(DRAW),
    )


def _last(trial: FrozenTrial) -> float | None:
    return trial.intermediate_values[trial.last_step] if trial.last_step is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial, as every table sees it.

    Args:
        number: Number of the trial in the study.
        digest: Digest of its configuration.
        arm: What is compared (see `study.models.rules.arm`).
        params: Active parameters, by flat name.
        outcome: How it ended.
        cause: Why it ended so; empty for a complete trial.
        metrics: Final metrics by the names of `study.keys`; undefined ones are NaN or absent.
        epochs: Epochs done.
        full_epochs: Epochs of a full budget; None takes the outcome's word for it.
        seconds: Wall time spent on it, s.
        draw: Index of the nuisance draw in a compare study, else None.
        duplicate_of: Number of the trial that had this configuration first, else None.
    """

    number: int
    digest: str
    arm: str
    params: Mapping[str, object]
    outcome: Outcome
    cause: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    full_epochs: int | None = None
    seconds: float = 0.0
    draw: int | None = None
    duplicate_of: int | None = None

    def metric(self, name: str) -> float:
        """Return a final metric, NaN where it is absent."""
        return float(self.metrics.get(name, math.nan))

    def ranks(self, objective: str) -> bool:
        """Say whether this row may be compared: complete, full budget, finite, not a repeat."""
        return (
            self.outcome is Outcome.COMPLETE
            and self.duplicate_of is None
            and (self.full_epochs is None or self.epochs >= self.full_epochs)
            and math.isfinite(self.metric(objective))
        )


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """Return all trials as CSV, a line each; columns are named as MLflow's search names them."""
    plain = ["number", "digest", "arm", "outcome", "cause", "epochs", "full_epochs", "seconds"]
    plain += ["draw", "duplicate_of"]
    params = dict.fromkeys(name for row in rows for name in row.params)
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    text = io.StringIO()
    # Prefixed: learning_rate is a parameter and, as it anneals, a metric.
    names = [f"params.{name}" for name in params] + [f"metrics.{name}" for name in metrics]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *names])
    for row in sorted(rows, key=lambda row: row.number):
        values = [getattr(row, name) for name in plain]
        values += [row.params.get(name) for name in params]
        writer.writerow([*values, *(row.metrics.get(name) for name in metrics)])
    return text.getvalue()


def read_trials_csv(text: str) -> list[TrialRow]:
    """Return the rows of a file that `trials_csv` wrote; parameters as text."""
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        params, metrics = (
            {
                name.removeprefix(f"{group}."): value
                for name, value in line.items()
                if name.startswith(f"{group}.") and value != ""
            }
            for group in ("params", "metrics")
        )
        full_epochs, draw, duplicate_of = (
            int(line[name]) if line[name] else None
            for name in ("full_epochs", "draw", "duplicate_of")
        )
        rows.append(
            TrialRow(
                number=int(line["number"]),
                digest=line["digest"],
                arm=line["arm"],
                params=params,
                outcome=Outcome(line["outcome"]),
                cause=line["cause"],
                metrics={name: float(value) for name, value in metrics.items()},
                epochs=int(line["epochs"]),
                full_epochs=full_epochs,
                seconds=float(line["seconds"]),
                draw=draw,
                duplicate_of=duplicate_of,
            )
        )
    return rows
