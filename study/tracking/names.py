"""The names that metrics and parameters have in MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping

from study.config import ARM_PARTS
from study.keys import (
    BEATS_PER_SECOND,
    LEARNING_RATE,
    OBJECTIVES,
    TRAIN_LOSS,
    VAL_LOSS,
)

ABSENT = "none"
"""Value of a parameter that an arm does not have."""

ALWAYS = (*ARM_PARTS, "heads", "gate", "gate_init", "embed_dim")
"""Parameters that every trial's run has: a chart shows a missing parameter as unknown."""

_TRAINING = {TRAIN_LOSS, VAL_LOSS, LEARNING_RATE, BEATS_PER_SECOND}

_GROUPS = (
    ("rr_reliance_", "reliance/"),
    ("val_pooled_", "pooled/"),
    ("val_patient_", "patient/"),
    ("gate_", "training/gate_"),
)

_SPREAD = re.compile(r"val_\w+_(fold|seed|partition)_sd")
_OF_DATABASE = re.compile(r"val_\w+_auprc_\w+")


def metric_shown(name: str) -> str:
    """Return a metric's name in MLflow, whose UI groups names by what is before a slash.

    Three kinds keep their names: means that can be an objective, names from earlier versions, and
    metrics that are not of a trial.
    """
    if name in OBJECTIVES:
        return name
    if name in _TRAINING:
        return f"training/{name}"
    for begins, group in _GROUPS:
        if name.startswith(begins):
            return group + name.removeprefix(begins)
    if not name.startswith("val_"):
        return name
    group = "class"
    if _SPREAD.fullmatch(name):
        group = "spread"
    elif _OF_DATABASE.fullmatch(name):
        group = "database"
    return f"{group}/{name.removeprefix('val_')}"


def with_absent(params: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration's parameters; those that it does not have are `ABSENT`."""
    return {**dict.fromkeys(ALWAYS, ABSENT), **params}
