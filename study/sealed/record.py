"""Hands a stored result to the tracker: a parent run for it, a run for each arm."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from study.keys import Outcome, Tag
from study.sealed.folder import EXTERNAL, PER_RECORD, PREDICTIONS, RESULT, TABLES, EvaluationFolder
from study.sealed.plan import FLOOR, SealedPlan
from study.tracking.openings import Opening
from study.tracking.sink import Sink

STAGE = "test"
"""Value of the tag `stage` of DS2's results: a study's runs have `validation`."""


def record_opening(
    sink: Sink, plan: SealedPlan, folder: EvaluationFolder, opening: Opening
) -> None:
    """Record the result of an opening; arguments as in `record_external`."""
    tags = {
        Tag.STAGE: STAGE,
        Tag.DATA_SOURCE: str(opening.content.get("records")),
        "opening": str(opening.number),
        # Another opening of the same plan is another parent run.
        Tag.STUDY_ID: opening.digest[:12],
    }
    counts = {"openings": float(opening.number)}
    _record(sink, plan, folder, folder.opening(opening), on="DS2", tags=tags, metrics=counts)


def record_external(sink: Sink, plan: SealedPlan, folder: EvaluationFolder, name: str) -> None:
    """Record a result on other records.

    Args:
        sink: Where to.
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
    _record(sink, plan, folder, place, on=name, tags=tags, metrics={})


def _record(
    sink: Sink,
    plan: SealedPlan,
    folder: EvaluationFolder,
    place: Path,
    *,
    on: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> None:
    result = json.loads((place / RESULT).read_text())
    every = {
        **result["provenance"],
        **tags,
        Tag.ENGINE: result["engine"],
        "plan_hash": plan.hash,
        "mlflow.source.name": "python -m study.evaluate",
    }
    identity = every.pop(Tag.STUDY_ID)
    sink.open_study(
        f"{plan.name} on {on}",
        params={
            "seeds": plan.seeds,
            "study_seed": plan.study_seed,
            "metrics": ", ".join(plan.metrics),
            "contrasts": ", ".join(f"{first} - {second}" for first, second in plan.contrasts),
            "resamples": plan.resamples,
            "trained_by": ", ".join(result["trained_by"]),
        },
        tags={**every, Tag.STUDY_ID: identity},
        artifacts=[folder.root / "plan.toml"],
    )
    for number, arm in enumerate(plan.arms):
        stored = result["arms"][arm.name]
        run = sink.open_trial(
            arm.name,
            number=number,
            params=stored["configuration"],
            tags={
                **every,
                Tag.ARM: arm.name,
                Tag.INPUT: arm.config.signal.input,
                Tag.FUSION: arm.config.model.fusion,
            },
        )
        sink.close_trial(run, outcome=Outcome.COMPLETE, cause="", metrics=metrics_of(stored))
    floor = result["arms"][FLOOR]
    sink.add_floor(
        f"{identity}-{FLOOR}",
        name=f"floor: {FLOOR.replace('_', ' ')}",
        params={"floor": FLOOR, **floor["configuration"]},
        tags=every,
        metrics=metrics_of(floor),
    )
    primary = f"test_{plan.metrics[0]}"
    best = {
        f"{arm.name}_{primary}": metrics_of(result["arms"][arm.name])[primary] for arm in plan.arms
    }
    sink.close_study(
        outcome=str(Outcome.COMPLETE),
        metrics={**metrics, **best},
        artifacts=[place / name for name in (TABLES, RESULT, PER_RECORD, PREDICTIONS)],
    )


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
