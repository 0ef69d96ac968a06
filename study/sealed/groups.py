"""Sets up the training of a plan's arms: a group for each set of records that arms train on.

An arm is a trial of a study that trains on all these records, with a member for each seed. If the
plan's original study has no out-of-fold predictions of an arm, a second study cross-validates the
arm. The study runner packs, distributes, tracks and resumes both like any study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.data.folds import Folds, make_folds
from study.data.source import Source
from study.errors import UsageError
from study.keys import UNRANKED
from study.models import rules
from study.sealed.plan import Arm, SealedPlan, arm_tables, check_data
from study.sealed.result import EvaluationFolder
from study.sealed.thresholds import stored_predictions
from study.spaces.load import checked_space
from study.spaces.sealed_plan import name_on
from study.spaces.space import Space
from study.spaces.toml_text import toml_text_of
from study.store.plan import StudyPlan
from study.store.study import Places
from study.store.trial_files import WEIGHTS, file_fault
from study.training.engine import resolve_precision
from study.tuning.setup import Setup, precision_of, set_up
from study.wording import trained_on

FOLDS = 5
"""Number of folds of the cross-validation for thresholds."""

TRAINING, CROSS_VALIDATION = "training", "cross_validation"
"""Folders of the two studies in the plan's folder, where arms train on the plan's own records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The arms and floors that train on the same records, before any training."""

    development: str  # the records, by the name that the plan has for them
    arms: tuple[Arm, ...]
    floors: Mapping[str, str]  # each floor's name in the test
    places: Places  # of the study that trains the arms
    models: Setup  # the study that trains the arms on all these records
    folds: Folds  # folds of the records, for thresholds
    cross_validation_places: Places  # of the study that cross-validates other arms
    cross_validation: Setup | None  # that study; None if the plan's own study has all arms
    # Out-of-fold predictions that the plan's own study has, by arm
    stored: Mapping[str, NDArray[np.float32]]
    origin: str  # name of the plan's own study

    @property
    def trained_on(self) -> str:
        """The records, in words."""
        kind = self.models.source.kind
        return trained_on(len(self.models.beats.record_names), kind, self.development)

    def source_of(self, name: str) -> str:
        """Name what the thresholds of an arm or a floor are chosen on."""
        if name in self.stored:
            return f"study {self.origin}"
        return f"a cross-validation of {len(self.folds)} folds"

    @property
    def n_trained(self) -> int:
        """Number of arms that are already trained."""
        files = self.places.files
        weights = [files.folder(rules.digest(arm.config)).read(WEIGHTS) for arm in self.arms]
        return sum(not file_fault(WEIGHTS, content) for content in weights)


def places_of(
    folder: EvaluationFolder, kind: str, storage: str, plan: SealedPlan, development: str
) -> Places:
    """Return the places of the records of one of a plan's studies; `kind` says which."""
    name = kind if development == plan.test.development else name_on(kind, development)
    # Below the plan's name: a shared storage may have other plans' studies of the same kind.
    below = f"{storage.rstrip('/')}/{folder.root.name}" if storage else ""
    return Places(folder=folder.root / name, storage=below)


def set_up_group(
    plan: SealedPlan,
    folder: EvaluationFolder,
    development: str,
    source: Source,
    *,
    as_origin: bool,
    workspace: Path,
    cache_dir: Path,
    device: str,
    storage: str,
) -> Group:
    """Read the records and set up the training of the arms, without writing anything.

    `as_origin` says that the plan's own study may have had the same records.

    Raises:
        PlanError: If the records have changed since the plan was written.
        DataError: If a record cannot be used.
        UsageError: If the device has no such precision.
    """
    places = {
        kind: places_of(folder, kind, storage, plan, development)
        for kind in (TRAINING, CROSS_VALIDATION)
    }

    def study_of(space: Space, kind: str) -> Setup:
        return set_up(
            space,
            source,
            name=f"{plan.label}-{places[kind].folder.name}",
            study_seed=plan.test.study_seed,
            partition_seed=0,
            device=device,
            precision=_precision(plan, device, places[TRAINING].folder),
            storage=places[kind].files,
            cache_dir=cache_dir,
        )

    arms = plan.developments[development]
    models = study_of(plan.space(development), TRAINING)
    is_origin = development == plan.test.development and plan.test.origin is not None
    if is_origin and as_origin:
        check_data(plan, models.job.beats)
    beats = models.beats
    folds = make_folds(
        beats.record_names,
        beats.counts,
        n_folds=min(FOLDS, len(set(source.patients.values()))),
        patients=source.patients,
        databases=beats.databases,
    )
    stored = dict(_stored_predictions(plan, models, workspace, storage)) if is_origin else {}
    unstored = [arm for arm in arms if arm.name not in stored]
    cross_validation = None
    if unstored:
        cross_validation = study_of(_out_of_fold(plan, unstored, len(folds)), CROSS_VALIDATION)
    return Group(
        development=development,
        arms=arms,
        floors=plan.test.floors_on(development),
        places=places[TRAINING],
        models=models,
        folds=folds,
        cross_validation_places=places[CROSS_VALIDATION],
        cross_validation=cross_validation,
        stored=stored,
        origin=plan.test.origin.name if plan.test.origin else "",
    )


def _precision(plan: SealedPlan, device: str, folder: Path) -> str:
    try:
        return resolve_precision(precision_of(plan.test.precision, StudyPlan.find(folder)), device)
    except UsageError as error:
        raise UsageError(
            f"plan {plan.title}: precision '{plan.test.precision}' is not for device '{device}'; "
            "give --device another, or the plan another precision before the test set is opened"
        ) from error


def _out_of_fold(plan: SealedPlan, arms: Sequence[Arm], n_folds: int) -> Space:
    """Return the space that predicts the arms out of fold, with one draw."""
    compare = {"draws": 1, "folds": n_folds, "seeds": 1, "reference": arms[0].name}
    tables = {
        "description": f"Out-of-fold predictions for the thresholds of {plan.test.name}",
        "compare": compare,
        "arms": arm_tables(arms),
    }
    path = Path(f"{plan.test.name}-{CROSS_VALIDATION}.toml")
    space = checked_space(tables, path, toml_text_of(tables))
    # Its scores rank no arms; they may be undefined where a fold has too few beats of a class.
    return replace(space, objective=UNRANKED)


def _stored_predictions(
    plan: SealedPlan, models: Setup, workspace: Path, storage: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    if plan.test.origin is None:
        return
    places = Places.of(workspace, plan.test.origin.name, storage=storage)
    for arm in plan.developments[plan.test.development]:
        log_probs = stored_predictions(places, arm, models.job.beats_of(arm.config))
        if log_probs is not None:
            yield arm.name, log_probs
