"""Small made-up beats and arms, whose every figure a plain loop can check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from study.keys import CLASSES
from study.reporting.predictions import ArmRuns, Beats

MakeArm = Callable[..., ArmRuns]

COUNTS = {"N": 30, "S": 12, "V": 14, "F": 6}
"""Beats of every record: each fold has more than ten of each class."""


@pytest.fixture
def beats() -> Beats:
    """Eight records of seven patients in two folds; one record more is in no fold."""
    one = np.repeat(np.arange(len(CLASSES)), list(COUNTS.values()))
    names = ("100", "101", "102", "103", "104", "105", "106", "107", "108")
    # 104 has no S, and most V are of 106.
    labels = [np.where((one == 1) & (name == "104"), 0, one) for name in names]
    labels[6] = np.append(labels[6], np.full(40, 2))
    return Beats(
        label=np.concatenate(labels),
        record=np.repeat(np.arange(len(names)), [len(label) for label in labels]),
        record_names=names,
        patient_of_record=("100", "101", "102", "101", "104", "105", "106", "107", "108"),
        fold_of_record=(0, 0, 0, 0, 1, 1, 1, 1, -1),
    )


@pytest.fixture
def make_arm(beats: Beats) -> MakeArm:
    """A factory of arms that rank the beats better than chance, with many ties."""

    def make(name: str = "film", *, draws: int = 2, seeds: int = 3, **changes: Any) -> ArmRuns:
        rng = np.random.default_rng(list(name.encode()))
        n_runs, n_beats = draws * seeds, len(beats.label)
        own = np.arange(len(CLASSES)) == beats.label[:, None]
        better = changes.pop("better", 0.0)
        noise = rng.normal(size=(n_runs, n_beats, len(CLASSES)))
        log_probs = np.round(noise + (1.0 + better) * own, 1).astype(np.float32)
        log_probs[:, beats.fold < 0] = np.nan
        given: dict[str, Any] = {
            "name": name,
            "log_probs": log_probs,
            "draw": np.repeat(np.arange(draws), seeds),
            "seed": np.tile(np.arange(seeds), draws),
            "input": "opt1",
            "segmentation": "beat",
            "fusion": "film",
        }
        return ArmRuns(**{**given, **changes})

    return make
