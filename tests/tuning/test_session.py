"""How a start opens the ledger of its study."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from study.store.admission import Before
from study.store.plan import StudyPlan
from study.store.study import Places, Study
from study.tuning.session import open_ledger
from study.tuning.setup import Setup
from tests.builders import RATES, load_text, space_toml

SPACE = space_toml(RATES, fixed={}, settings={"sampler": "tpe", "trials": 40})


def draws(folder: Path, plan: StudyPlan) -> list[float]:
    """Return what a start's sampler asks for first; nothing of it is settled."""
    of_study = SimpleNamespace(plan=plan, space=load_text(folder, SPACE))
    places = Places(folder=folder)
    before = Before(Study.at(places), []) if StudyPlan.find(folder) else None
    plan.save(folder)
    ledger = open_ledger(cast(Setup, of_study), places, before)
    found = [ledger.ask().suggest_float("learning_rate", 1e-4, 1e-2) for _ in range(5)]
    ledger.release()
    return found


def test_a_start_after_owed_trials_asks_for_others(tmp_path: Path, plan: StudyPlan) -> None:
    """It would take them for repeats, and twenty of those for the end of the space."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, other = (draws(folder, plan) for folder in folders)
    assert first == other, "a study's first start is repeatable"
    assert not set(first) & set(draws(folders[0], plan))
