"""Which parameters matter, by trials of one budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.keys import Outcome
from study.reporting.importance import ENOUGH_TRIALS, importance
from study.spaces.space import Space
from study.store.trials import TrialRow
from tests.builders import load_text, trial_row

OBJECTIVE = "val_auprc_sv"

SPACE = """
description = "two"
search = { sampler = "random", trials = 30, scheduler = "screening" }
params.embed_dim = { values = [8, 16] }
params.dropout = { low = 0.0, high = 0.5 }
"""


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return load_text(tmp_path, SPACE)


def rows(n: int, outcome: Outcome, epochs: int) -> list[TrialRow]:
    """Return trials whose width decides, and whose dropout does not."""
    return [
        trial_row(
            number,
            digest=f"{outcome}{number}",
            params={"embed_dim": 8 * (1 + number % 2), "dropout": (number * 7 % 10) / 20},
            outcome=outcome,
            metrics={OBJECTIVE: 0.3 + 0.1 * (number % 2)},
            epochs=epochs,
        )
        for number in range(n)
    ]


@pytest.mark.parametrize(("outcome", "epochs"), [(Outcome.COMPLETE, 6), (Outcome.SCREENED, 1)])
def test_what_decides_has_the_largest_share(space: Space, outcome: Outcome, epochs: int) -> None:
    found = importance(rows(ENOUGH_TRIALS, outcome, epochs), OBJECTIVE, space, {})
    assert found is not None
    assert (found.trials, found.kind) == (ENOUGH_TRIALS, outcome)
    assert found.shares["embed_dim"] > 0.9


def test_trials_of_two_budgets_are_not_mixed(space: Space) -> None:
    gaps: dict[str, str] = {}
    trials = rows(ENOUGH_TRIALS - 1, Outcome.SCREENED, 1) + rows(30, Outcome.COMPLETE, 6)
    assert importance(trials, OBJECTIVE, space, gaps) is None
    assert gaps["importance"] == "19 screened trials; 20 are needed to say more than noise"
