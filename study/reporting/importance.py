"""Importance of searched parameters, where the trials suffice to estimate it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution

from study.keys import Outcome
from study.reporting.results import Importance
from study.spaces.optuna_space import distribution
from study.spaces.space import Space
from study.store.trials import TrialRow
from study.wording import plural

ENOUGH_TRIALS = 20
"""With fewer trials of one budget, shares of variance are mostly noise."""


def of_one_budget(rows: Sequence[TrialRow], objective: str) -> tuple[list[TrialRow], str]:
    """Return the largest set of trials with equally many epochs, and their outcome.

    A screening trains every configuration for one epoch, and only one of each arm in full.
    """
    screened = [row for row in rows if row.outcome is Outcome.SCREENED]
    if screened:
        return screened, str(Outcome.SCREENED)
    return [row for row in rows if row.ranks(objective)], str(Outcome.COMPLETE)


def importance(
    rows: Sequence[TrialRow], objective: str, space: Space, gaps: dict[str, str]
) -> Importance | None:
    """Return the share of the objective's variance of each parameter, by fANOVA.

    Hutter, Hoos & Leyton-Brown 2014, proceedings.mlr.press/v32/hutter14. Only parameters that
    every trial has are used: a conditional one has no value where its condition does not hold. The
    reason for a missing result goes into `gaps`.
    """
    if space.kind != "search":
        gaps["importance"] = "only a search varies parameters freely"
        return None
    ranked, kind = of_one_budget(rows, objective)
    if len(ranked) < ENOUGH_TRIALS:
        gaps["importance"] = (
            f"{plural(len(ranked), f'{kind} trial')}; {ENOUGH_TRIALS} are needed to say more "
            "than noise"
        )
        return None
    shared: dict[str, BaseDistribution] = {
        param.name: distribution(param)
        for param in space.params
        if all(param.name in row.params for row in ranked)
        and len({str(row.params[param.name]) for row in ranked}) > 1
    }
    if not shared:
        gaps["importance"] = "no parameter varies in all trials"
        return None
    study = optuna.create_study(direction="maximize")
    for row in ranked:
        params = {name: row.params[name] for name in shared}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=shared, value=row.metric(objective)
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return Importance(shares=shares, trials=len(ranked), kind=kind)
