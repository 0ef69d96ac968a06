"""Gathers what a study's alarms are computed from: its trials, predictions, floors and space."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from study.config import PARAMETERS, TrialConfig
from study.errors import StudyStateError
from study.keys import Outcome, metric
from study.models import rules
from study.reporting.alarms import (
    Alarm,
    failure_alarms,
    floor_alarms,
    in_order,
    reliance_alarms,
    rung_alarms,
    screening_alarm,
)
from study.reporting.prediction_alarms import (
    PredictionFacts,
    constant_alarms,
    describe_predictions,
    no_effect_alarms,
)
from study.spaces.space import Space
from study.statistics.findings import metric_name
from study.store.storage import Storage
from study.store.study_floors import StudyFloor
from study.store.trial_files import read_predictions
from study.store.trials import TrialRow

_logger = logging.getLogger(__name__)


def study_alarms(
    space: Space,
    rows: Sequence[TrialRow],
    storage: Storage,
    fold: NDArray[np.int64],
    *,
    floors: Sequence[StudyFloor] = (),
    rungs: tuple[float, int] | None = None,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[Alarm]:
    """Return a study's alarms, what reaches furthest first.

    Args:
        space: What it varied, overrides included.
        rows: Its settled trials; parameters may be text, as a CSV has them.
        storage: Where the trials' files are.
        fold: [N] validation fold of each beat; -1 where it is in none.
        floors: Its floors.
        rungs: Rank correlation of first-rung and final score, and finished trials; None where
            nothing was stopped early.
        intervals: By arm, the ends of its objective's interval; without, the best trial of each
            arm stands for it, in AUPRC S and V always.
    """
    configs = _configurations(space, rows)
    rows = [
        replace(row, params=rules.active_parameters(configs[row.number]))
        if row.number in configs
        else row
        for row in rows
    ]
    facts = _facts(rows, storage, fold)
    return in_order(
        [
            *constant_alarms(rows, facts),
            *failure_alarms(rows),
            *no_effect_alarms(rows, facts),
            *reliance_alarms(rows, _given_rr(rows, configs)),
            *(rung_alarms(*rungs) if rungs is not None else ()),
            *([screening_alarm()] if space.n_finals else ()),
            *_below_floors(rows, floors, space.objective, intervals),
        ]
    )


def _below_floors(
    rows: Sequence[TrialRow],
    floors: Sequence[StudyFloor],
    objective: str,
    intervals: Mapping[str, tuple[float, float]] | None,
) -> list[Alarm]:
    """Hold arms against the floors in the objective and, as points, in AUPRC S and V."""
    alarms = []
    for name in dict.fromkeys([objective, metric("auprc", "S"), metric("auprc", "V")]):
        ends = _best(rows, name)
        if name == objective:
            # An arm that is not estimable keeps its point.
            ends |= intervals or {}
        values = {f.name.replace("_", " "): f.metrics[name] for f in floors if name in f.metrics}
        alarms += floor_alarms(ends, values, metric_name(name))
    return alarms


def _configurations(space: Space, rows: Sequence[TrialRow]) -> dict[int, TrialConfig]:
    """Return the configuration of each trial that has one in the space, by its number."""
    if space.kind == "compare":
        points = {(point.arm, point.draw): point.config for point in space.comparisons()}
        keys = {row.number: (row.arm, row.draw or 0) for row in rows}
        return {number: points[key] for number, key in keys.items() if key in points}
    return {
        row.number: space.configuration(
            {name: PARAMETERS[name](value) for name, value in row.params.items()}
        )
        for row in rows
        if row.params.keys() <= PARAMETERS.keys()
    }


def _facts(
    rows: Sequence[TrialRow], storage: Storage, fold: NDArray[np.int64]
) -> dict[str, PredictionFacts]:
    facts = {}
    for row in rows:
        complete = row.outcome is Outcome.COMPLETE
        try:
            arrays = read_predictions(storage, row.digest, n_beats=len(fold)) if complete else None
        except StudyStateError as error:
            _logger.warning("alarms without trial %d: %s", row.number, error)
            continue
        if arrays is not None:
            facts[row.digest] = describe_predictions(arrays["log_probs"], fold)
    return facts


def _given_rr(rows: Sequence[TrialRow], configs: Mapping[int, TrialConfig]) -> dict[str, bool]:
    """Return, for arms that are given real RR as a number, whether it can reach the output."""
    can_use_rr = {}
    for row in rows:
        config = configs.get(row.number)
        if config is not None and config.signal.rr == "real":
            option = config.signal.option
            if option.early_rr or option.late_rr:
                can_use_rr[row.arm] = rules.rr_routes(config).inputs
    return can_use_rr


def _best(rows: Sequence[TrialRow], name: str) -> dict[str, tuple[float, float]]:
    """Return the highest score of each arm's comparable trials, as both ends of an interval."""
    best: dict[str, tuple[float, float]] = {}
    for row in rows:
        if row.ranks(name):
            value = max(row.metric(name), *best.get(row.arm, (-np.inf,)))
            best[row.arm] = (value, value)
    return best
