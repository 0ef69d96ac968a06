"""The study that a sealed test's plan comes from: its identity, and whether it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.config import digest_of
from study.data.beat_set import BeatSet
from study.data.prepare import Cut
from study.errors import PlanError, listed, unknown
from study.sealed.plan import SealedPlan
from study.sealed.records import Records
from study.spaces.sealed_test import Origin
from study.store.folder import STUDIES, studies, study_folder
from study.store.plan import load_plan


def origin_of(workspace: Path, name: str) -> tuple[Path, Mapping[str, Any], Origin]:
    """Return the folder, the stored plan and the identity of a study.

    Raises:
        PlanError: If there is no such study in the workspace.
    """
    folder = study_folder(workspace, name)
    stored = load_plan(folder)
    if stored is None:
        known = [str(plan["name"]) for plan in studies(workspace)]
        there = unknown("study", name, known) if known else f"no study '{name}', and no other"
        raise PlanError(f"{workspace / STUDIES}: {there}")
    return (
        folder,
        stored,
        Origin(name=name, fingerprint=digest_of(stored), data=dict(stored["data_fingerprints"])),
    )


def check_origin(plan: SealedPlan, records: Records, workspace: Path) -> None:
    """Check the study that a plan comes from; a plan by hand has none.

    Raises:
        PlanError: If the study is not there, has changed since the plan was written, or was run
            on other records.
    """
    origin = plan.test.origin
    if origin is None:
        return
    _, stored, now = origin_of(workspace, origin.name)
    if now.fingerprint != origin.fingerprint:
        raise PlanError(
            f"plan {plan.title}: study '{origin.name}' was {origin.fingerprint} when "
            f"the plan was written and is {now.fingerprint} now: it was run again, or its plan "
            "was edited. Write the plan anew"
        )
    if stored["data_source"] != records.source.kind:
        raise PlanError(
            f"plan {plan.title}: study '{origin.name}' ran on {stored['data_source']} "
            f"records, and this test would be on {records.source.kind} ones"
        )


def check_data(plan: SealedPlan, beats: Mapping[Cut, BeatSet]) -> None:
    """Check that DS1 is what the plan's study saw.

    Raises:
        PlanError: If it differs; it names every difference.
    """
    origin = plan.test.origin
    if origin is None:
        return
    now = {"/".join(cut): beat_set.fingerprint for cut, beat_set in beats.items()}
    faults = [
        f"{window}: the study had {then}, today's records and code give {now.get(window)}"
        for window, then in origin.data.items()
        if now.get(window, then) != then
    ]
    if faults:
        heading = f"plan {plan.title}: DS1 is not what study '{origin.name}' saw"
        raise PlanError(
            listed(heading, faults) + "\nRun the study again with today's records and code"
        )
