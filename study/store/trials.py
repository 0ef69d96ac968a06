"""Reads Optuna's trials: attempts at each configuration, their outcomes, those still owed.

An attempt is owed when its configuration must run again: after an interruption, or a loss of its
result files. The next attempt has the same digest. Optuna lets no attribute of a finished trial
change: a later mark is an attribute of the study, with the trial's number in its name. Reading
needs neither torch nor Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from study.config import TrialConfig
from study.files import csv_text
from study.keys import Outcome, Tag, current_word
from study.models.plugins.plugin import configuration_of
from study.store.history import METRICS, name_of, numbered

PROTECTED, DUPLICATE_OF = "protected", "duplicate_of"
INDEX, EPOCHS, SECONDS = "index", "epochs", "seconds"
OBJECTIVE, CONFIG, DRAW = "objective", "config", "draw"
PLAN, EXHAUSTED, CLOSED = "plan", "exhausted", "closed"
TRACKER = "tracker"
"""Attribute of the study: the store of its MLflow runs, without credentials."""
INFORMS = "informs"
"""Attribute of another study's trial, which only informs the sampler: where it is from."""
PLACE = "place"
"""Attribute of the study: folder and process of its last start."""

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


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks set on finished trials after their end."""

    # The attempt that followed, by the trial's number
    superseded: Mapping[int, int] = field(default_factory=dict)
    # Why its outcome does not count any more, by the trial's number
    withdrawn: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> Self:
        """Return the marks among a study's attributes."""
        return cls(numbered(SUPERSEDED, attrs), numbered(WITHDRAWN, attrs))

    def voids(self, number: int) -> bool:
        """Whether a mark says that a trial's outcome no longer counts."""
        return number in self.superseded or number in self.withdrawn


def row_of(trial: FrozenTrial, full_epochs: int) -> TrialRow:
    """Return a settled trial as a row of a table."""
    attrs = trial.user_attrs
    metrics = dict(attrs.get(METRICS, {}))
    value = trial.value if trial.state is TrialState.COMPLETE else _last(trial)
    if value is not None:
        metrics[OBJECTIVE] = value
    return TrialRow(
        number=trial.number,
        digest=attrs[Tag.DIGEST],
        arm=current_word(attrs[Tag.ARM]),
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
    """One trial, as every table sees it."""

    number: int  # number of the trial in the study
    digest: str  # digest of its configuration
    arm: str  # the arm that it belongs to (see `study.models.rules.arm`)
    params: Mapping[str, object]  # active parameters, by flat name
    outcome: Outcome  # how it ended
    full_epochs: int  # epochs of a full budget
    cause: str = ""  # why it ended so; empty for a complete trial
    # Final metrics by the names in `study.keys`; undefined ones are NaN or absent
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0  # epochs done
    seconds: float = 0.0  # wall time spent on it, s
    draw: int | None = None  # index of the nuisance draw in a compare study, else None

    def metric(self, name: str) -> float:
        """Return a final metric, NaN where it is absent."""
        return float(self.metrics.get(name, math.nan))

    def ranks(self, objective: str) -> bool:
        """Say whether this row may be compared: complete, full budget, finite."""
        return (
            self.outcome is Outcome.COMPLETE
            and self.epochs >= self.full_epochs
            and math.isfinite(self.metric(objective))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration to be evaluated, and where it came from."""

    config: TrialConfig  # what the trial trains
    digest: str  # identity of the configuration: equal digests mean equal training
    arm: str  # its arm
    params: Mapping[str, Any]  # the searched (or drawn) parameters only
    # Their Optuna distributions
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    index: int | None = None  # position in an enumerated sequence; None for a sampled proposal
    draw: int | None = None  # index of the nuisance draw in a compare study
    attempt: int = 1  # 1, or one more than the attempt that was interrupted
    follows: int | None = None  # number of that attempt's trial
    protected: bool = False  # never pruned: the first trial of its arm, at the space's defaults

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self:
        """Return the proposal that a trial was made from."""
        attrs = trial.user_attrs
        return cls(
            config=configuration_of(attrs[CONFIG]),
            digest=attrs[Tag.DIGEST],
            arm=current_word(attrs[Tag.ARM]),
            params=trial.params,
            index=attrs[INDEX],
            draw=attrs[DRAW],
            attempt=attrs[Tag.ATTEMPT],
            protected=attrs[PROTECTED],
        )


@dataclass(frozen=True, kw_only=True)
class Trials:
    """All trials of a study, as its storage had them at one moment."""

    all: tuple[FrozenTrial, ...] = ()  # Optuna's trials, in order of number
    attrs: Mapping[str, Any] = field(default_factory=dict)  # attributes of the Optuna study
    epochs: int = 1  # full budget of a trial
    running: bool = False  # whether a process runs the study: its open trials are not lost

    @cached_property
    def marks(self) -> Marks:
        """Marks set on finished trials after their end."""
        return Marks.of(self.attrs)

    @cached_property
    def attempts(self) -> dict[str, list[FrozenTrial]]:
        """The attempts at each configuration, first to last, by its digest."""
        by_digest: dict[str, list[FrozenTrial]] = {}
        for trial in self.all:
            # A trial without a digest was being proposed when its driver was killed.
            if Tag.DIGEST in trial.user_attrs and DUPLICATE_OF not in trial.user_attrs:
                by_digest.setdefault(trial.user_attrs[Tag.DIGEST], []).append(trial)
        return by_digest

    @cached_property
    def settled(self) -> tuple[FrozenTrial, ...]:
        """The last attempts whose outcome counts, one for each configuration, by number."""
        return self._last_attempts(settled=True)

    @cached_property
    def unsettled(self) -> tuple[FrozenTrial, ...]:
        """The last attempts at all other configurations that were begun, by number."""
        return self._last_attempts(settled=False)

    def _last_attempts(self, *, settled: bool) -> tuple[FrozenTrial, ...]:
        last = (attempts[-1] for attempts in self.attempts.values())
        chosen = [trial for trial in last if self._counts(trial) is settled]
        return tuple(sorted(chosen, key=lambda trial: trial.number))

    def _counts(self, trial: FrozenTrial) -> bool:
        outcome = trial.user_attrs.get(Tag.OUTCOME)
        return outcome in COUNTED and not self.marks.voids(trial.number)

    @cached_property
    def rows(self) -> tuple[TrialRow, ...]:
        """Every settled configuration as a row of a table, in order of number."""
        return tuple(row_of(trial, self.epochs) for trial in self.settled)

    @cached_property
    def counted(self) -> tuple[TrialRow, ...]:
        """The rows that count towards the trials of the plan.

        After a screening, a trial in full counts while its configuration is its arm's best: a
        screening that is made longer may find a better one.
        """
        best = {_params(row) for row in best_screened(self.rows).values()}
        pairs = zip(self.rows, self.settled, strict=True)
        return tuple(
            row
            for row, trial in pairs
            if not best or trial.user_attrs[CONFIG]["epochs"] < self.epochs or _params(row) in best
        )

    @property
    def proposals(self) -> list[tuple[TrialRow, Proposal]]:
        """Every settled configuration with its proposal."""
        pairs = zip(self.rows, self.settled, strict=True)
        return [(row, Proposal.of(trial)) for row, trial in pairs]

    @property
    def live(self) -> list[FrozenTrial]:
        """Trials that are running."""
        return [t for t in self.unsettled if self.running and not t.state.is_finished()]

    @property
    def owed(self) -> list[FrozenTrial]:
        """Interrupted or withdrawn last attempts, by number."""
        return [t for t in self.unsettled if not self.running or t.state.is_finished()]

    def retrying(self) -> Self:
        """Return these trials as `--retry-failed` leaves them: each that failed is owed again."""
        failed = {
            name_of(WITHDRAWN, row.number): row.cause
            for row in self.rows
            if row.outcome is Outcome.FAILED
        }
        attrs = {**self.attrs, **failed, EXHAUSTED: False}  # as each withdrawal leaves it
        return replace(self, attrs=attrs) if failed else self

    def why_owed(self, trial: FrozenTrial) -> str:
        """Return the reason why a trial must run again."""
        withdrawn = self.marks.withdrawn.get(trial.number)
        return str(withdrawn or trial.user_attrs.get(Tag.CAUSE) or "the driver ended")

    @property
    def exhausted(self) -> bool:
        """Whether the space ran out of new configurations."""
        return bool(self.attrs.get(EXHAUSTED))

    @property
    def superseded(self) -> list[tuple[int, int]]:
        """Attempts that a later attempt followed, each with that one, by number."""
        return sorted(
            (earlier.number, later.number)
            for attempts in self.attempts.values()
            for earlier, later in pairwise(attempts)
        )

    @property
    def n_repeats(self) -> int:
        """Number of proposals that repeated an earlier configuration."""
        return sum(DUPLICATE_OF in trial.user_attrs for trial in self.all)

    @property
    def curves(self) -> dict[int, dict[int, float]]:
        """The objective by epoch of the last attempt at each configuration, by number."""
        return {
            attempts[-1].number: dict(sorted(attempts[-1].intermediate_values.items()))
            for attempts in self.attempts.values()
        }

    @property
    def next_index(self) -> int:
        """The first index of the enumerated sequence that was never proposed."""
        taken = [
            trial.user_attrs[INDEX]
            for trial in self.all
            if trial.user_attrs.get(INDEX) is not None and Tag.DIGEST in trial.user_attrs
        ]
        return max(taken, default=-1) + 1

    def rung_correlation(self) -> tuple[float, int]:
        """Return Spearman's rho between early and final objective, and n finished trials.

        The early objective is the one at the first rung, or at the screening's end.
        """
        screened = {
            _point(trial): trial.intermediate_values[trial.last_step]
            for trial in self.settled
            if trial.user_attrs[Tag.OUTCOME] == Outcome.SCREENED and trial.last_step is not None
        }
        first_rung = rungs(self.epochs, 2)[0]
        pairs = []
        for trial in self.settled:
            own = trial.intermediate_values.get(first_rung)
            early = screened.get(_point(trial)) if screened else own
            if trial.state is TrialState.COMPLETE and early is not None:
                pairs.append((early, trial.value))
        early_values, final_values = np.asarray(pairs, dtype=float).reshape(-1, 2).T
        if len(pairs) < 3 or np.ptp(early_values) == 0 or np.ptp(final_values) == 0:
            return math.nan, len(pairs)
        from scipy.stats import spearmanr  # imported here, so that a start does not wait for it

        return float(spearmanr(early_values, final_values).statistic), len(pairs)


def best_screened(rows: Iterable[TrialRow]) -> dict[str, TrialRow]:
    """Return each arm's best screened trial; of equally good ones, the first."""
    best: dict[str, TrialRow] = {}
    for row in sorted(rows, key=lambda row: row.number):
        value = row.metric(OBJECTIVE)
        if row.outcome is Outcome.SCREENED and (
            row.arm not in best or value > best[row.arm].metric(OBJECTIVE)
        ):
            best[row.arm] = row
    return best


def _params(row: TrialRow) -> frozenset[tuple[str, Any]]:
    return frozenset(row.params.items())


def _point(trial: FrozenTrial) -> frozenset[tuple[str, Any]]:
    return frozenset(trial.params.items())


def rungs(epochs: int, reduction_factor: int) -> list[int]:
    """Return the epochs after which a trial may be pruned, the first at a third of the budget.

    A budget of one epoch has one rung, at its end.
    """
    rung = max(1, math.ceil(epochs / 3))
    listed = [rung]
    while (rung := rung * reduction_factor) < epochs:
        listed.append(rung)
    return listed


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """Return all trials as CSV, a line each; columns have the names of MLflow's search."""
    plain = ["number", "digest", "arm", "outcome", "cause", "epochs", "full_epochs", "seconds"]
    plain += ["draw"]
    params = dict.fromkeys(name for row in rows for name in row.params)
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    # Prefixed: learning_rate is a parameter and, as it anneals, a metric.
    names = [f"params.{name}" for name in params] + [f"metrics.{name}" for name in metrics]
    cells = [
        [getattr(row, name) for name in plain]
        + [row.params.get(name) for name in params]
        + [row.metrics.get(name) for name in metrics]
        for row in sorted(rows, key=lambda row: row.number)
    ]
    return csv_text([*plain, *names], cells)
