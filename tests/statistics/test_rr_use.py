"""Whether an arm uses RR: by every permutation, of S and of V, over its trials."""

from __future__ import annotations

import math

import pytest

from study.keys import MAX_CHANGE, reliance
from study.statistics.rr_use import RRLoss, RRUse


def lost(s: float, v: float, spread: float = 0.0) -> dict[str, float]:
    """The metrics of a trial that loses this much when the RR in its inputs is permuted."""
    metrics = {reliance("inputs", MAX_CHANGE): 1.0}
    for name, value in (("S", s), ("V", v)):
        of = reliance("inputs", name)
        metrics |= {of: value, f"{of}_min": value - spread, f"{of}_max": value + spread}
    return metrics


@pytest.mark.parametrize(
    ("trials", "use"),
    [
        ([lost(0.01, -0.01)], RRUse.NO),
        ([lost(0.05, 0.0)], RRUse.YES),
        ([lost(0.0, -0.02)], RRUse.YES),
        ([lost(0.0, 0.0, spread=0.011)], RRUse.UNCLEAR),
        ([lost(0.0, math.nan)], RRUse.UNCLEAR),
        ([lost(0.15, 0.02), lost(0.003, 0.001)], RRUse.YES),
    ],
    ids=["within", "S", "harmed in V", "wide", "undefined", "on average"],
)
def test_every_permutation_decides(trials: list[dict[str, float]], use: RRUse) -> None:
    assert RRLoss.of(trials, "inputs").use is use


def test_the_size_of_a_loss_is_that_of_a_gain_too_and_of_what_is_defined() -> None:
    sizes = [RRLoss.of([lost(s, v)], "inputs").size for s, v in ((-0.2, 0.1), (math.nan, 0.1))]
    assert sizes == [0.2, 0.1] and RRLoss.of([], "inputs").size == math.inf
