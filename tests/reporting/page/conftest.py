"""Results of made-up studies: a comparison, a search, and what little an unlucky one has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.config import TrialConfig
from study.keys import AUPRC_SV, CLASSES, Outcome, metric, reliance
from study.reporting.alarms import Alarm, Severity
from study.reporting.arms import arm_configs, facts_of
from study.reporting.results import Cost, Explanation, Importance, StudyResults
from study.statistics.predictions import ArmRuns, Beats
from study.store.floors import StudyFloor
from study.store.folder import SPACE_COPY
from study.store.study import Places, Study
from study.store.trials import TrialRow, Trials
from study.training.results import Inspection
from tests.builders import compared, optuna_trial, study_plan, trial_row

MakeResults = Callable[..., StudyResults]

ARMS = ("film", "film_placebo", "ecg")

SPACES = {
    "compare": """
description = "Which <arm> & why"
fixed = { segmentation = "beat" }
arms = [
    { name = "film", fusion = "mhca_time", placebo = true },
    { name = "ecg", input = "ecg", fusion = "none" },
]
[compare]
draws = 1
seeds = 2
folds = 2
reference = "ecg"
contrasts = [["film", "film_placebo"]]
""",
    "search": """
description = "Which arm?"
search = { sampler = "tpe", trials = 8 }
params.learning_rate = { low = 1e-3, high = 1e-2 }
""",
}

PLAN = study_plan(
    kind="compare", sampler="draws", scheduler="none", n_seeds=2, data_source="mitdb"
)


def row_of(number: int, arm: str, value: float, **changes: Any) -> TrialRow:
    metrics = {AUPRC_SV: value, "val_auroc_sv": 0.9, "val_auprc_macro": value}
    metrics |= {metric("auprc", name): value for name in CLASSES}
    for kind in ("inputs", "total"):
        metrics |= {reliance(kind, name) + end: 0.1 for name in "SV" for end in ("", "_min")}
        metrics |= {reliance(kind, name) + "_max": 0.12 for name in "SV"}
    given = {
        "digest": f"{number:012x}",
        "params": {"learning_rate": 0.001 * (number + 1)},
        "metrics": metrics,
        "seconds": 60.0,
    }
    return trial_row(number, arm, **{**given, **changes})


COST = Cost(parameters=90_000, operations=10**7, milliseconds_one=1.0, milliseconds_batch=0.5)

EXPLANATION = Explanation(
    trial=0,
    inspection=Inspection(
        beats=np.full(4, 20),
        mean_beat=np.tile(np.sin(np.linspace(0, 6, 128)), (4, 1)).astype(np.float32),
        attention=np.full((4, 2, 64), 1 / 64, dtype=np.float32),
        deletion={"nothing": 0.5, "most": 0.2, "least": 0.49, "random": 0.45},
        branch_share=np.array([0.1, 0.4, 0.2, 0.3], dtype=np.float32),
    ),
    gates=np.full((4, 8), 0.12),
)


@pytest.fixture(scope="session")
def make_results(
    beats: Beats, arms: list[ArmRuns], tmp_path_factory: pytest.TempPathFactory
) -> MakeResults:
    """A factory of results of a finished comparison; give what is otherwise.

    Of its study: `plan`, `rows`, `curves` by number of trial, `held`, and `attrs` of its storage.
    """
    runs = tuple(arm for arm in arms if arm.name in ARMS)
    floor = replace(arms[-1], name="logistic regression")
    comparison = compared(beats, runs, floor=floor, contrasts=[("film", "film_placebo")])
    folders = {}
    for kind, text in SPACES.items():
        folders[kind] = tmp_path_factory.mktemp(kind)
        (folders[kind] / SPACE_COPY).write_text(text)

    def make(**changes: Any) -> StudyResults:
        study: dict[str, Any] = {
            "plan": PLAN,
            "rows": [row_of(k, name, 0.5 - 0.1 * k) for k, name in enumerate(ARMS)],
            "curves": {k: {e: 0.1 * e for e in range(1, 7)} for k in range(3)},
            "held": False,
            "attrs": {"start:1": {"at_s": 1.0, "about": {"commit": "c0ffee"}}},
        }
        study |= {name: changes.pop(name) for name in study if name in changes}
        plan, config = study["plan"], TrialConfig()
        every = [
            optuna_trial(row, config, study["curves"].get(row.number)) for row in study["rows"]
        ]
        made = Study(
            places=Places(folder=folders[plan.kind]),
            plan=plan,
            held=study["held"],
            trials=Trials(all=tuple(every), attrs=study["attrs"], epochs=plan.epochs),
        )
        given: dict[str, Any] = {
            "study": made,
            "written": "2026-01-01 00:00 UTC",
            "arms": facts_of(arm_configs(made)),
            "beats": beats,
            "runs": runs,
            "comparison": comparison,
            "alarms": (Alarm(severity=Severity.WARNING, what="w <b>", evidence="e", advice="a"),),
            "floors": [StudyFloor(name="logistic_regression", digest="", metrics={AUPRC_SV: 0.3})],
            "dropped": {"class Q": 8},
            "costs": dict.fromkeys(ARMS, COST),
            "explanations": {"film": EXPLANATION},
            "openings": "DS2 has been opened 0 times in this workspace.",
        }
        return StudyResults(**{**given, **changes})

    return make


@pytest.fixture(scope="session")
def make_search(make_results: MakeResults) -> MakeResults:
    """A factory of results of a running search with a pruned, a failed and a stopped trial."""

    def make(**changes: Any) -> StudyResults:
        given = {
            "plan": replace(PLAN, kind="search", sampler="tpe", scheduler="asha", trials=8),
            "rows": [
                row_of(0, "film", 0.5),
                row_of(1, "film", 0.4),
                row_of(2, "ecg", 0.3),
                row_of(3, "ecg", 0.2, outcome=Outcome.PRUNED, epochs=2),
                row_of(4, "film", 0.2, outcome=Outcome.FAILED, cause="Error: loss", epochs=1),
                row_of(5, "film", 0.2, outcome=Outcome.STOPPED, epochs=2),
            ],
            "curves": {k: {1: 0.1, 2: 0.2 + 0.01 * k} for k in range(6)},
            "importance": Importance(shares={"learning_rate": 0.8}, trials=30, kind="complete"),
            "held": True,
        }
        return make_results(**{**given, **changes})

    return make
