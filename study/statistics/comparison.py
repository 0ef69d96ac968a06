"""Computes everything that a comparison of arms may claim, from their stored predictions.

`docs/statistics.md` says what the figures mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from study.errors import ComparisonError, listed, unknown
from study.keys import AUPRC_SV, metric
from study.statistics.findings import MEASURE_NAMES, QUANTITIES, Comparison, parts_of
from study.statistics.predictions import ArmRuns, Beats, check_comparable
from study.statistics.scored import ScoredArms

RESAMPLES = 2_000
PERMUTATIONS = 10_000

MARGIN = 0.01
"""Largest loss of N and V that still counts as keeping ECG performance."""


def compare(
    beats: Beats,
    arms: Sequence[ArmRuns],
    *,
    floor: ArmRuns | None = None,
    contrasts: Sequence[tuple[str, str]] = (),
    objective: str = AUPRC_SV,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    choosing: bool = True,
    notes: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
    scored: ScoredArms | None = None,
) -> Comparison:
    """Compare arms on the same beats, folds, draws and seeds.

    Args:
        beats: What they predict.
        arms: Their predictions.
        floor: What they have to beat; each arm is compared with it.
        contrasts: The primary family, declared before: pairs of arm names.
        objective: Metric that arms are ordered by and tested on, such as `val_auprc_sv`.
        resamples: Number of resamples of patients and seeds.
        permutations: Number of swaps of records.
        seed: Of resamples and swaps.
        choosing: Whether to name a best arm; False if arms were chosen before.
        notes: Further remarks for the reader, such as arms left out.
        progress: Gets a line on each step.
        scored: The same arms, scored by the objective's measure in the same resamples; None
            scores them.

    Raises:
        ComparisonError: If the arms were not evaluated on the same beats, folds, draws and
            seeds, or a contrast or the objective is unknown.
    """
    every = [*arms, *([floor] if floor else [])]
    check_comparable(beats, every)
    _check_names(arms, contrasts, objective)
    if scored is None:
        scored = ScoredArms.of(
            beats, every, objective, resamples, seed, progress, choosing=choosing
        )
    scored = replace(scored, quantity=parts_of(objective)[1])
    of_arms = scored.objective[: len(arms)]
    order = np.argsort(-np.nan_to_num(of_arms, nan=-np.inf), kind="stable")
    ranked = [arms[index] for index in order]
    tested = scored.tested(contrasts, permutations, seed, progress)
    primary = set(contrasts) | {(second, first) for first, second in contrasts}
    others = [
        (first.name, second.name)
        for first, second in combinations(ranked, 2)
        if (first.name, second.name) not in primary
    ]
    real = [index for index, arm in enumerate(arms) if not arm.placebo]
    return Comparison(
        objective=objective,
        classes=scored.facts,
        arms=tuple(scored.arm(index) for index in order),
        contrasts=(
            *scored.primary(contrasts, tested),
            *(scored.contrast(*pair, primary=False) for pair in others),
        ),
        above_floor=tuple(
            scored.contrast(arm.name, floor.name, primary=False) for arm in ranked if floor
        ),
        non_inferiority=tuple(scored.non_inferiority(MARGIN, arms)),
        choice=scored.choice(real) if choosing else None,
        records=tuple(scored.records(len(arms))),
        margin=MARGIN,
        resamples=resamples,
        permutations=permutations,
        notes=(*notes, *scored.notes()),
    )


def _check_names(
    arms: Sequence[ArmRuns], contrasts: Sequence[tuple[str, str]], objective: str
) -> None:
    known = [arm.name for arm in arms]
    faults = [
        f"contrast {first} - {second}: {unknown('arm', name, known)}"
        for first, second in contrasts
        for name in (first, second)
        if name not in known
    ]
    objectives = [metric(measure, name) for measure in MEASURE_NAMES for name in QUANTITIES]
    if objective not in objectives:
        faults.append(unknown("objective", objective, objectives))
    if faults:
        raise ComparisonError(listed("comparison", faults))
