"""All alarms of a study; those from its predictions: parameters without effect, constant models.

Shapes: S seeds, N beats, C classes, P partitions into folds.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from study.config import TrialConfig
from study.errors import StudyStateError
from study.keys import CLASSES, Outcome
from study.models import rules
from study.reporting.alarms import (
    Alarm,
    Severity,
    below_floor_alarms,
    failure_alarms,
    floor_alarms,
    in_order,
    reliance_alarms,
    rung_alarms,
    screening_alarm,
)
from study.reporting.trial_tables import mean_scores
from study.statistics.findings import Comparison
from study.store.floors import StudyFloor
from study.store.study import Study
from study.store.trials import TrialRow
from study.wording import first_few, listing, plural

_logger = logging.getLogger(__name__)

ROUNDING = 1e-4
"""Largest difference of log-probabilities that the order of summation alone causes in training."""

_FLAT = 1e-6
"""Log-probabilities within a smaller range count as the same."""

_SAMPLED_BEATS = 500


def study_alarms(
    study: Study, *, comparison: Comparison | None, floors: Sequence[StudyFloor] = ()
) -> list[Alarm]:
    """Return the alarms of a study whose beats were prepared, the most severe first."""
    configs = study.configs
    rows = [
        replace(row, params=rules.active_parameters(configs[row.number])) for row in study.rows
    ]
    ranked = [row for row in rows if row.ranks(study.objective)]
    facts = _facts(study)
    stopped_early = study.plan.scheduler == "asha"
    return in_order(
        [
            *constant_alarms(rows, facts),
            *failure_alarms(rows),
            *no_effect_alarms(rows, facts),
            *reliance_alarms(ranked, _given_rr(rows, configs)),
            *(rung_alarms(*study.trials.rung_correlation()) if stopped_early else ()),
            *([screening_alarm()] if study.space.n_finals else ()),
            *_of_floors(study, ranked, comparison, floors),
        ]
    )


def _of_floors(
    study: Study,
    ranked: Sequence[TrialRow],
    comparison: Comparison | None,
    floors: Sequence[StudyFloor],
) -> list[Alarm]:
    """Hold the arms against the highest floor: on the same patients, or else by their scores."""
    if comparison is not None and comparison.above_floor:
        return floor_alarms(comparison)
    searches = study.plan.kind == "search"
    scores = study.arm_scores if searches else mean_scores(ranked, study.objective)
    return below_floor_alarms(scores, floors, study.objective)


def _facts(study: Study) -> dict[str, PredictionFacts]:
    facts = {}
    for row in study.rows:
        if row.outcome is not Outcome.COMPLETE:
            continue
        try:
            log_probs = study.predictions(row)["log_probs"]
        except StudyStateError as error:
            _logger.warning("alarms without trial %d: %s", row.number, error)
            continue
        facts[row.digest] = describe_predictions(log_probs, study.beats.fold)
    return facts


def _given_rr(rows: Sequence[TrialRow], configs: Mapping[int, TrialConfig]) -> dict[str, bool]:
    """Return the arms with real RR in channels or a late vector: can it reach the output?"""
    can_use_rr = {}
    for row in rows:
        config = configs[row.number]
        if config.signal.rr == "real":
            option = config.signal.option
            if option.early_rr or option.late_rr:
                can_use_rr[row.arm] = rules.rr_routes(config).inputs
    return can_use_rr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionFacts:
    """The facts of a trial's predictions that alarms use."""

    digest: str  # digest: equal for predictions that are equal to the last bit
    # [S, M, C] log-probabilities of M sampled beats, to find nearly equal predictions
    sample: NDArray[np.float32]
    members: int  # number of models behind them
    flat: int  # number of members whose log-probabilities do not vary from beat to beat
    one_class: Mapping[str, int]  # by class, number of members that decide for it in every beat

    def alike(self, other: PredictionFacts) -> bool:
        """Whether predictions differ no more than by the order of summation."""
        same_shape = self.sample.shape == other.sample.shape
        return same_shape and bool(np.abs(self.sample - other.sample).max() <= ROUNDING)


def describe_predictions(
    log_probs: NDArray[np.float32], fold: NDArray[np.int64]
) -> PredictionFacts:
    """Return the facts of out-of-fold predictions.

    `log_probs` is [S, N, C]; `fold` [P, N] is the validation fold of each beat in each partition,
    -1 for none.
    """
    flat, one_class = 0, dict.fromkeys(CLASSES, 0)
    folds = range(int(fold.max(initial=-1)) + 1)
    for seed, of_seed in enumerate(log_probs):
        for member in (of_seed[fold[seed % len(fold)] == k] for k in folds):
            flat += bool(np.ptp(member, axis=0).max() < _FLAT)
            decided = np.unique(member.argmax(axis=1))
            if len(decided) == 1:
                one_class[CLASSES[decided[0]]] += 1
    predicted = np.ascontiguousarray(log_probs[:, fold[0] >= 0])
    return PredictionFacts(
        digest=hashlib.sha256(predicted.data).hexdigest(),
        sample=predicted[:, :: max(1, predicted.shape[1] // _SAMPLED_BEATS)],
        members=len(log_probs) * len(folds),
        flat=flat,
        one_class={name: n for name, n in one_class.items() if n},
    )


def no_effect_alarms(
    rows: Sequence[TrialRow], predictions: Mapping[str, PredictionFacts]
) -> list[Alarm]:
    """Name parameters whose values give the same results, exactly or up to rounding.

    Random streams do not depend on the configuration, so a parameter without effect shows.
    """
    groups: list[list[TrialRow]] = []
    for row in rows:
        if row.digest not in predictions:
            continue
        facts = predictions[row.digest]
        alike = [same for same in groups if facts.alike(predictions[same[0].digest])]
        if alike:
            alike[0].append(row)
        else:
            groups.append([row])
    effects: dict[tuple[tuple[str, ...], bool], list[list[TrialRow]]] = {}
    for same in groups:
        exact = len({predictions[row.digest].digest for row in same}) == 1
        for names in _smallest_differences(same):
            effects.setdefault((names, exact), []).append(same)
    return [_no_effect(*which, same) for which, same in sorted(effects.items())]


def _smallest_differences(rows: Sequence[TrialRow]) -> list[tuple[str, ...]]:
    """Return the smallest sets of parameters in which two rows differ."""
    pairs = itertools.combinations(rows, 2)
    sets = {frozenset(_differing(first.params, second.params)) for first, second in pairs} - {
        frozenset()
    }
    return [tuple(sorted(names)) for names in sets if not any(less < names for less in sets)]


def _differing(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    return [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]


def _no_effect(names: tuple[str, ...], exact: bool, groups: Sequence[Sequence[TrialRow]]) -> Alarm:
    trials = []
    for rows in groups:
        values = dict.fromkeys(
            ", ".join(_shown(row.params.get(name)) for name in names) for row in rows
        )
        trials.append(f"{_trials(rows)} ({', '.join(names)} = {'; '.join(values)})")
    arms = listing(dict.fromkeys(row.arm for rows in groups for row in rows))
    verb = "changes" if len(names) == 1 else "together change"
    precision = "to the last bit" if exact else "but for rounding"
    return Alarm(
        severity=Severity.WARNING,
        what=f"{listing(names)} {verb} nothing in {arms}",
        evidence=f"equal {precision} are {listing(trials)}",
        advice="count these trials as one try, and drop parameters without effect",
    )


def constant_alarms(
    rows: Sequence[TrialRow], predictions: Mapping[str, PredictionFacts]
) -> list[Alarm]:
    """Name trials whose members give every validation beat the same output."""
    known = [(row, predictions[row.digest]) for row in rows if row.digest in predictions]
    flat = [(row, facts) for row, facts in known if facts.flat]
    decided = [(row, facts) for row, facts in known if facts.one_class and not facts.flat]
    alarms = []
    if flat:
        trials = [f"{_trial(row)}, {f.flat} of {f.members} members" for row, f in flat]
        alarms.append(
            Alarm(
                severity=Severity.ERROR,
                what=f"{len(flat)} of {len(known)} trials predict a constant",
                evidence=f"the same log-probabilities for every beat: {'; '.join(trials)}",
                advice="they have learned nothing: lower the learning rate, look at their losses",
            )
        )
    if decided:
        alike: dict[str, list[str]] = {}
        for row, facts in decided:
            parts = [f"{c} by {n} of {facts.members}" for c, n in facts.one_class.items()]
            alike.setdefault(f"{listing(parts)} members", []).append(_trial(row))
        trials = [f"{first_few(same)}, {which}" for which, same in alike.items()]
        alarms.append(
            Alarm(
                severity=Severity.WARNING,
                what="members that give every beat the same class, in "
                f"{len(decided)} of {plural(len(known), 'trial')}",
                evidence="; ".join(trials),
                advice="their F1, Se and +P say nothing; their ranking metrics still may",
            )
        )
    return alarms


def _trial(row: TrialRow) -> str:
    return f"trial {row.number} ({row.arm})"


def _trials(rows: Sequence[TrialRow]) -> str:
    return "trials " + listing(sorted({str(row.number) for row in rows}, key=int))


def _shown(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
