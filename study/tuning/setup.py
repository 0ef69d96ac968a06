"""Turns a space and a source of records into all that a study needs before its first trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.beats import scorable
from study.config import cut_text
from study.data.beat_set import BeatSet
from study.data.folds import ALL, PUBLISHED, Folds, all_records, partitioned, published_holdout
from study.data.prepare import prepare_all
from study.data.source import Source
from study.errors import DataError, SpaceError
from study.keys import CLASSES, MIN_CLASS_BEATS, UNRANKED
from study.models.cpu_kernels import has_compiled_kernels
from study.models.plugins.plugin import Plugin, used_by
from study.spaces.settings import SCREENING
from study.spaces.space import Space
from study.statistics.findings import classes_in, parts_of
from study.store.plan import StudyPlan, torch_version
from study.store.storage import Storage
from study.training.engine import Engine, resolve_precision
from study.training.floors import FLOOR_CUT
from study.tuning.trial import TrialJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A study that is ready to run.

    Args:
        space: What it varies, overrides included.
        source: Where its records come from.
        plan: All that shapes its results.
        job: What its trials share: beats, folds, seeds, storage.
        floor_beats: The same beats, cut for the floors.
        cache_dir: Folder of prepared beats and of floors.
    """

    space: Space
    source: Source
    plan: StudyPlan
    job: TrialJob
    floor_beats: BeatSet
    cache_dir: Path

    @property
    def beats(self) -> BeatSet:
        """One of the study's beat sets: labels and records are the same in all."""
        return next(iter(self.job.beats.values()))


def plan_folds(space: Space, beats: BeatSet, source: Source, partition_seed: int) -> Folds:
    """Return the space's folds over the records of a beat set.

    Raises:
        DataError: If the records do not allow these folds.
    """
    if space.folds == PUBLISHED:
        return published_holdout(beats.record_names)
    if space.folds == ALL:
        return all_records(beats.record_names)
    return partitioned(
        beats.record_names,
        beats.counts,
        n_folds=int(space.folds),
        n_partitions=space.partitions,
        first_seed=partition_seed,
        patients=source.patients,
        databases=beats.databases,
    )


def _check_objective(space: Space, folds: Folds, beats: BeatSet) -> None:
    """Refuse records on which every trial would end without a score.

    Raises:
        DataError: If no fold has enough beats of a class that the objective needs.
    """
    if space.folds == ALL or space.objective == UNRANKED:  # nothing is ranked by a score
        return
    counts = folds.counts(beats)
    # A class must count in every partition: each seed has the folds of only one.
    counted = np.asarray(scorable(counts).any(axis=1).all(axis=0))
    _, quantity = parts_of(space.objective)
    undefined = [
        f"{name} ({counts[0, :, c].sum():,} in all)"
        for c, name in enumerate(CLASSES)
        if name in classes_in(quantity) and not counted[c]
    ]
    if undefined:
        raise DataError(
            f"objective {space.objective}: no fold has {MIN_CLASS_BEATS} beats of "
            f"{', '.join(undefined)} to score, together with beats of other classes; give records "
            "that have them, or another --objective"
        )


def _one_budget(space: Space) -> int:
    """Return the epochs of every configuration.

    Raises:
        SpaceError: If they differ: trials of unequal budgets cannot be ranked.
    """
    budgets = {config.train.epochs for config in space.configurations()}
    if space.folds == ALL:  # a study that trains on all records ranks no arms
        return max(budgets)
    if len(budgets) > 1 or any(param.name == "epochs" for param in space.params):
        raise SpaceError(
            f"{space.path}: epochs: must be the same in every configuration, otherwise a longer "
            "budget would look like a better arm; give it under [fixed]"
        )
    return budgets.pop()


def _plugins_of(space: Space) -> tuple[Plugin, ...]:
    """Return the plug-ins that a space uses, by name."""
    used = {plugin for config in space.configurations() for plugin in used_by(config.model)}
    return tuple(sorted(used, key=lambda plugin: plugin.name))


def precision_of(asked: str, begun: StudyPlan | None) -> str:
    """Return the precision to train in: a study keeps the precision chosen when it began."""
    return begun.precision if begun and asked == "auto" else asked


def _engine(precision: str, device: str) -> Engine:
    return Engine(
        precision,
        # Compile now: the kernels are then on disk before several workers ask for them.
        compiled=device == "cpu" and has_compiled_kernels(),
        packed=device in ("cuda", "auto"),
    )


def set_up(
    space: Space,
    source: Source,
    *,
    name: str,
    study_seed: int,
    partition_seed: int,
    device: str,
    precision: str = "auto",
    storage: Storage,
    cache_dir: Path,
) -> Setup:
    """Prepare beats and folds and write the plan.

    Raises:
        DataError: If records are unusable, do not allow the folds, or cannot be scored.
        SpaceError: If configurations have unequal budgets.
        UsageError: If the device has no such precision.
    """
    precision = resolve_precision(precision, device)
    epochs, used = _one_budget(space), space.cuts()
    prepared = prepare_all(source, [*used, FLOOR_CUT], cache_dir=cache_dir, study_seed=study_seed)
    beats, first = {cut: prepared[cut] for cut in used}, prepared[used[0]]
    folds = plan_folds(space, first, source, partition_seed)
    _check_objective(space, folds, first)
    job = TrialJob(
        beats=beats,
        folds=folds,
        n_seeds=space.seeds,
        study_seed=study_seed,
        device=device,
        storage=storage,
        engine=_engine(precision, device),
        screens=space.scheduler == SCREENING,
        plugins=_plugins_of(space),
    )
    plan = StudyPlan(
        name=name,
        space=space.name,
        space_digest=space.digest,
        kind=space.kind,
        objective=space.objective,
        sampler=space.sampler,
        scheduler=space.scheduler,
        reduction_factor=space.reduction_factor,
        trials=space.n_trials,
        epochs=epochs,
        folds=folds.name,
        fold_fingerprint=folds.fingerprint,
        n_folds=len(folds),
        n_partitions=folds.n_partitions,
        n_seeds=space.seeds,
        study_seed=study_seed,
        engine=str(job.engine),
        data_source=source.kind,
        data_fingerprints={cut_text(cut): beat_set.fingerprint for cut, beat_set in beats.items()},
        torch=torch_version(),
        plugins={plugin.name: plugin.digest for plugin in job.plugins},
    )
    return Setup(
        space=space,
        source=source,
        plan=plan,
        job=job,
        floor_beats=prepared[FLOOR_CUT],
        cache_dir=cache_dir,
    )
