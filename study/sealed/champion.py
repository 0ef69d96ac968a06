"""The seed ensemble of an arm for the model registry: trained for a plan, DS2 opened or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from study.errors import CheckpointError, UsageError, unknown
from study.models import rules
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.folder import RESULT, EvaluationFolder
from study.sealed.plan import SealedPlan
from study.sealed.record import metrics_of
from study.tracking.openings import Opening

DS2_RESULT = "ds2_result"
"""Tag that says what DS2 has shown of a registered model."""


def ensemble_of(
    plan: SealedPlan,
    path: Path,
    folder: EvaluationFolder,
    arm_name: str | None,
    opening: Opening | None,
) -> SeedEnsemble:
    """Return the trained seed ensemble of an arm, with what a user of it must know.

    Args:
        plan: The plan.
        path: Its file, for messages.
        folder: Where its models are.
        arm_name: Which arm; None is the plan's first.
        opening: The last opening that left a result; None if none has.

    Raises:
        UsageError: If the plan has no such arm, or its models are not trained.
        CheckpointError: If the file is damaged, or of other models than the plan's.
    """
    arms = {arm.name: arm for arm in plan.arms}
    arm = arms.get(arm_name) if arm_name else plan.arms[0]
    if arm is None:
        raise UsageError(f"--arm: {unknown('arm', str(arm_name), arms)}")
    file = folder.ensemble(arm.name)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        rehearsal = " --synthetic" if folder.is_rehearsal else ""
        raise UsageError(
            f"--register: the models of plan {plan.title} are not trained; `python -m "
            f"study.evaluate --plan {path}{rehearsal} --stop-before-opening` trains them and "
            "opens nothing"
        ) from None
    try:
        ensemble = SeedEnsemble.read(content)
        same = rules.digest(ensemble.config) == rules.digest(arm.config)
        if not same or len(ensemble.models) != plan.seeds:
            raise CheckpointError(f"is of other models than arm '{arm.name}' of the plan")
    except CheckpointError as error:
        raise CheckpointError(
            f"{file}: {error}; delete it, and --stop-before-opening writes it anew"
        ) from error
    about = {
        **ensemble.about,
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
    ds2 = "a SYNTHETIC DS2" if folder.is_rehearsal else "DS2"
    stored = json.loads((folder.opening(opening) / RESULT).read_text())["arms"][arm]
    metric = f"test_ensemble_{plan.metrics[0]}"
    return f"opening {opening.number} of {ds2}: {metric} {metrics_of(stored)[metric]:.3f}"
