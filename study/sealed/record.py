"""Hands a stored result to the tracker: a parent run for it, a run for each arm."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study.keys import Outcome, Tag
from study.sealed.folder import EXTERNAL, PER_RECORD, PREDICTIONS, RESULT, TABLES, EvaluationFolder
from study.sealed.plan import FLOOR, SealedPlan
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import write_result
from study.tracking.openings import Opening
from study.tracking.run_facts import FLOOR as FLOOR_RUN
from study.tracking.run_facts import STUDY, TRIAL, RunFacts, points_of, trial_name

STAGE = "test"
"""Value of the tag `stage` of DS2's results: a study's runs have `validation`."""


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
    place = folder.opening(opening)
    return _record(experiment, plan, folder, place, on="DS2", tags=tags, metrics=counts)


def record_external(
    experiment: Experiment, plan: SealedPlan, folder: EvaluationFolder, name: str
) -> str:
    """Record a result on other records; return the name by which MLflow shows it.

    Args:
        experiment: Where to.
        plan: The plan.
        folder: Where the result is.
        name: Name of the records.

    Raises:
        TrackingError: If the store cannot be used at all.
    """
    place = folder.external(name)
    about = json.loads((place / RESULT).read_text())[EXTERNAL]
    tags = {
        Tag.STAGE: EXTERNAL,
        Tag.DATA_SOURCE: about["source"],
        "external_records": name,
        "macro": ", ".join(about["macro"]),
        # Other records, models or code make another parent run.
        Tag.STUDY_ID: about["identity"],
    }
    return _record(experiment, plan, folder, place, on=name, tags=tags, metrics={})


def _record(
    experiment: Experiment,
    plan: SealedPlan,
    folder: EvaluationFolder,
    place: Path,
    *,
    on: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    result = json.loads((place / RESULT).read_text())
    every = {
        **result["provenance"],
        **tags,
        Tag.ENGINE: result["engine"],
        "plan_hash": plan.hash,
        "mlflow.source.name": "python -m study.evaluate",
        Tag.STUDY: f"{plan.name} on {on}",
    }
    now_s = time.time()

    def run(kind: str, name: str, metrics: Mapping[str, float], **more: Any) -> RunFacts:
        # The run of the whole has its figures at a step of their own, as that of a study.
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

    arms = [
        run(
            TRIAL,
            trial_name(number, result["arms"][arm.name]["configuration"]),
            metrics_of(result["arms"][arm.name]),
            digest=arm.name,
            params=result["arms"][arm.name]["configuration"],
            tags={
                **every,
                Tag.ARM: arm.name,
                Tag.INPUT: arm.config.signal.input,
                Tag.FUSION: arm.config.model.fusion,
            },
        )
        for number, arm in enumerate(plan.arms)
    ]
    floor = result["arms"][FLOOR]
    arms.append(
        run(
            FLOOR_RUN,
            f"floor: {FLOOR.replace('_', ' ')}",
            metrics_of(floor),
            digest=f"{every[Tag.STUDY_ID]}-{FLOOR}",
            params={"floor": FLOOR, **floor["configuration"]},
            tags=every,
        )
    )
    primary = f"test_{plan.metrics[0]}"
    best = {
        f"{arm.name}_{primary}": metrics_of(result["arms"][arm.name])[primary] for arm in plan.arms
    }
    whole = run(
        STUDY,
        every[Tag.STUDY],
        {**metrics, **best},
        params={
            "seeds": plan.seeds,
            "study_seed": plan.study_seed,
            "metrics": ", ".join(plan.metrics),
            "contrasts": ", ".join(f"{first} - {second}" for first, second in plan.contrasts),
            "resamples": plan.resamples,
            "trained_by": ", ".join(result["trained_by"]),
        },
        tags=every,
    )
    files = [place / name for name in (TABLES, RESULT, PER_RECORD, PREDICTIONS)]
    write_result(experiment, whole, arms, [folder.root / "plan.toml", *files])
    return whole.name


def metrics_of(stored: Mapping[str, Any]) -> dict[str, float]:
    """Return an arm's metrics: mean and spread over seeds, and those of the seed ensemble."""
    found = {}
    for name, values in stored["seeds"]["values"].items():
        numbers = np.array(values, dtype=np.float64)  # None is NaN
        found[name] = float(numbers.mean())
        if len(numbers) > 1:
            found[f"{name}_seed_sd"] = float(numbers.std(ddof=1))
    if len(next(iter(stored["seeds"]["values"].values()))) > 1:
        for name, (value,) in stored["ensemble"]["values"].items():
            ensemble = f"test_ensemble_{name.removeprefix('test_')}"
            found[ensemble] = math.nan if value is None else float(value)
    return found
