"""How a start opens the ledger of its study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from study.spaces.load import load_space
from study.store.admission import Before
from study.store.plan import StudyPlan
from study.store.study import Places, Study
from study.tuning.session import open_ledger
from study.tuning.setup import Setup

SPACE = """
description = "one number"
[search]
sampler = "tpe"
trials = 40
[params.learning_rate]
low = 1e-4
high = 1e-2
"""


def draws(folder: Path, plan: StudyPlan) -> list[float]:
    """Return what a start's sampler asks for first; nothing of it is settled."""
    (folder / "space.toml").write_text(SPACE)
    of_study = SimpleNamespace(
        plan=replace(plan, kind="search", sampler="tpe", scheduler="none"),
        space=load_space(folder / "space.toml"),
    )
    places = Places(folder=folder)
    before = Before(Study.at(places), []) if StudyPlan.find(folder) else None
    plan.save(folder)
    ledger = open_ledger(cast(Setup, of_study), places, before)
    found = [ledger.ask().suggest_float("learning_rate", 1e-4, 1e-2) for _ in range(5)]
    ledger.release()
    return found


def test_a_start_after_trials_that_are_owed_does_not_ask_for_the_same_again(
    tmp_path: Path, plan: StudyPlan
) -> None:
    """It would take them for repeats, and twenty of those for the end of the space."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, other = (draws(folder, plan) for folder in folders)
    assert first == other, "a study's first start is repeatable"
    assert not set(first) & set(draws(folders[0], plan))
