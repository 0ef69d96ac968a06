"""From a space and a source of records to everything that a study needs before its first trial."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from study.config import TrialConfig
from study.data.beatset import BeatSet
from study.data.prepare import prepare_all
from study.data.source import Source
from study.data.splits import PUBLISHED, Folds, make_folds, published_holdout
from study.tuning.plan import StudyPlan
from study.tuning.space import Space
from study.tuning.space_params import Categorical
from study.tuning.storage import Storage
from study.tuning.trial import TrialJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A study that is ready to run.

    Args:
        space: What it varies, overrides included.
        source: Where its records come from.
        plan: All that shapes its results.
        job: What its trials share: beats, folds, seeds, storage.
    """

    space: Space
    source: Source
    plan: StudyPlan
    job: TrialJob

    @property
    def beats(self) -> BeatSet:
        """One of the study's beat sets: labels and records are the same in all."""
        return next(iter(self.job.beats.values()))


def configurations(space: Space) -> list[TrialConfig]:
    """Return one configuration of every branch of a search, or all of a comparison."""
    if space.kind == "compare":
        return [point.config for point in space.comparisons()]
    return [space.configuration(params) for params in space.branches()]


def cuts(space: Space) -> list[tuple[str, str]]:
    """Return the segmentations and resampling methods that a space's configurations use."""
    searched = [p for p in space.params if isinstance(p, Categorical) and p.name == "resampling"]
    found = set()
    for config in configurations(space):
        methods = searched[0].values if searched else (config.signal.resampling,)
        for method in methods:
            signal = replace(config.signal, resampling=str(method))
            found.add((signal.segmentation, signal.resampling_method))
    return sorted(found)


def plan_folds(space: Space, beats: BeatSet, source: Source, partition_seed: int) -> Folds:
    """Return the space's folds over the records of a beat set.

    Raises:
        DataError: If the records do not allow these folds.
    """
    if space.folds == PUBLISHED:
        return published_holdout(beats.record_names)
    return make_folds(
        beats.record_names,
        beats.counts(),
        n_folds=int(space.folds),
        partition_seed=partition_seed,
        patients=source.patients,
    )


def set_up(
    space: Space,
    source: Source,
    *,
    name: str,
    study_seed: int,
    partition_seed: int,
    device: str,
    storage: Storage,
    cache_dir: Path,
) -> Setup:
    """Prepare beats and folds and write the plan.

    Raises:
        DataError: If records are unusable, or do not allow the folds.
    """
    beats = prepare_all(source, cuts(space), cache_dir=cache_dir, study_seed=study_seed)
    first = next(iter(beats.values()))
    folds = plan_folds(space, first, source, partition_seed)
    epochs = {config.train.epochs for config in configurations(space)}
    plan = StudyPlan(
        name=name,
        space=space.name,
        space_digest=space.digest,
        kind=space.kind,
        objective=space.objective,
        sampler=space.sampler,
        scheduler=space.scheduler,
        reduction_factor=space.reduction_factor,
        trials=space.n_configurations,
        epochs=max(epochs),
        folds=folds.name,
        fold_fingerprint=folds.fingerprint,
        n_folds=len(folds.validation),
        n_seeds=space.seeds,
        study_seed=study_seed,
        data_source=source.kind,
        data_fingerprints={f"{s}/{r}": beat_set.fingerprint for (s, r), beat_set in beats.items()},
    )
    job = TrialJob(
        beats=beats,
        folds=folds,
        n_seeds=space.seeds,
        study_seed=study_seed,
        device=device,
        storage=storage,
    )
    return Setup(space=space, source=source, plan=plan, job=job)
