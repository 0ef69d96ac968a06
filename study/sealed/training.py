"""Trains the models of a plan as studies, and fixes thresholds: all that precedes an opening.

An arm is a trial of a study that trains on all of DS1, with a member for each seed. If the plan's
original study has no out-of-fold predictions of an arm, a second study cross-validates the arm.
The study runner packs, distributes, tracks and resumes both like any study.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from study.config import Cut
from study.data.beat_set import BeatSet
from study.data.folds import Folds, make_folds
from study.errors import DivergedError, StudyStateError, UsageError, listed
from study.keys import FLOORS, UNRANKED, Outcome
from study.models import rules
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.plan import Arm, SealedPlan, arm_tables, check_data, check_origin
from study.sealed.records import Records
from study.sealed.result import EvaluationFolder
from study.sealed.thresholds import Thresholds, stored_predictions, thresholds_from
from study.spaces.load import checked_space
from study.spaces.space import Space
from study.spaces.toml_text import compare_text
from study.store import floors
from study.store.plan import StudyPlan, git_commit
from study.store.study import Places, Study
from study.store.trial_files import WEIGHTS, file_fault
from study.training.engine import Engine, resolve_precision
from study.tuning.session import Summary
from study.tuning.setup import Setup, precision_of, set_up
from study.wording import plural, trained_on

FOLDS = 5
"""Number of folds of the cross-validation for thresholds."""

TRAINING, CROSS_VALIDATION = "training", "cross_validation"
"""Folders of the two studies in the plan's folder."""

_COMMITS = "commits.txt"

RunStudy = Callable[[Setup, Places], Summary]
"""Runs the owed trials of a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Everything that training a plan's models needs, before any training."""

    plan: SealedPlan  # the plan
    folder: EvaluationFolder  # where its models go
    records: Records  # DS1, and names and hashes of the files of DS2
    # Folder or URI below which studies have their trials' files; empty for their own folders
    storage: str
    models: Setup  # the study that trains all arms on all of DS1
    folds: Folds  # folds of DS1, for thresholds
    # The study of arms without stored predictions; None without such arms
    cross_validation: Setup | None
    # Out-of-fold predictions that the plan's study has, by arm
    stored: Mapping[str, NDArray[np.float32]]

    @property
    def trained_on(self) -> str:
        """The training records, in words."""
        return trained_on(len(self.models.beats.record_names), self.records.source.kind)

    @property
    def engine_here(self) -> Engine:
        """The engine for predictions on this machine, one model after the other."""
        return replace(self.models.job.engine_here, packed=False)

    def text(self) -> str:
        """Describe what the plan does with these records."""
        plan, beats = self.plan, self.models.beats
        lines = [
            f"plan {plan.title}: {plural(len(plan.arms), 'arm')} x {plural(plan.seeds, 'seed')}, "
            f"each trained on all of DS1 ({len(beats.label):,} beats of "
            f"{len(beats.record_names)} records)"
        ]
        for arm in plan.arms:
            epochs = arm.config.train.epochs
            lines.append(f"  {arm.name}: {rules.arm(arm.config)}, {plural(epochs, 'epoch')}")
            lines.append(f"    {rules.rr_routes(arm.config).text()}")
            lines.append(f"    thresholds: by {self.source_of(arm.name)}")
        contrasts = [f"{first} - {second}" for first, second in plan.test.contrasts]
        metrics = plan.test.metrics
        lines += [
            f"  floors: {', '.join(FLOORS)}; every arm is compared with {plan.test.floor}",
            f"contrasts: {', '.join(contrasts) or 'none'}",
            f"metrics: {', '.join(metrics)} (primary: {metrics[0]})",
            f"records: {self.records.source.description}",
            f"DS2: {len(self.records.ds2)} files, known by name and hash, not read",
            f"arithmetic: {self.models.job.engine}",
            f"models: {self.n_trained} of {len(plan.arms)} arms are trained already",
        ]
        return "\n".join(lines)

    def source_of(self, name: str) -> str:
        """Name what the thresholds of an arm or a floor are chosen on."""
        if name in self.stored and self.plan.test.origin is not None:
            return f"study {self.plan.test.origin.name}"
        return f"a cross-validation of {len(self.folds)} folds"

    @property
    def n_trained(self) -> int:
        """Number of arms that are already trained."""
        storage = self.models.job.storage
        files = [storage.folder(rules.digest(a.config)).read(WEIGHTS) for a in self.plan.arms]
        return sum(not file_fault(WEIGHTS, content) for content in files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Models and thresholds that exist when DS2 is opened."""

    training: Training  # what the models were trained from
    ensembles: Mapping[str, SeedEnsemble]  # all seeds of each arm, by its name
    thresholds: Mapping[str, Thresholds]  # thresholds of each arm and each floor, by name
    # Predicts other beats by a floor, which is fitted on all of DS1, as [1, N, C]; by name
    floors: Mapping[str, Callable[[BeatSet], NDArray[np.float32]]]
    digest: str  # digest of all weights and thresholds
    trained_by: tuple[str, ...]  # commits of the code that trained the models


def cuts_of(plan: SealedPlan) -> list[Cut]:
    """Return the cuts of all arms and of the floors."""
    return sorted({*(arm.cut for arm in plan.arms), floors.FLOOR_CUT})


def set_up_training(
    plan: SealedPlan,
    folder: EvaluationFolder,
    records: Records,
    *,
    workspace: Path,
    cache_dir: Path,
    device: str,
    storage: str,
) -> Training:
    """Read DS1 and set up the training of a plan's models, without writing anything.

    Raises:
        PlanError: If the plan's study is not there or was run on other records, or DS1 has changed
            since.
        DataError: If a record cannot be used.
        UsageError: If the device has no such precision.
    """
    seen_by_origin = check_origin(plan, records, workspace)

    def study_of(space: Space, kind: str) -> Setup:
        name = f"{plan.label}-{kind}"
        return set_up(
            space,
            records.source,
            name=name,
            study_seed=plan.test.study_seed,
            partition_seed=0,
            device=device,
            precision=_precision(plan, device, folder.root / TRAINING),
            storage=places_of(folder, kind, storage).files,
            cache_dir=cache_dir,
        )

    models = study_of(plan.space(), TRAINING)
    if seen_by_origin:
        check_data(plan, models.job.beats)
    patients = records.source.patients
    beats = models.beats
    folds = make_folds(
        beats.record_names,
        beats.counts,
        n_folds=min(FOLDS, len(set(patients.values()))),
        patients=patients,
        databases=beats.databases,
    )
    stored = dict(_stored_predictions(plan, models, workspace, storage))
    unstored = [arm for arm in plan.arms if arm.name not in stored]
    return Training(
        plan=plan,
        folder=folder,
        records=records,
        storage=storage,
        models=models,
        folds=folds,
        cross_validation=study_of(_cross_validation(plan, unstored, len(folds)), CROSS_VALIDATION)
        if unstored
        else None,
        stored=stored,
    )


def places_of(folder: EvaluationFolder, kind: str, storage: str) -> Places:
    """Return the places of a plan's study's records; `kind` is its folder in the plan's folder."""
    # Below the plan's name: a shared storage may have other plans' studies of the same kind.
    below = f"{storage.rstrip('/')}/{folder.root.name}" if storage else ""
    return Places(folder=folder.root / kind, storage=below)


def _precision(plan: SealedPlan, device: str, folder: Path) -> str:
    try:
        return resolve_precision(precision_of(plan.test.precision, StudyPlan.find(folder)), device)
    except UsageError as error:
        raise UsageError(
            f"plan {plan.title}: precision '{plan.test.precision}' is not for device '{device}'; "
            "give --device another, or the plan another precision before DS2 is opened"
        ) from error


def _cross_validation(plan: SealedPlan, arms: Sequence[Arm], n_folds: int) -> Space:
    """Return the space that predicts the arms out of fold, with one draw."""
    compare = {"draws": 1, "folds": n_folds, "seeds": 1, "reference": arms[0].name}
    tables = {
        "description": f"Out-of-fold predictions for the thresholds of {plan.test.name}",
        "compare": compare,
        "arms": arm_tables(arms),
    }
    path = Path(f"{plan.test.name}-{CROSS_VALIDATION}.toml")
    space = checked_space(tables, path, compare_text(tables))
    # Its scores rank no arms; they may be undefined where a fold has too few beats of a class.
    return replace(space, objective=UNRANKED)


def _stored_predictions(
    plan: SealedPlan, models: Setup, workspace: Path, storage: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if plan.test.origin is None:
        return
    places = Places.of(workspace, plan.test.origin.name, storage=storage)
    for arm in plan.arms:
        log_probs = stored_predictions(places, arm, models.job.beats_of(arm.config))
        if log_probs is not None:
            yield arm.name, log_probs


def train(training: Training, run: RunStudy) -> Prepared:
    """Train the missing models, fix the thresholds, and store both.

    Raises:
        DivergedError: If an arm could not be trained.
        StudyStateError: If training ended early, or models cannot be read.
        KeyboardInterrupt: If it was interrupted.
    """
    plan, folder = training.plan, training.folder
    folder.write("plan.toml", plan.text())
    trained_by = _commits(training)
    _run(training.models, places_of(folder, TRAINING, training.storage), run)
    thresholds = _thresholds(training, run)
    fixed = {name: chosen.as_json() for name, chosen in thresholds.items()}
    folder.write_json("thresholds.json", fixed)
    places = places_of(folder, TRAINING, training.storage)
    ensembles = {}
    for arm in plan.arms:
        ensemble = trained_ensemble(arm, places)
        if ensemble is None:
            raise StudyStateError(
                f"{places.folder}: the {WEIGHTS} of arm {arm.name} is missing; delete the folder "
                "to train anew"
            )
        ensembles[arm.name] = ensemble
    return Prepared(
        training=training,
        ensembles=ensembles,
        thresholds=thresholds,
        floors={name: floors.fit(name, training.models.floor_beats) for name in FLOORS},
        digest=_digest(ensembles, fixed),
        trained_by=trained_by,
    )


def commits_of(folder: EvaluationFolder) -> set[str]:
    """Return the commits of the code that trained a plan's models."""
    path = folder.root / _COMMITS
    return set(path.read_text().split()) if path.exists() else set()


def _commits(training: Training) -> tuple[str, ...]:
    """Return the commits that trained the models, and this one if training is left."""
    commits = commits_of(training.folder)
    if training.n_trained < len(training.plan.arms):
        commits.add(git_commit())
        training.folder.write(_COMMITS, "\n".join(sorted(commits)) + "\n")
    return tuple(sorted(commits))


def _run(setup: Setup, places: Places, run: RunStudy) -> None:
    folder = places.folder
    try:
        summary = run(setup, places)
    except StudyStateError as error:
        raise StudyStateError(
            f"{error}\n(models of other code or arithmetic: delete {folder} to train anew)"
        ) from error
    stop = summary.stop
    if stop.interrupted:
        raise KeyboardInterrupt
    if stop.cause:
        raise StudyStateError(
            f"training: {stop.cause}; trained models are kept, and the same command continues"
        )
    rows = Study.at(places).rows
    failed = [f"arm {row.arm}: {row.cause}" for row in rows if row.outcome != Outcome.COMPLETE]
    if failed:
        heading = f"{folder}: arms that could not be trained (delete it to train anew)"
        raise DivergedError(listed(heading, failed))


def _thresholds(training: Training, run: RunStudy) -> dict[str, Thresholds]:
    plan = training.plan
    places = places_of(training.folder, CROSS_VALIDATION, training.storage)
    if training.cross_validation is not None:
        _run(training.cross_validation, places, run)
    thresholds = {}
    for arm in plan.arms:
        beats = training.models.job.beats_of(arm.config)
        log_probs = training.stored.get(arm.name)
        if log_probs is None:
            log_probs = stored_predictions(places, arm, beats)
        if log_probs is None:
            raise StudyStateError(
                f"{places.folder}: has no predictions of arm {arm.name}; delete it to compute "
                "them anew"
            )
        thresholds[arm.name] = thresholds_from(
            log_probs, beats.label, training.source_of(arm.name)
        )
    floor_beats = training.models.floor_beats
    for name in FLOORS:
        log_probs = floors.out_of_fold(name, floor_beats, training.folds)
        source = training.source_of(name)
        thresholds[name] = thresholds_from(log_probs, floor_beats.label, source)
    return thresholds


def trained_ensemble(arm: Arm, places: Places) -> SeedEnsemble | None:
    """Return all models of an arm from their study; None where it has none.

    Raises:
        StudyStateError: If the file is damaged.
    """
    content = places.files.folder(rules.digest(arm.config)).read(WEIGHTS)
    if content is None:
        return None
    if fault := file_fault(WEIGHTS, content):
        raise StudyStateError(
            f"{places.folder}: the {WEIGHTS} of arm {arm.name} {fault}; delete the folder to "
            "train anew"
        )
    weights = torch.load(io.BytesIO(content), weights_only=True)
    return SeedEnsemble.of_weights(arm.config, weights)


def _digest(ensembles: Mapping[str, SeedEnsemble], thresholds: Mapping[str, object]) -> str:
    digest = hashlib.sha256(json.dumps(thresholds, sort_keys=True).encode())
    for name in sorted(ensembles):
        for model in ensembles[name].models:
            for key, values in model.state_dict().items():
                digest.update(f"{name} {key}".encode())
                digest.update(np.ascontiguousarray(values.numpy()).tobytes())
    return digest.hexdigest()
