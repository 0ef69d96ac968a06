"""Replays on made-up curves whose right answer can be counted by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from benchmarks.recording import Recording
from benchmarks.replay import Event, Method, Replays, Result
from benchmarks.time_to_quality import METHODS
from study.spaces.space import Space
from tests.builders import load_text

EPOCHS, BEATS = 6, 100

SPACE = f"""
description = "twelve cells in four arms"
search = {{ sampler = "grid", trials = 12 }}
fixed = {{ epochs = {EPOCHS} }}
params.fusion = {{ values = ["concat_proj", "film", "expert_sum", "mhca_residual"] }}
params.embed_dim = {{ values = [8, 16, 32], default = 16 }}
"""
CELLS = 12
RISING = np.linspace(0.1, 0.9, CELLS)
FALLING = RISING[::-1]

IN_ORDER = Method(name="every cell in the order of the grid", sampler="grid", defaults_first=False)
HALVING = replace(IN_ORDER, name="asha", reduction_factor=3)
SCREENING = replace(IN_ORDER, name="best of one epoch", keep=1)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return load_text(tmp_path, SPACE, "twelve")


def level(values: ArrayLike) -> dict[int, NDArray[np.float64]]:
    """Return curves of cells that score the same after every epoch; values [K] or [S, K]."""
    full = np.repeat(np.atleast_2d(values)[:, :, None], EPOCHS, axis=2)
    return {horizon: full[:, :, :horizon] for horizon in (EPOCHS, 3, 1)}


def replays(space: Space, curves: Mapping[int, NDArray[np.float64]]) -> Replays:
    recorded = Recording(
        space="twelve.toml",
        digest=space.digest,
        beats_per_epoch=BEATS,
        cells=list(space.grid()),
        curves=curves,
        provenance={},
    )
    return Replays(recorded, space)


def events(method: Method, of: Replays) -> tuple[list[int], list[Event]]:
    """Return the cells that a search completes, in their order, and all its events."""
    seen = list(of.search(method, 0))
    return [event.cell for event in seen if event.cell is not None], seen


def test_a_search_at_full_budget_trains_every_cell_in_full_two_at_a_time(space: Space) -> None:
    complete, seen = events(IN_ORDER, replays(space, level(RISING)))
    assert complete == list(range(CELLS))
    of_cells = [event for event in seen if event.cell is not None]
    # Both slots report an epoch in turn: a pair's last reports are the last two of 2 x EPOCHS.
    assert [event.epochs for event in of_cells[:4]] == [11, 12, 23, 24]
    assert seen[-1].epochs == CELLS * EPOCHS
    assert [event.value for event in of_cells] == pytest.approx(RISING)


@pytest.mark.parametrize("best", range(CELLS))
def test_it_arrives_when_the_best_cell_is_complete(space: Space, best: int) -> None:
    values = np.full(CELLS, 0.5)
    values[best] = 0.6
    pair, second = divmod(best, 2)
    assert replays(space, level(values)).run(IN_ORDER, 0) == Result(
        beats=BEATS * (2 * EPOCHS * (pair + 1) - (0 if second else 1)),
        configurations=best + 1,
        winner=0.6,
        winner_beats=BEATS * CELLS * EPOCHS,
    )


def test_asha_stops_at_its_rung_what_is_below_the_best_third(space: Space) -> None:
    """Of a falling row only the first is ever the best: the others end at epoch 2 of 6."""
    complete, seen = events(HALVING, replays(space, level(FALLING)))
    assert complete == [0]
    assert seen[-1].epochs == EPOCHS + 2 * (CELLS - 1)
    # What was stopped is never the incumbent, though it would have become the best.
    full = level(FALLING)[EPOCHS]
    full[0, 1, 2:] = 0.99
    result = replays(space, {EPOCHS: full}).run(HALVING, 0)
    assert (result.beats, result.winner) == (math.inf, FALLING[0])


def test_the_best_of_one_epoch_costs_one_epoch_of_each_and_one_trial(space: Space) -> None:
    result = replays(space, level(RISING)).run(SCREENING, 0)
    assert result.beats == result.winner_beats == BEATS * (CELLS + EPOCHS)
    assert result.winner == pytest.approx(0.9)
    # One that misleads never arrives.
    misleading = {**level(RISING), 1: FALLING[None, :, None]}
    result = replays(space, misleading).run(SCREENING, 0)
    assert (result.beats, result.winner) == pytest.approx((math.inf, 0.1))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_of_the_table_replays_the_same(space: Space, method: Method) -> None:
    of = replays(space, level(RISING))
    result = of.run(method, 3)
    assert 0 < result.winner <= 0.9
    assert result.winner_beats <= BEATS * CELLS * (EPOCHS + 1)
    assert of.run(method, 3) == result


def test_a_screening_trains_the_best_of_each_arm_in_full(space: Space) -> None:
    method = replace(IN_ORDER, defaults_first=True, screening=True)
    complete, seen = events(method, replays(space, level(RISING)))
    assert [event.cell for event in seen[:CELLS]] == [None] * CELLS, "an epoch of each, no score"
    # The last of the three widths of each arm is its best, and the last arm has the best of all.
    assert sorted(complete) == [2, 5, 8, 11]
    assert set(complete[:2]) == {8, 11}
    assert seen[-1].epochs == CELLS + 4 * EPOCHS
    result = replays(space, level(RISING)).run(method, 0)
    assert result.winner == pytest.approx(0.9)
    assert result.winner_beats == BEATS * seen[-1].epochs
    assert result.beats <= BEATS * (CELLS + 2 * EPOCHS)
