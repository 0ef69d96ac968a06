"""Writes a result of a sealed test, on DS2 or on other records, into four files.

Predictions come first: what is made of them can be made again.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.models import rules
from study.sealed.folder import PER_RECORD, PREDICTIONS, RESULT, TABLES, EvaluationFolder
from study.sealed.plan import SealedPlan
from study.sealed.preparation import Prepared, seeds_of
from study.sealed.scoring import Half
from study.sealed.tables import Findings, result_text
from study.statistics.predictions import Beats
from study.store import floors
from study.store.plan import provenance


def keep_predictions(
    plan: SealedPlan,
    folder: EvaluationFolder,
    place: str,
    *,
    beats: Beats,
    log_probs: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write what was predicted, before anything is made of it.

    Args:
        plan: The plan.
        folder: Where everything of the plan is kept.
        place: Where the result goes in it.
        beats: The beats that were predicted.
        log_probs: [S, N, C] of every arm and [1, N, C] of the floor.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"log_probs_{name}": values for name, values in log_probs.items()}
    np.savez_compressed(
        buffer,
        label=beats.label,
        record=beats.record,
        record_names=np.asarray(beats.record_names),
        seeds=np.asarray(seeds_of(plan)),
        **arrays,
    )
    folder.write(f"{place}/{PREDICTIONS}", buffer.getvalue())


def keep(
    plan: SealedPlan,
    prepared: Prepared,
    folder: EvaluationFolder,
    place: str,
    *,
    about: Mapping[str, Any],
    beats: Beats,
    findings: Findings,
) -> None:
    """Write a result beside its predictions; where `result.json` stands, everything else does too.

    Args:
        plan: The plan.
        prepared: Its models and thresholds.
        folder: Where everything of the plan is kept.
        place: Where the result goes in it.
        about: What `result.json` says besides.
        beats: The beats that were predicted.
        findings: What the tables show.
    """
    configs = {arm.name: rules.active_parameters(arm.config) for arm in plan.arms}
    result = {
        **about,
        "plan": plan.text(),
        "engine": str(prepared.job.engine),
        "provenance": provenance(prepared.job.device),
        "trained_by": list(prepared.trained_by),
        "beats": {
            "total": len(beats.label),
            "by_record": dict(zip(beats.record_names, beats.counts, strict=True)),
        },
        "exclusions": [asdict(exclusion) for exclusion in findings.left_out],
        "arms": {
            arm.name: {
                "configuration": configs.get(arm.name, dict(floors.SETTINGS)),
                "thresholds": arm.thresholds.as_json(),
                "seeds": _half(arm.seeds),
                "ensemble": _half(arm.ensemble),
            }
            for arm in findings.arms
        },
        "comparisons": {
            name: asdict(comparison) for name, comparison in findings.comparisons.items()
        },
        "ensembles": asdict(findings.ensembles),
    }
    rows = [row for arm in findings.arms for row in arm.per_record]
    folder.write(f"{place}/{PER_RECORD}", _csv(rows))
    folder.write(f"{place}/{TABLES}", result_text(findings) + "\n")
    folder.write_json(f"{place}/{RESULT}", result)


def _half(half: Half) -> dict[str, Any]:
    return {
        "values": half.values,
        "without": half.without,
        "ec57": half.ec57,
        "confusion": half.confusion,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
