"""Everything that precedes an opening: models trained on DS1, thresholds, all of it on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.folds import make_folds
from study.data.prepare import Cut
from study.errors import PlanError, UsageError, listed
from study.keys import Tag
from study.models.cpu_kernels import has_compiled_kernels
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.folder import EvaluationFolder
from study.sealed.plan import FLOOR, SealedPlan
from study.sealed.propose import origin_of
from study.sealed.records import Records, read_ds1
from study.sealed.retrain import FIRST_SEED, Done, Job, Task, do_all, read_done
from study.sealed.thresholds import Thresholds, stored_predictions, thresholds_from
from study.store import floors
from study.store.storage import Storage
from study.training.engine import Engine, resolve_precision

FOLDS = 5
"""Of the cross-validation that an arm's thresholds come from if no study has it."""

_THRESHOLDS = "thresholds.json"
_NAMES = {"mitdb": "MIT-BIH's DS1", "synthetic": "a SYNTHETIC DS1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is there when DS2 is opened.

    Args:
        job: What the models were trained on, and with.
        ensembles: All seeds of each arm, by its name.
        thresholds: Of each arm and the floor, by name.
        floor: Predicts other beats by the floor, fitted on all of DS1, as [1, N, C].
        digest: Digest of all weights and thresholds.
        trained_by: Commits of the code that trained the models.
    """

    job: Job
    ensembles: Mapping[str, SeedEnsemble]
    thresholds: Mapping[str, Thresholds]
    floor: Callable[[BeatSet], NDArray[np.float32]]
    digest: str
    trained_by: tuple[str, ...]


def seeds_of(plan: SealedPlan) -> range:
    """Return the indices of a plan's seeds."""
    return range(FIRST_SEED, FIRST_SEED + plan.seeds)


def cuts_of(plan: SealedPlan) -> list[Cut]:
    """Return the cuts of all arms and of the floor."""
    return sorted({*(arm.cut for arm in plan.arms), floors.FLOOR_CUT})


def check_origin(plan: SealedPlan, records: Records, workspace: Path) -> Path | None:
    """Return the folder of the study that a plan comes from, None for a plan by hand.

    Raises:
        PlanError: If the study is not there, has changed since the plan was written, or was run
            on other records.
    """
    if plan.origin is None:
        return None
    folder, stored, now = origin_of(workspace, plan.origin.name)
    if now.fingerprint != plan.origin.fingerprint:
        raise PlanError(
            f"plan {plan.title}: study '{plan.origin.name}' was {plan.origin.fingerprint} when "
            f"the plan was written and is {now.fingerprint} now: it was run again, or its plan "
            "was edited. Write the plan anew"
        )
    if stored["data_source"] != records.source.kind:
        raise PlanError(
            f"plan {plan.title}: study '{plan.origin.name}' ran on {stored['data_source']} "
            f"records, and this test would be on {records.source.kind} ones"
        )
    return folder


def check_data(plan: SealedPlan, beats: Mapping[Cut, BeatSet]) -> None:
    """Check that DS1 is what the plan's study saw.

    Raises:
        PlanError: If it differs; it names every difference.
    """
    if plan.origin is None:
        return
    now = {"/".join(key): beat_set.fingerprint for key, beat_set in beats.items()}
    faults = [
        f"{window}: the study had {then}, today's records and code give {now.get(window)}"
        for window, then in plan.origin.data.items()
        if now.get(window, then) != then
    ]
    if faults:
        heading = f"plan {plan.title}: DS1 is not what study '{plan.origin.name}' saw"
        raise PlanError(
            listed(heading, faults) + "\nRun the study again with today's records and code"
        )


def make_job(
    plan: SealedPlan,
    records: Records,
    folder: EvaluationFolder,
    *,
    cache_dir: Path,
    device: str,
    commit: str,
) -> Job:
    """Read DS1 and say what all models of a plan are trained with.

    Raises:
        PlanError: If DS1 is not what the plan's study saw.
        DataError: If a record cannot be used.
        UsageError: If the device has no such precision.
    """
    beats = read_ds1(records, cuts_of(plan), cache_dir=cache_dir, study_seed=plan.study_seed)
    check_data(plan, beats)
    first = next(iter(beats.values()))
    folds = make_folds(
        first.record_names,
        first.counts,
        n_folds=min(FOLDS, len(set(records.source.patients.values()))),
        patients=records.source.patients,
    )
    return Job(
        records=f"all {len(first.record_names)} records of {_NAMES[records.source.kind]}",
        beats=beats,
        folds=folds,
        study_seed=plan.study_seed,
        device=device,
        # Compiled here, they are on disk before several processes ask for them.
        engine=Engine(
            _precision(plan, device), compiled=device == "cpu" and has_compiled_kernels()
        ),
        folder=folder.models,
        commit=commit,
    )


def _precision(plan: SealedPlan, device: str) -> str:
    try:
        return resolve_precision(plan.precision, device)
    except UsageError as error:
        raise UsageError(
            f"plan {plan.title}: precision '{plan.precision}' is not for device '{device}'; "
            "give --device another, or the plan another precision before DS2 is opened"
        ) from error


def without_predictions(
    plan: SealedPlan, job: Job, study: Path | None, storage: Storage | None
) -> set[str]:
    """Return the arms of which the plan's study has no out-of-fold predictions."""
    return {
        arm.name
        for arm in plan.arms
        if study is None or stored_predictions(study, arm, job.of(arm), storage) is None
    }


def tasks_of(plan: SealedPlan, cross_validated: set[str]) -> list[Task]:
    """Return every task of a plan.

    Args:
        plan: The plan.
        cross_validated: Arms of which the study has no out-of-fold predictions.
    """
    return [
        Task(arm=arm, seed_index=seed_index)
        for arm in plan.arms
        for seed_index in ([None] if arm.name in cross_validated else []) + list(seeds_of(plan))
    ]


def prepare_models(
    plan: SealedPlan,
    job: Job,
    folder: EvaluationFolder,
    *,
    study: Path | None,
    storage: Storage | None,
    at_once: int,
    say: Callable[[str], None],
) -> Prepared:
    """Train what is not trained yet, fix the thresholds, and write both down.

    Args:
        plan: The plan.
        job: What its models are trained with.
        folder: Where everything is kept.
        study: Folder of the study that the plan comes from.
        storage: Where that study's trials keep their files; None is its folder.
        at_once: Models that are trained at once.
        say: Told about progress.

    Raises:
        DivergedError: If a model diverged.
        StudyStateError: If a process was lost.
    """
    stored = {
        arm.name: None if study is None else stored_predictions(study, arm, job.of(arm), storage)
        for arm in plan.arms
    }
    tasks = tasks_of(plan, {name for name, log_probs in stored.items() if log_probs is None})
    done = {task: found for task in tasks if (found := read_done(task, job)) is not None}
    owed = [task for task in tasks if task not in done]
    if done and owed:
        say(f"continuing: {len(done)} of {len(tasks)} models are trained already")
    for number, (task, seconds) in enumerate(do_all(job, owed, at_once), start=len(done) + 1):
        say(f"[{number}/{len(tasks)}] {task}, {seconds:.0f} s")
        done[task] = _done(task, job)
    thresholds = {}
    for arm in plan.arms:
        log_probs, source = stored[arm.name], f"study {plan.origin.name if plan.origin else ''}"
        if log_probs is None:
            log_probs = done[Task(arm=arm, seed_index=None)].log_probs
            source = f"a cross-validation of {len(job.folds)} folds"
        assert log_probs is not None
        thresholds[arm.name] = thresholds_from(log_probs, job.of(arm).label, source)
    thresholds[FLOOR] = _floor_thresholds(job)
    weights = {
        arm.name: [done[Task(arm=arm, seed_index=s)].weights for s in seeds_of(plan)]
        for arm in plan.arms
    }
    about = {
        "trained_on": f"{job.records}, {plan.seeds} seeds, for the sealed test '{plan.name}'",
        Tag.DATA_SOURCE: next(iter(job.beats.values())).source,
        "plan_hash": plan.hash,
        Tag.GIT_COMMIT: job.commit,
    }
    ensembles = {
        arm.name: SeedEnsemble.of_weights(arm.config, weights[arm.name], about)
        for arm in plan.arms
    }
    for name, ensemble in ensembles.items():
        folder.write(f"ensembles/{name}.pt", ensemble.content())
    fixed = {name: found.as_json() for name, found in thresholds.items()}
    folder.write_json(_THRESHOLDS, fixed)
    return Prepared(
        job=job,
        ensembles=ensembles,
        thresholds=thresholds,
        floor=floors.fit(FLOOR, job.beats[floors.FLOOR_CUT]),
        digest=_digest(ensembles, fixed),
        trained_by=tuple(sorted({found.commit for found in done.values()})),
    )


def _done(task: Task, job: Job) -> Done:
    found = read_done(task, job)
    if found is None:
        raise OSError(0, "was written a moment ago and cannot be read", str(task.path(job)))
    return found


def _floor_thresholds(job: Job) -> Thresholds:
    beats = job.beats[floors.FLOOR_CUT]
    log_probs = floors.out_of_fold(FLOOR, beats, job.folds)
    source = f"a cross-validation of {len(job.folds)} folds"
    return thresholds_from(log_probs, beats.label, source)


def _digest(ensembles: Mapping[str, SeedEnsemble], thresholds: Mapping[str, object]) -> str:
    found = hashlib.sha256(json.dumps(thresholds, sort_keys=True).encode())
    for name in sorted(ensembles):
        for model in ensembles[name].models:
            for key, values in model.state_dict().items():
                found.update(f"{name} {key}".encode())
                found.update(np.ascontiguousarray(values.numpy()).tobytes())
    return found.hexdigest()
