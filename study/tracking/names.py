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

_GROUPS = ("pooled", "patient", "ensemble", "fixed")
"""Beginnings of the names of scores, each a group of its own."""

_SPREAD = re.compile(r"\w+_(fold|seed|partition)_sd")
_OF_DATABASE = re.compile(r"\w+_auprc_\w+")

_MEANS = {*OBJECTIVES, *(name.replace("val_", "test_", 1) for name in OBJECTIVES)}


def metric_shown(name: str) -> str:
    """Return a metric's name in MLflow, whose UI groups names by what is before a slash.

    Three kinds keep their names: means that can be an objective, of a validation or a test; names
    from earlier versions; and metrics that are not of a trial. Other metrics of a test keep
    `test_`, so that no chart mixes them with those of a validation.
    """
    if name in _MEANS:
        return name
    if name in _TRAINING:
        return f"training/{name}"
    for begins, group in (("rr_reliance_", "reliance/"), ("gate_", "training/gate_")):
        if name.startswith(begins):
            return group + name.removeprefix(begins)
    for stage, kept in (("val_", ""), ("test_", "test_")):
        if name.startswith(stage):
            group, score = _grouped(name.removeprefix(stage))
            return f"{group}/{kept}{score}"
    return name


def _grouped(score: str) -> tuple[str, str]:
    """Return the group of a score, and its name there."""
    if _SPREAD.fullmatch(score):
        return "spread", score
    begins, _, rest = score.partition("_")
    if begins in _GROUPS:
        return begins, rest
    return ("database" if _OF_DATABASE.fullmatch(score) else "class"), score


def with_absent(params: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration's parameters; those that it does not have are `ABSENT`."""
    return {**dict.fromkeys(ALWAYS, ABSENT), **params}
