"""Before an opening: trains the models of a plan as studies, and fixes the thresholds."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from study.config import Cut
from study.data.beat_set import BeatSet
from study.errors import DivergedError, StudyStateError, listed
from study.keys import FLOORS, Outcome
from study.models import rules
from study.models.seed_ensemble import SeedEnsemble
from study.reporting.arms import look_ahead, reference_text
from study.sealed.groups import Group, set_up_group
from study.sealed.plan import Arm, SealedPlan, check_origin
from study.sealed.records import Records
from study.sealed.result import EvaluationFolder
from study.sealed.thresholds import Thresholds, stored_predictions, thresholds_from
from study.store.study import Places, Study
from study.store.trial_files import WEIGHTS, file_fault
from study.training import floors
from study.training.engine import Engine
from study.tuning.machine import git_commit
from study.tuning.session import Summary
from study.tuning.setup import Setup
from study.wording import plural

_COMMITS = "commits.txt"

RunStudy = Callable[[Setup, Places], Summary]
"""Runs the owed trials of a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Everything that training a plan's models needs, before any training."""

    plan: SealedPlan  # the plan
    folder: EvaluationFolder  # where its models go
    records: Records  # those that train, and names and hashes of the files of the test set
    groups: tuple[Group, ...]  # the arms by the records that they train on

    @property
    def engine_here(self) -> Engine:
        """The engine for predictions on this machine, one model after the other."""
        return replace(self.groups[0].models.job.engine_here, packed=False)

    @property
    def n_trained(self) -> int:
        """Number of arms that are already trained."""
        return sum(group.n_trained for group in self.groups)

    def text(self) -> str:
        """Describe what the plan does with these records."""
        plan, test = self.plan, self.records.test
        metrics = plan.test.metrics
        of_arms = [line for group in self.groups for line in self._group_lines(group)]
        lines = [
            f"plan {plan.title}: {plural(len(plan.arms), 'arm')} x {plural(plan.seeds, 'seed')}",
            *of_arms,
            f"floors: {', '.join(FLOORS)}; every arm is compared with {plan.test.floor}",
            f"contrasts: {plan.test.contrasts_text or 'none'}",
            f"metrics: {', '.join(metrics)} (primary: {metrics[0]})",
            f"test set: {test.dataset}, {plural(len(test.checksums), 'file')}, known by name and "
            "hash, not read",
            f"arithmetic: {self.groups[0].models.job.engine}",
            f"models: {self.n_trained} of {len(plan.arms)} arms are trained already",
        ]
        return "\n".join(lines)

    def _group_lines(self, group: Group) -> Iterator[str]:
        beats = group.models.beats
        yield f"trained on {group.trained_on} ({len(beats.label):,} beats)"
        yield f"  records: {group.models.source.description}"
        for arm in group.arms:
            epochs = arm.config.train.epochs
            yield f"  {arm.name}: {rules.arm(arm.config)}, {plural(epochs, 'epoch')}"
            yield f"    {rules.rr_routes(arm.config).text()}"
            if reference := reference_text(arm.config):
                yield f"    {reference}"
            yield f"    look-ahead: {look_ahead(arm.config)}"
            yield f"    thresholds: by {group.source_of(arm.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Models and thresholds that exist when the test set is opened."""

    training: Training  # what the models were trained from
    ensembles: Mapping[str, SeedEnsemble]  # all seeds of each arm, by its name
    thresholds: Mapping[str, Thresholds]  # thresholds of each arm and each floor, by name
    # By name of a floor fitted on all training records: a function that predicts beats, [1, N, C]
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
    """Read what arms train on and set up their training, without writing anything.

    `storage` is the folder or URI below which studies have their trials' files; empty for their
    own folders.

    Raises:
        PlanError: If the plan's study was run on other records, or these have changed since.
        DataError: If a record cannot be used.
        UsageError: If the device has no such precision.
    """
    as_origin = check_origin(plan, records, workspace)
    groups = [
        set_up_group(
            plan,
            folder,
            development,
            source,
            as_origin=as_origin,
            workspace=workspace,
            cache_dir=cache_dir,
            device=device,
            storage=storage,
        )
        for development, source in records.developments.items()
    ]
    return Training(plan=plan, folder=folder, records=records, groups=tuple(groups))


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
    for group in training.groups:
        _run(group.models, group.places, run)
    thresholds = {
        name: chosen
        for group in training.groups
        for name, chosen in _thresholds(group, run).items()
    }
    fixed = {name: chosen.as_json() for name, chosen in thresholds.items()}
    folder.write_json("thresholds.json", fixed)
    ensembles = {}
    for group in training.groups:
        for arm in group.arms:
            ensemble = trained_ensemble(arm, group.places)
            if ensemble is None:
                raise StudyStateError(
                    f"{group.places.folder}: the {WEIGHTS} of arm {arm.name} is missing; delete "
                    "the folder to train anew"
                )
            ensembles[arm.name] = ensemble
    return Prepared(
        training=training,
        ensembles=ensembles,
        thresholds=thresholds,
        floors={
            name: floors.fit(floor, group.models.floor_beats)
            for group in training.groups
            for floor, name in group.floors.items()
        },
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


def _thresholds(group: Group, run: RunStudy) -> dict[str, Thresholds]:
    places = group.cross_validation_places
    if group.cross_validation is not None:
        _run(group.cross_validation, places, run)
    thresholds = {}
    for arm in group.arms:
        beats = group.models.job.beats_of(arm.config)
        log_probs = group.stored.get(arm.name)
        if log_probs is None:
            log_probs = stored_predictions(places, arm, beats)
        if log_probs is None:
            raise StudyStateError(
                f"{places.folder}: has no predictions of arm {arm.name}; delete it to compute "
                "them anew"
            )
        thresholds[arm.name] = thresholds_from(log_probs, beats.label, group.source_of(arm.name))
    beats = group.models.floor_beats
    for floor, name in group.floors.items():
        log_probs = floors.out_of_fold(floor, beats, group.folds)
        thresholds[name] = thresholds_from(log_probs, beats.label, group.source_of(name))
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
