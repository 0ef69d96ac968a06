"""Trials of an earlier study that inform a search's sampler, and are not counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial, create_trial

from study.errors import ConfigError, UsageError
from study.keys import Outcome
from study.spaces.optuna_space import distributions
from study.spaces.settings import SAMPLED
from study.spaces.space import Space
from study.store.study import Study
from study.store.trials import INFORMS, OBJECTIVE, STATES, TrialRow
from study.tuning.setup import Setup
from study.wording import plural


def informed(
    setup: Setup, name: str | None, existing: Study | None, workspace: Path
) -> tuple[Setup, list[FrozenTrial]]:
    """Return a search that starts from a study, and that study's trials if it lacks them yet.

    `name` is that study's, or None; `existing` is the search as earlier starts left it.

    Raises:
        UsageError: If there is no such study, or its trials tell the sampler nothing.
    """
    if not name:
        return setup, []
    setup = replace(setup, plan=replace(setup.plan, start_from=name))
    if existing is not None and existing.trials.attrs.get(INFORMS):
        return setup, []
    return setup, earlier_trials(Study.open(workspace, name).readable(), setup.space)


def earlier_trials(study: Study, space: Space) -> list[FrozenTrial]:
    """Return a study's scored trials whose parameters are a point of a search's space.

    Raises:
        UsageError: If the search's sampler learns nothing from them, they have another objective,
            or none is such a point.
    """
    option = f"--start-from {study.name}"
    if space.kind != "search" or space.sampler not in SAMPLED:
        raise UsageError(
            f"{option}: only a search by {' or '.join(SAMPLED)} learns from trials; this is by "
            f"{space.sampler}"
        )
    if study.objective != space.objective:
        raise UsageError(
            f"{option}: its trials have {study.objective}, and this search is for "
            f"{space.objective}"
        )
    found = [trial for row in study.rows if (trial := _trial(study.name, row, space))]
    if not found:
        raise UsageError(
            f"{option}: none of its {plural(len(study.rows), 'settled trial')} has a score and "
            f"parameters of space '{space.name}'"
        )
    return found


def _trial(study: str, row: TrialRow, space: Space) -> FrozenTrial | None:
    """Return a settled trial for another study's storage; None where the space lacks its point."""
    value = row.metrics.get(OBJECTIVE)
    if value is None or row.outcome is Outcome.FAILED:
        return None
    try:
        space.configuration(row.params)
    except ConfigError:
        return None
    complete = row.outcome is Outcome.COMPLETE
    return create_trial(
        state=STATES[row.outcome],
        value=value if complete else None,
        params=dict(row.params),
        distributions=distributions(space, row.params),
        intermediate_values={} if complete else {row.epochs: value},
        user_attrs={INFORMS: f"trial {row.number} of {study}"},
    )
