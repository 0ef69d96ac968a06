"""The predictions that represent each arm of a study, and its floor, in a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.config import TrialConfig, cut_text
from study.models import rules
from study.reporting.arms import arm_configs
from study.statistics.predictions import ArmRuns, Beats
from study.store.floors import FOLDER, StudyFloor, highest_floor
from study.store.storage import Storage
from study.store.study import Study
from study.store.trial_files import read_predictions
from study.store.trials import TrialRow
from study.training.batches import epoch_shape
from study.training.floors import FLOOR_CUT


def arm_runs(study: Study) -> tuple[list[ArmRuns], list[str]]:
    """Return the predictions that represent the arms, and remarks for the reader.

    Raises:
        StudyStateError: If a trial's predictions, or its beats, are gone or damaged.
    """
    if study.plan.kind == "compare":
        return _compared(study)
    configs = arm_configs(study)
    runs = [_arm(study, [row], [configs[arm]]) for arm, row in study.arm_trials.items()]
    return runs, ["each arm stands by its best trial, which is optimistic: a search has chosen it"]


def floor_runs(
    study: Study, floors: Sequence[StudyFloor], arms: Sequence[ArmRuns]
) -> ArmRuns | None:
    """Return the predictions of the highest floor, in as many runs as arms have.

    A floor has no seeds and no draws: each run has the floor's predictions in the partition of its
    seed. None without a floor, or if its predictions are missing or of other partitions.

    Raises:
        StudyStateError: If its predictions are damaged.
    """
    highest = highest_floor(floors, study.objective)
    if highest is None or not arms:
        return None
    folder = Storage.at(study.folder / FOLDER)
    arrays = read_predictions(folder, highest.name, n_beats=len(study.beats.label))
    if arrays is None or len(arrays["log_probs"]) != study.beats.n_partitions:
        return None
    log_probs = arrays["log_probs"]
    return ArmRuns(
        name=highest.words,
        log_probs=log_probs[arms[0].seed % len(log_probs)],
        draw=arms[0].draw,
        seed=arms[0].seed,
        input="",
        window=FLOOR_CUT[0],
        fusion="",
    )


def _compared(study: Study) -> tuple[list[ArmRuns], list[str]]:
    """Return the predictions of all arms on their common draws, with notes on what is left out."""
    space, rows = study.space, study.rows
    ended = {(row.arm, row.draw or 0): row for row in rows if row.ranks(study.objective)}
    draws = {arm.name: {d for name, d in ended if name == arm.name} for arm in space.arms}
    left_out = [f"{name} is left out: no complete trial" for name in draws if not draws[name]]
    shared = set.intersection(
        *(complete for complete in draws.values() if complete), set(range(space.draws))
    )
    left_out += [
        f"draw {draw} is left out: no complete trial of {', '.join(lacking)}"
        for draw in range(space.draws)
        if draw not in shared
        and (lacking := [name for name, done in draws.items() if done and draw not in done])
    ]
    trials = [
        [ended[arm.name, draw] for draw in sorted(shared)] for arm in space.arms if draws[arm.name]
    ]
    # Configurations of trials lack parameters that do not apply: see `arm_configs`.
    configs = {(point.arm, point.draw): point.config for point in space.comparisons()}
    runs = [
        _arm(study, of_arm, [configs[row.arm, row.draw or 0] for row in of_arm])
        for of_arm in trials
        if of_arm
    ]
    return runs, left_out


def _arm(study: Study, trials: Sequence[TrialRow], configs: Sequence[TrialConfig]) -> ArmRuns:
    """Return the predictions of an arm's trials, one for each draw, or its best of a search."""
    plan, beats = study.plan, study.beats
    log_probs = [study.predictions(row)["log_probs"] for row in trials]
    signal, model = configs[0].signal, configs[0].model
    cut = cut_text(signal.cut)
    seeds = [np.arange(len(part)) for part in log_probs]
    shapes, template = rules.shapes_seen(configs[0])
    return ArmRuns(
        name=trials[0].arm,
        log_probs=np.concatenate(log_probs),
        draw=np.repeat([row.draw or 0 for row in trials], [len(part) for part in log_probs]),
        seed=np.concatenate(seeds),
        input=signal.input,
        window=signal.window,
        fusion=model.fusion,
        rr=signal.rr,
        shapes=shapes,
        template=template,
        fingerprints={
            "records": plan.data_source,
            f"{cut} windows": str(plan.data_fingerprints.get(cut, "unknown")),
            "fold plans": plan.fold_fingerprint,
            **beats.fingerprints,
        },
        trials=len(trials),
        beats_trained=sum(
            len(part) * _beats_trained(beats, config)
            for config, part in zip(configs, log_probs, strict=True)
        ),
    )


def _beats_trained(beats: Beats, config: TrialConfig) -> int:
    """Return how many beats the members of one seed train on."""
    labels = [
        beats.label[of_partition != fold]
        for of_partition in beats.fold
        for fold in range(beats.n_folds)
    ]
    train = config.train
    shape = epoch_shape(
        labels, normal_beats=train.normal_beats_per_epoch, batch_size=train.batch_size
    )
    return beats.n_folds * train.epochs * shape.beats
