"""A finished compare study read back: its beats, each arm's predictions, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.addresses import shown
from study.config import TrialConfig
from study.errors import ArchiveError, ComparisonError, StudyStateError
from study.files import read_arrays, write_whole
from study.reporting.comparison_tables import pairs_csv, records_csv
from study.spaces.load import load_space, override
from study.spaces.space import Space
from study.statistics.comparison import compare
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.store.folder import BEATS, PAIRS, RECORDS, SPACE_COPY, TRIALS
from study.store.plan import PLAN_FILE, load_plan
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, read_predictions
from study.store.trials import TrialRow
from study.store.trials_csv import read_trials_csv
from study.training.batches import epoch_shape

TRIAL_FILES = "trials"
"""Where a study keeps its trials' files unless it was started with `--storage`."""

_BEATS = {
    **{"label": ("i", 1), "record": ("i", 1)},
    **{"record_names": ("U", 1), "fold_of_record": ("i", 1)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStudy:
    """A compare study as its folder has it.

    Args:
        plan: Its plan.
        space: Its space, with the plan's epochs and seeds.
        rows: Every settled trial.
        beats: What all trials predict.
        arms: Predictions of the arms that can be compared.
        left_out: What is not among them and why, a sentence each.
    """

    plan: Mapping[str, Any]
    space: Space
    rows: tuple[TrialRow, ...]
    beats: Beats
    arms: tuple[ArmRuns, ...]
    left_out: tuple[str, ...]


def read_study(folder: Path, storage: Storage | None = None) -> StoredStudy:
    """Read a compare study from its folder.

    Args:
        folder: The study's folder, such as `studies/fusion_compare`.
        storage: Where its trials' files are; None is the folder's own.

    Raises:
        StudyStateError: If it is not the folder of a compare study that has ended.
    """
    plan = load_plan(folder)
    absent = [
        name for name in (PLAN_FILE, SPACE_COPY, TRIALS, BEATS) if not (folder / name).exists()
    ]
    if plan is None or absent:
        raise StudyStateError(
            f"{folder}: is not the folder of a study that has ended; it has no {', '.join(absent)}"
        )
    if plan["kind"] != "compare":
        raise StudyStateError(
            f"{folder}: is a {plan['kind']} study, whose arms had unequal tries; "
            "only a compare study can be compared"
        )
    space = override(load_space(folder / SPACE_COPY), epochs=plan["epochs"], seeds=plan["n_seeds"])
    rows = read_trials_csv((folder / TRIALS).read_text())
    beats = read_beats(folder / BEATS)
    arms, left_out = gather_arms(
        space, plan, rows, beats, storage or Storage.at(folder / TRIAL_FILES)
    )
    return StoredStudy(
        plan=plan,
        space=space,
        rows=tuple(rows),
        beats=beats,
        arms=tuple(arms),
        left_out=tuple(left_out),
    )


def compare_study(study: StoredStudy, progress: Callable[[str], None] | None = None) -> Comparison:
    """Compare the arms of a study by its own objective and contrasts.

    Args:
        study: What was stored.
        progress: Told what is being done.

    Raises:
        ComparisonError: If it has fewer than two arms, or they cannot be compared.
    """
    compared = {arm.name for arm in study.arms}
    if len(compared) < 2:
        raise ComparisonError(
            "; ".join(
                [f"two arms with complete trials are needed, got {len(compared)}", *study.left_out]
            )
        )
    return compare(
        study.beats,
        study.arms,
        contrasts=[pair for pair in study.space.contrasts if compared.issuperset(pair)],
        objective=study.plan["objective"],
        notes=study.left_out,
        progress=progress,
    )


def keep_comparison(
    folder: Path, storage: Storage, progress: Callable[[str], None] | None = None
) -> Comparison:
    """Compare a study's arms, and leave every pair and record in its folder.

    Args:
        folder: The study's folder.
        storage: Where its trials' files are.
        progress: Told what is being done.

    Raises:
        StudyStateError: If something that the study has left is gone.
        ComparisonError: If its arms cannot be compared.
    """
    comparison = compare_study(read_study(folder, storage), progress)
    write_whole(folder / PAIRS, pairs_csv(comparison))
    write_whole(folder / RECORDS, records_csv(comparison))
    return comparison


def read_beats(path: Path) -> Beats:
    """Return the beats that every trial of a study predicts, from its `beats.npz`.

    Raises:
        StudyStateError: If the file is gone or damaged, or what it holds does not agree.
    """
    try:
        arrays = read_arrays(path.read_bytes(), _BEATS, {"patient_of_record": ("U", 1)})
        return Beats(
            label=arrays["label"],
            record=arrays["record"],
            record_names=_texts(arrays["record_names"]),
            patient_of_record=_texts(arrays.get("patient_of_record", arrays["record_names"])),
            fold_of_record=tuple(map(int, arrays["fold_of_record"])),
        )
    except FileNotFoundError:
        raise StudyStateError(f"{path}: is gone; bring it back from a copy") from None
    except (ArchiveError, ComparisonError) as error:
        raise StudyStateError(f"{path}: {error}; bring it back from a copy") from error


def _texts(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, array))


def gather_arms(
    space: Space,
    plan: Mapping[str, Any],
    rows: Sequence[TrialRow],
    beats: Beats,
    storage: Storage,
) -> tuple[list[ArmRuns], list[str]]:
    """Return the predictions of all arms on the draws that they share, and what is left out.

    Args:
        space: The study's space.
        plan: Its plan.
        rows: Its settled trials.
        beats: What they predict.
        storage: Where their files are.

    Raises:
        StudyStateError: If a trial's predictions are gone, or damaged.
    """
    ended = {(row.arm, row.draw or 0): row for row in rows if row.ranks(plan["objective"])}
    draws = {arm.name: {d for name, d in ended if name == arm.name} for arm in space.arms}
    left_out = [f"{name} is left out: no complete trial" for name in draws if not draws[name]]
    shared = set.intersection(
        *(found for found in draws.values() if found), set(range(space.draws))
    )
    left_out += [
        f"draw {draw} is left out: no complete trial of {', '.join(lacking)}"
        for draw in range(space.draws)
        if draw not in shared
        and (lacking := [name for name, found in draws.items() if found and draw not in found])
    ]
    configs = {(point.arm, point.draw): point.config for point in space.comparisons()}
    arms = []
    for spec in space.arms:
        keys = [(spec.name, draw) for draw in sorted(shared)]
        if draws[spec.name] and keys:
            parts = [_log_probs(storage, ended[key], len(beats.label)) for key in keys]
            arms.append(_arm(plan, beats, [configs[key] for key in keys], keys, parts))
    return arms, left_out


def _arm(
    plan: Mapping[str, Any],
    beats: Beats,
    configs: Sequence[TrialConfig],
    keys: Sequence[tuple[str, int]],
    log_probs: Sequence[NDArray[np.float32]],
) -> ArmRuns:
    signal, model = configs[0].signal, configs[0].model
    cut = f"{signal.segmentation}/{signal.resampling_method}"
    seeds = [np.arange(len(part)) for part in log_probs]
    return ArmRuns(
        name=keys[0][0],
        log_probs=np.concatenate(log_probs),
        draw=np.repeat([draw for _, draw in keys], [len(part) for part in log_probs]),
        seed=np.concatenate(seeds),
        input=signal.input,
        segmentation=signal.segmentation,
        fusion=model.fusion,
        rr=signal.rr,
        fingerprints={
            "records": str(plan["data_source"]),
            f"{cut} windows": str(plan["data_fingerprints"].get(cut, "unknown")),
            "fold plans": str(plan["fold_fingerprint"]),
            **beats.fingerprints,
        },
        trials=len(keys),
        beats_trained=sum(
            len(part) * _beats_trained(beats, config)
            for config, part in zip(configs, log_probs, strict=True)
        ),
    )


def _beats_trained(beats: Beats, config: TrialConfig) -> int:
    """Return the beats that the members of one seed train on."""
    labels = [beats.label[beats.fold != fold] for fold in range(beats.n_folds)]
    train = config.train
    shape = epoch_shape(
        labels, normal_beats=train.normal_beats_per_epoch, batch_size=train.batch_size
    )
    return len(labels) * train.epochs * shape.beats


def _log_probs(storage: Storage, row: TrialRow, n_beats: int) -> NDArray[np.float32]:
    """Return a trial's log-probabilities, [seeds, N, C].

    Raises:
        StudyStateError: If its file is gone, or damaged.
    """
    arrays = read_predictions(storage, row.digest, n_beats=n_beats)
    if arrays is None:
        raise StudyStateError(
            f"trial {row.number}, {row.arm}: {shown(storage.root)}/{row.digest} has no "
            f"{PREDICTIONS}; a study started with --storage keeps its files there"
        )
    log_probs: NDArray[np.float32] = arrays["log_probs"]
    return log_probs
