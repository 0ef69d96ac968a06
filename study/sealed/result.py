"""The folder of a sealed test, and the files of a result.

    evaluations/NAME-HASH/
      plan.toml                 the plan, as it was understood
      training/                 the study that trains the arms, on all records of the plan
      cross_validation/         the study of the arms whose thresholds no other study has
      thresholds.json           decision thresholds, fixed on the training records
      training_on_NAME/         the same for arms that train on other records than the plan's own
      opening_1/                what that opening of DS2 gave: tables.txt, result.json,
                                per_record.csv, predictions.npz
      opening_NAME_1/           the same of another test set
      external/NAME/            the same of other records, without an opening

A rehearsal and its openings are under `rehearsals/`, apart from the real log.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.files import pack_arrays, rows_csv, to_json, write_whole
from study.models import rules
from study.sealed.plan import SealedPlan
from study.sealed.tables import Findings, result_text
from study.statistics.predictions import Beats
from study.store.openings import DS2, EVALUATIONS, RESULT, Opening, OpeningsLog, log_name
from study.training import floors

REHEARSALS = "rehearsals"
TABLES, PER_RECORD, PREDICTIONS = "tables.txt", "per_record.csv", "predictions.npz"
EXTERNAL = "external"
"""Folder of results on other records; also their key in `result.json` and their `stage`."""

_TRACKED = "tracked"


@dataclass(frozen=True, slots=True)
class EvaluationFolder:
    """The folder of one plan; the results of openings in it are of one test set."""

    root: Path
    test_set: str = DS2

    @classmethod
    def of(
        cls, workspace: Path, plan: SealedPlan, *, rehearsal: bool, test_set: str = DS2
    ) -> EvaluationFolder:
        """Return the folder of a plan, without creating it."""
        kind = REHEARSALS if rehearsal else EVALUATIONS
        return cls(workspace / kind / plan.label, test_set)

    @property
    def is_rehearsal(self) -> bool:
        """Whether it belongs to a rehearsal on synthetic records."""
        return self.root.parent.name == REHEARSALS

    @property
    def words(self) -> str:
        """Name of the test set, in words."""
        return f"a SYNTHETIC {self.test_set}" if self.is_rehearsal else self.test_set

    def opening(self, opening: Opening) -> Path:
        """Return the folder of an opening's result."""
        return self.root / f"{_opening_of(self.test_set)}{opening.number}"

    def external(self, name: str) -> Path:
        """Return the folder of a result on other records."""
        return self.root / EXTERNAL / name

    def has_result(self, opening: Opening) -> bool:
        """Say whether an opening has left its result."""
        return (self.opening(opening) / RESULT).exists()

    def last_result(self, log: OpeningsLog, plan: SealedPlan) -> Opening | None:
        """Return the last opening of the plan that left a result."""
        ended = [opening for opening in log.of_plan(plan.hash) if self.has_result(opening)]
        return ended[-1] if ended else None

    def last_opening(self, log: OpeningsLog, plan: SealedPlan) -> Opening | None:
        """Return the last opening of the plan that left a result, else its last."""
        openings = log.of_plan(plan.hash)
        return self.last_result(log, plan) or (openings[-1] if openings else None)

    def stored_external(self, name: str) -> Mapping[str, str]:
        """Return the identity of a stored result on other records: records, models and code.

        Empty where there is no result.
        """
        try:
            stored = json.loads((self.external(name) / RESULT).read_text())[EXTERNAL]
            return {key: str(stored[key]) for key in ("identity", "records")}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file below the folder, whole or not at all."""
        path = self.root / name
        write_whole(path, content)
        return path

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write JSON below the folder; NaN as null."""
        return self.write(name, json.dumps(to_json(content), indent=1) + "\n")

    def is_tracked(self, result: Path) -> bool:
        """Say whether the result in a folder is in the tracker."""
        return (result / _TRACKED).exists()

    def note_tracked(self, result: Path) -> None:
        """Record that a result is in the tracker."""
        (result / _TRACKED).touch()

    def forget_tracked(self, result: Path) -> None:
        """Remove that record before the result is replaced."""
        (result / _TRACKED).unlink(missing_ok=True)


def _opening_of(test_set: str) -> str:
    return "opening_" if test_set == DS2 else f"opening_{test_set}_"


def openings_log(workspace: Path, test_set: str, *, rehearsal: bool) -> OpeningsLog:
    """Return the log of a test set's openings: the workspace's, or that of its rehearsals."""
    if not rehearsal:
        return OpeningsLog(workspace, test_set)
    return OpeningsLog(workspace / REHEARSALS, test_set, f"REHEARSAL: a SYNTHETIC {test_set}")


def opened_sets(workspace: Path, *, rehearsal: bool) -> list[str]:
    """Return the test sets that have a log of openings; DS2 is always among them, and first."""
    folder = workspace / REHEARSALS if rehearsal else workspace
    head, tail = log_name("*").split("*")
    logs = sorted(path.name for path in folder.glob(f"{head}*{tail}"))
    return [DS2, *(name.removeprefix(head).removesuffix(tail) for name in logs)]


def unlogged_results(workspace: Path, log: OpeningsLog, *, rehearsal: bool) -> list[str]:
    """Return results of openings that are missing in the log: somebody removed a line."""
    logged = {opening.digest for opening in log.read()}
    kind = REHEARSALS if rehearsal else EVALUATIONS
    faults = []
    for path in sorted((workspace / kind).glob(f"*/opening_*/{RESULT}")):
        if not path.parent.name.removeprefix(_opening_of(log.test_set)).isdigit():
            continue  # of another test set
        try:
            digest = json.loads(path.read_text())["opening"]["digest"]
        except (ValueError, KeyError, TypeError):
            digest = None
        if digest not in logged:
            faults.append(
                f"{path}: is the result of an opening that {log.path.name} does not have"
            )
    return faults


def keep_predictions(
    plan: SealedPlan,
    folder: EvaluationFolder,
    subfolder: str,
    *,
    beats: Beats,
    log_probs: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write log-probabilities, [S, N, C] of arms and [1, N, C] of floors, before scoring."""
    arrays = {
        "label": beats.label,
        "record": beats.record,
        "record_names": beats.record_names,
        "seeds": plan.seed_indices,
        **{f"log_probs_{name}": values for name, values in log_probs.items()},
    }
    folder.write(f"{subfolder}/{PREDICTIONS}", pack_arrays(arrays))


def keep(
    plan: SealedPlan,
    folder: EvaluationFolder,
    subfolder: str,
    *,
    about: Mapping[str, Any],
    beats: Beats,
    findings: Findings,
) -> None:
    """Write a result beside its predictions; `result.json` comes last and marks it complete."""
    configs = {arm.name: rules.active_parameters(arm.config) for arm in plan.arms}
    result = {
        **about,
        "plan": plan.text(),
        "beats": {
            "total": len(beats.label),
            "by_record": dict(zip(beats.record_names, beats.counts, strict=True)),
        },
        "exclusions": [asdict(exclusion) for exclusion in findings.left_out],
        "arms": {
            arm.name: {
                "configuration": configs.get(arm.name, dict(floors.SETTINGS)),
                "thresholds": arm.thresholds.as_json(),
                "seeds": asdict(arm.seeds),
                "ensemble": asdict(arm.ensemble),
            }
            for arm in findings.arms
        },
        "comparisons": {
            name: asdict(comparison) for name, comparison in findings.comparisons.items()
        },
        "ensembles": asdict(findings.ensembles),
    }
    rows = [row for arm in findings.arms for row in arm.per_record]
    folder.write(f"{subfolder}/{PER_RECORD}", rows_csv(rows))
    folder.write(f"{subfolder}/{TABLES}", result_text(findings) + "\n")
    folder.write_json(f"{subfolder}/{RESULT}", result)
