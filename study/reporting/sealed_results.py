"""Results on DS2 from plans based on a study, as `study.evaluate` left them."""

from __future__ import annotations

import json
import math
import statistics
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.reporting.results import SealedResult
from study.store.openings import plan_title

EVALUATIONS, RESULT = "evaluations", "result.json"
"""Folder of a workspace's sealed tests, and the file of an opening's result."""


def sealed_results(workspace: Path, study: str) -> list[SealedResult]:
    """Return the results of a study's openings, oldest first; a damaged one is left out."""
    openings = []
    for path in (workspace / EVALUATIONS).glob(f"*/opening_*/{RESULT}"):
        number = path.parent.name.removeprefix("opening_")
        if not number.isdigit():
            continue  # of another test set
        try:
            content = json.loads(path.read_text())
            plan = tomllib.loads(content["plan"])
            # A plan of the previous version has its study at the top level.
            if plan.get("test", plan).get("study", {}).get("name") == study:
                openings.append((int(number), _sealed(content)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return [result for _, result in sorted(openings, key=lambda pair: pair[0])]


def _sealed(content: Mapping[str, Any]) -> SealedResult:
    opening = content["opening"]
    arms = {arm: dict(_metrics(of["seeds"]["values"])) for arm, of in content["arms"].items()}
    seeds = max(
        (len(v) for of in content["arms"].values() for v in of["seeds"]["values"].values()),
        default=0,
    )
    return SealedResult(
        plan=plan_title(opening["plan"], opening["plan_hash"]),
        opened=str(opening["time"])[:10],
        arms=arms,
        seeds=seeds,
    )


def _metrics(
    values: Mapping[str, list[float | None]],
) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, by_seed in values.items():
        finite = [value for value in by_seed if value is not None]
        if finite and len(finite) == len(by_seed):
            sd = statistics.stdev(finite) if len(finite) > 1 else math.nan
            yield name, (statistics.fmean(finite), sd)
