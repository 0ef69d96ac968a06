"""Sends a sealed test to MLflow: its stored results, and seed ensembles for the registry."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import UsageError, unknown
from study.keys import Outcome, Tag
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.groups import TRAINING, places_of
from study.sealed.plan import SealedPlan
from study.sealed.result import EXTERNAL, PER_RECORD, PREDICTIONS, TABLES, EvaluationFolder
from study.sealed.training import commits_of, trained_ensemble
from study.store.beats_file import read_beats
from study.store.folder import BEATS
from study.store.openings import RESULT, Opening
from study.store.plan import StudyPlan
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import write_result
from study.tracking.names import with_absent
from study.tracking.run_facts import FLOOR as FLOOR_RUN
from study.tracking.run_facts import STUDY, TRIAL, RunFacts, points_of, trial_name
from study.wording import score_text, trained_on

STAGE = "test"
"""Value of the tag `stage` for results on DS2; a study's runs have `validation`."""


def record_opening(
    experiment: Experiment, plan: SealedPlan, folder: EvaluationFolder, opening: Opening
) -> str:
    """Record the result of an opening; arguments and result as in `record_external`."""
    tags = {
        Tag.STAGE: STAGE,
        Tag.DATA_SOURCE: str(opening.content.get("records")),
        "opening": str(opening.number),
        # Another opening of the same plan is another parent run.
        Tag.STUDY_ID: opening.digest[:12],
    }
    counts = {"openings": float(opening.number)}
    results = folder.opening(opening)
    return _record(
        experiment, plan, folder, results, on=folder.test_set, tags=tags, metrics=counts
    )


def record_external(
    experiment: Experiment, plan: SealedPlan, folder: EvaluationFolder, name: str
) -> str:
    """Record a result on other records; return the name by which MLflow shows it.

    Raises:
        TrackingError: If the store cannot be used at all.
    """
    results = folder.external(name)
    about = json.loads((results / RESULT).read_text())[EXTERNAL]
    tags = {
        Tag.STAGE: EXTERNAL,
        Tag.DATA_SOURCE: about["source"],
        "external_records": name,
        "macro": ", ".join(about["macro"]),
        # Other records, models or code make another parent run.
        Tag.STUDY_ID: about["identity"],
    }
    return _record(experiment, plan, folder, results, on=name, tags=tags, metrics={})


def _record(
    experiment: Experiment,
    plan: SealedPlan,
    folder: EvaluationFolder,
    results: Path,
    *,
    on: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    result = json.loads((results / RESULT).read_text())
    common_tags = {
        **result["provenance"],
        **tags,
        Tag.ENGINE: result["engine"],
        "plan_hash": plan.hash,
        "mlflow.source.name": "python -m study.evaluate",
        Tag.STUDY: f"{plan.test.name} on {on}",
    }
    arms = _parts(plan, result["arms"], common_tags)
    primary = f"test_{plan.test.metrics[0]}"
    best = {
        f"{arm.name}_{primary}": metrics_of(result["arms"][arm.name])[primary] for arm in plan.arms
    }
    parent = _run(
        STUDY,
        common_tags[Tag.STUDY],
        {**metrics, **best},
        params={
            "seeds": plan.seeds,
            "study_seed": plan.test.study_seed,
            "metrics": ", ".join(plan.test.metrics),
            "contrasts": plan.test.contrasts_text,
            "resamples": plan.test.resamples,
            "trained_by": ", ".join(result["trained_by"]),
        },
        tags=common_tags,
    )
    files = [results / name for name in (TABLES, RESULT, PER_RECORD, PREDICTIONS)]
    write_result(experiment, parent, arms, [folder.root / "plan.toml", *files])
    return parent.name


def _parts(plan: SealedPlan, stored: Mapping[str, Any], tags: Mapping[str, str]) -> list[RunFacts]:
    """Return the facts of a run for each arm and each floor."""
    arms = []
    for number, arm in enumerate(plan.arms):
        params = stored[arm.name]["configuration"]
        own = {
            Tag.ARM: arm.name,
            Tag.INPUT: arm.config.signal.input,
            Tag.FUSION: arm.config.model.fusion,
        }
        arms.append(
            _run(
                TRIAL,
                trial_name(number, params),
                metrics_of(stored[arm.name]),
                digest=arm.name,
                params=with_absent(params),
                tags={**tags, **own},
            )
        )
    # A result of the version before has one floor.
    labels = {name: f"floor: {name.replace('_', ' ')}" for name in plan.floors if name in stored}
    floors = [
        _run(
            FLOOR_RUN,
            label,
            metrics_of(stored[name]),
            digest=f"{tags[Tag.STUDY_ID]}-{name}",
            params=with_absent({"fusion": label, "floor": name, **stored[name]["configuration"]}),
            tags=tags,
        )
        for name, label in labels.items()
    ]
    return [*arms, *floors]


def _run(kind: str, name: str, metrics: Mapping[str, float], **more: Any) -> RunFacts:
    now_s = time.time()
    # The metrics of a parent run are at step 1, like those of a study's run.
    points, undefined = points_of(metrics, int(kind == STUDY), now_s)
    return RunFacts(
        kind=kind,
        name=name,
        points=tuple(points),
        undefined=undefined,
        began_s=now_s,
        ended_s=now_s,
        outcome=str(Outcome.COMPLETE),
        **more,
    )


def metrics_of(stored: Mapping[str, Any]) -> dict[str, float]:
    """Return an arm's metrics: mean and spread over seeds, and those of the seed ensemble."""
    metrics = {}
    for name, values in stored["seeds"]["values"].items():
        numbers = np.array(values, dtype=np.float64)  # None stands for NaN
        metrics[name] = float(numbers.mean())
        if len(numbers) > 1:
            metrics[f"{name}_seed_sd"] = float(numbers.std(ddof=1))
    if len(next(iter(stored["seeds"]["values"].values()))) > 1:
        for name, (value,) in stored["ensemble"]["values"].items():
            ensemble = f"test_ensemble_{name.removeprefix('test_')}"
            metrics[ensemble] = math.nan if value is None else float(value)
    return metrics


DS2_RESULT = "ds2_result"
"""Tag with the result of a registered model on DS2."""


def registrable(
    plan: SealedPlan,
    path: Path,
    folder: EvaluationFolder,
    arm_name: str | None,
    opening: Opening | None,
    storage: str,
) -> SeedEnsemble:
    """Return the trained seed ensemble of an arm, with tags for its users.

    `path` is the plan's file, for messages; without `arm_name` it is the plan's first arm.
    `opening` is the last that left a result, else the last; None if there is none. With `storage`
    studies have their trials' files below this folder or URI, else in their own folders.

    Raises:
        UsageError: If the plan has no such arm, or its models are not trained.
        StudyStateError: If the file of the models is damaged.
    """
    arms = {arm.name: arm for arm in plan.arms}
    arm = arms.get(arm_name) if arm_name else plan.arms[0]
    if arm is None:
        raise UsageError(f"--arm: {unknown('arm', str(arm_name), arms)}")
    development = plan.test.development_of(arm.name)
    places = places_of(folder, TRAINING, storage, plan, development)
    ensemble = trained_ensemble(arm, places)
    if ensemble is None:
        rehearsal = " --synthetic" if folder.is_rehearsal else ""
        raise UsageError(
            f"--register: the models of plan {plan.title} are not trained; `python -m "
            f"study.evaluate --plan {path}{rehearsal} --stop-before-opening` trains them and "
            "opens nothing (models trained with --storage need that option here too)"
        )
    kind = StudyPlan.load(places.folder).data_source
    records = trained_on(len(read_beats(places.folder / BEATS).record_names), kind, development)
    about = {
        "trained_on": f"{records}, {plan.seeds} seeds, for the sealed test '{plan.test.name}'",
        Tag.DATA_SOURCE: kind,
        "plan_hash": plan.hash,
        Tag.GIT_COMMIT: ", ".join(sorted(commits_of(folder))),
        "plan": plan.title,
        "plan_arm": arm.name,
        DS2_RESULT: _ds2_result(plan, folder, arm.name, opening),
    }
    return replace(ensemble, about=about)


def _ds2_result(
    plan: SealedPlan, folder: EvaluationFolder, arm: str, opening: Opening | None
) -> str:
    if opening is None:
        return "none: DS2 was not opened for this plan"
    if not folder.has_result(opening):
        return f"none yet: opening {opening.number} of {folder.words} has left no result"
    stored = json.loads((folder.opening(opening) / RESULT).read_text())["arms"][arm]
    metric = f"test_ensemble_{plan.test.metrics[0]}"
    value = score_text(metrics_of(stored)[metric])
    return f"opening {opening.number} of {folder.words}: {metric} {value}"
