"""Predictions of test records by all models of a plan, and what is computed from them.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.prepare import Cut
from study.keys import CLASSES
from study.sealed.plan import FLOOR, SealedPlan
from study.sealed.preparation import Prepared, seeds_of
from study.sealed.scoring import Exclusion, score_arm
from study.sealed.tables import Findings
from study.sealed.thresholds import ensemble_of
from study.statistics.comparison import compare
from study.statistics.findings import MEASURE_NAMES, Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.store import floors
from study.training.device import DeviceBeats, resolve_device
from study.training.final import predict_all


def beats_of(
    sets: Mapping[Cut, BeatSet], patients: Mapping[str, str], macro: tuple[str, ...] = CLASSES
) -> Beats:
    """Return the beats that all cuts share, all records in fold 0.

    Args:
        sets: The test records, by cut.
        patients: Patient of each record.
        macro: Classes that the macro is the mean of.
    """
    beat_set = next(iter(sets.values()))
    names = beat_set.record_names
    return Beats(
        label=beat_set.label,
        record=beat_set.record,
        record_names=names,
        patient_of_record=tuple(patients[name] for name in names),
        fold_of_record=tuple(0 for _ in names),
        macro=macro,
    )


def trained_line(plan: SealedPlan, prepared: Prepared) -> str:
    """Say what the models of a plan were trained on and with."""
    job = prepared.job
    n_beats = len(next(iter(job.beats.values())).label)
    return (
        f"Every arm: {plan.seeds} models, each trained on {job.records} ({n_beats:,} beats); "
        f"{job.engine}."
    )


def findings_of(
    plan: SealedPlan,
    prepared: Prepared,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    left_out: Sequence[Exclusion],
    *,
    records: str,
    how: str,
    say: Callable[[str], None],
) -> Findings:
    """Return all that the tables show of these predictions.

    Args:
        plan: The plan.
        prepared: Its models and thresholds.
        log_probs: [S, N, C] of every arm and [1, N, C] of the floor.
        beats: The beats that they are of.
        left_out: What totals are also given without.
        records: What the test records are called.
        how: Records, commit and arithmetic, in words.
        say: Told about progress.
    """
    arms = []
    for name, values in log_probs.items():
        say(f"scoring {name}")
        arms.append(score_arm(name, values, beats, prepared.thresholds[name], left_out))
    return Findings(
        plan=plan,
        how=how,
        arms=arms,
        left_out=left_out,
        comparisons=comparisons(plan, log_probs, beats, say),
        ensembles=compare_ensembles(plan, log_probs, beats, say),
        records=records,
        macro=beats.macro,
    )


def predictions(
    plan: SealedPlan,
    prepared: Prepared,
    sets: Mapping[Cut, BeatSet],
    say: Callable[[str], None],
) -> dict[str, NDArray[np.float32]]:
    """Return the log-probabilities of every arm, [S, N, C], the floor's last, [1, N, C]."""
    # One model after the other on one thread: its last bits do not depend on the machine's cores.
    torch.set_num_threads(1)
    job = prepared.job
    device = resolve_device(job.device)
    placed = {key: DeviceBeats(beat_set, device) for key, beat_set in sets.items()}
    found = {}
    for arm in plan.arms:
        say(f"predicting with {arm.name}")
        found[arm.name] = predict_all(
            prepared.ensembles[arm.name].models,
            arm.config,
            placed[arm.cut],
            study_seed=plan.study_seed,
            seeds=seeds_of(plan),
            engine=job.engine,
        )
    found[FLOOR] = prepared.floor(sets[floors.FLOOR_CUT])
    return found


def comparisons(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> dict[str, Comparison]:
    """Return what the comparison of each of the plan's metrics finds, and of each measure.

    Args:
        plan: The plan.
        log_probs: [S, N, C] of every arm and [1, N, C] of the floor.
        beats: Of the test records.
        say: Told about progress.
    """
    lacking = [m for m in MEASURE_NAMES if not any(n.startswith(m) for n in plan.metrics)]
    single = runs(plan, log_probs, beats)
    found = {}
    for name in (*plan.metrics, *(f"{measure}_sv" for measure in lacking)):
        say(f"resampling patients and seeds: {name}")
        found[name] = _compare(plan, beats, single, name, contrasts=plan.contrasts)
    return found


def compare_ensembles(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> Comparison:
    """Return what the seed ensembles' comparison finds; arguments as in `comparisons`."""
    say("resampling patients: seed ensembles")
    together = {name: ensemble_of(values) for name, values in log_probs.items()}
    return _compare(plan, beats, runs(plan, together, beats), plan.metrics[0])


def _compare(
    plan: SealedPlan,
    beats: Beats,
    arms: Sequence[ArmRuns],
    metric: str,
    contrasts: Sequence[tuple[str, str]] = (),
) -> Comparison:
    return compare(
        beats,
        arms,
        contrasts=contrasts,
        # The same measures and classes have names of their own on DS1.
        objective=f"val_{metric}",
        resamples=plan.resamples,
        permutations=plan.permutations,
        seed=plan.study_seed,
        choosing=False,
    )


def runs(
    plan: SealedPlan, log_probs: Mapping[str, NDArray[np.floating]], beats: Beats
) -> list[ArmRuns]:
    """Return the arms in the form that comparisons take; the floor's one model stands for all."""
    seeds = np.arange(max(len(values) for values in log_probs.values()))
    shared: dict[str, Any] = {
        "draw": np.zeros_like(seeds),
        "seed": seeds,
        "fingerprints": beats.fingerprints,
    }
    found = [
        ArmRuns(
            name=arm.name,
            log_probs=log_probs[arm.name].astype(np.float32),
            input=arm.config.signal.input,
            segmentation=arm.config.signal.segmentation,
            fusion=arm.config.model.fusion,
            rr=arm.config.signal.rr,
            **shared,
        )
        for arm in plan.arms
    ]
    floor = ArmRuns(
        name=FLOOR,
        log_probs=np.repeat(log_probs[FLOOR], len(seeds), axis=0).astype(np.float32),
        input=FLOOR,
        segmentation=floors.FLOOR_CUT[0],
        fusion=FLOOR,
        **shared,
    )
    return [*found, floor]
