"""What a sealed test would do, in words, before it trains or opens anything."""

from __future__ import annotations

from pathlib import Path

from study.models import rules
from study.sealed.plan import FLOOR, SealedPlan
from study.sealed.preparation import tasks_of, without_predictions
from study.sealed.records import Records
from study.sealed.retrain import Job, read_done
from study.store.storage import Storage


def describe(
    plan: SealedPlan, job: Job, records: Records, study: Path | None, storage: Storage | None
) -> str:
    """Return what a plan comes to on these records.

    Args:
        plan: The plan.
        job: What its models would be trained with.
        records: DS1, and what the files of DS2 are.
        study: Folder of the study that the plan comes from.
        storage: Where that study's trials keep their files.
    """
    beats = next(iter(job.beats.values()))
    cross_validated = without_predictions(plan, job, study, storage)
    tasks = tasks_of(plan, cross_validated)
    trained = sum(read_done(task, job) is not None for task in tasks)
    lines = [
        f"plan {plan.title}: {len(plan.arms)} arms x {plan.seeds} seeds, each trained on all of "
        f"DS1 ({len(beats.label):,} beats of {len(beats.record_names)} records)"
    ]
    for arm in plan.arms:
        lines.append(f"  {arm.name}: {rules.arm(arm.config)}, {arm.config.train.epochs} epochs")
        lines.append(f"    {rules.rr_routes(arm.config).text()}")
        if arm.name in cross_validated:
            lines.append(f"    thresholds: cross-validated first, {len(job.folds)} folds")
    lines.append(f"  {FLOOR}: the floor, compared with every arm")
    contrasts = [f"{first} - {second}" for first, second in plan.contrasts]
    lines += [
        f"contrasts: {', '.join(contrasts) or 'none'}",
        f"metrics: {', '.join(plan.metrics)} (primary: {plan.metrics[0]})",
        f"records: {records.source.description}",
        f"DS2: {len(records.ds2)} files, known by name and hash, not read",
        f"arithmetic: {job.engine}",
        f"models: {trained} of {len(tasks)} are trained already",
    ]
    return "\n".join(lines)
