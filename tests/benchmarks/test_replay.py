"""Replays on made-up curves whose right answer can be counted by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.pruners import ThresholdPruner

from benchmarks.recording import Recording
from benchmarks.replay import Event, Method, Replays
from benchmarks.time_to_quality import METHODS
from study.spaces.load import load_space
from study.spaces.space import Space

EPOCHS, BEATS = 6, 100

SPACE = f"""
description = "twelve cells in four arms"
[search]
sampler = "grid"
trials = 12
[fixed]
epochs = {EPOCHS}
[params.fusion]
values = ["concat_proj", "film", "expert_sum", "mhca_residual"]
[params.embed_dim]
values = [8, 16, 32]
default = 16
"""
CELLS = 12
RISING = np.linspace(0.1, 0.9, CELLS)
FALLING = RISING[::-1]

IN_ORDER = Method(name="every cell in the order of the grid", sampler="grid", defaults_first=False)
HALVING = Method(name="asha", sampler="grid", defaults_first=False, reduction_factor=3)
SCREENING = Method(name="best of one epoch", sampler="grid", defaults_first=False, keep=1)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    path = tmp_path / "twelve.toml"
    path.write_text(SPACE)
    return load_space(path)


def recording(space: Space, curves: Mapping[int, NDArray[np.float64]]) -> Recording:
    return Recording(
        space="twelve.toml",
        digest=space.digest,
        beats_per_epoch=BEATS,
        cells=list(space.grid()),
        curves=curves,
        provenance={},
    )


def level(space: Space, values: Sequence[float] | NDArray[np.float64]) -> Recording:
    """Cells that score the same after every epoch, and after the epoch of a trial of one."""
    full = np.repeat(np.asarray(values)[None, :, None], EPOCHS, axis=2)
    return recording(space, {EPOCHS: full, 1: full[:, :, :1]})


def events(method: Method, recorded: Recording, space: Space, seed: int = 0) -> list[Event]:
    return list(Replays(recorded, space).search(method, seed))


def test_a_search_at_full_budget_trains_every_cell_in_full_two_at_a_time(space: Space) -> None:
    seen = events(IN_ORDER, level(space, RISING), space)
    complete = [event for event in seen if event.cell is not None]
    assert [event.cell for event in complete] == list(range(CELLS))
    # Both slots report an epoch in turn: a pair's last reports are the last two of 2 x EPOCHS.
    assert [event.epochs for event in complete[:4]] == [11, 12, 23, 24]
    assert seen[-1].epochs == CELLS * EPOCHS
    assert [event.value for event in complete] == pytest.approx(RISING)


@pytest.mark.parametrize("best", range(CELLS))
def test_it_arrives_when_the_best_cell_is_complete(space: Space, best: int) -> None:
    values = np.full(CELLS, 0.5)
    values[best] = 0.6
    result = Replays(level(space, values), space).run(IN_ORDER, 0)
    pair, second = divmod(best, 2)
    assert result.beats == BEATS * (2 * EPOCHS * (pair + 1) - (0 if second else 1))
    assert result.configurations == best + 1
    assert (result.winner, result.winner_beats) == (0.6, BEATS * CELLS * EPOCHS)


@pytest.mark.parametrize(
    ("below", "arrives"),
    [(0.009, True), (0.011, False)],
)
def test_a_hundredth_below_the_best_is_near_enough(
    space: Space, below: float, arrives: bool
) -> None:
    values = np.full(CELLS, 0.5)
    values[0], values[-1] = 0.6 - below, 0.6
    result = Replays(level(space, values), space).run(IN_ORDER, 0)
    assert (result.configurations == 1) is arrives


def test_asha_stops_at_its_rung_what_is_below_the_best_third(space: Space) -> None:
    # Of a falling row only the first is ever the best: the others end at epoch 2 of 6.
    seen = events(HALVING, level(space, FALLING), space)
    assert [event.cell for event in seen if event.cell is not None] == [0]
    assert seen[-1].epochs == EPOCHS + 2 * (CELLS - 1)


def test_what_was_stopped_is_never_the_incumbent(space: Space) -> None:
    full = level(space, FALLING).curves[EPOCHS].copy()
    full[0, 1, 2:] = 0.99  # it would have become the best after the rung
    result = Replays(recording(space, {EPOCHS: full}), space).run(HALVING, 0)
    assert math.isinf(result.beats)
    assert result.winner == pytest.approx(FALLING[0])


def test_each_arm_is_first_tried_at_its_defaults_and_in_full(space: Space) -> None:
    method = Method(name="as a study", sampler="grid", reduction_factor=3)
    values = RISING.copy()
    defaults = [index for index, cell in enumerate(space.grid()) if cell["embed_dim"] == 16]
    values[defaults] = 0.0
    seen = events(method, level(space, values), space)
    complete = [event.cell for event in seen if event.cell is not None]
    assert sorted(complete[: len(defaults)]) == defaults


def test_a_pruner_of_optuna_decides_in_the_place_of_asha(space: Space) -> None:
    method = Method(
        name="threshold",
        sampler="grid",
        defaults_first=False,
        pruner=lambda: ThresholdPruner(lower=0.5),
    )
    seen = events(method, level(space, RISING), space)
    n_below = int((RISING < 0.5).sum())
    assert seen[-1].epochs == n_below + (CELLS - n_below) * EPOCHS


def test_the_best_of_one_epoch_costs_one_epoch_of_each_and_one_trial(space: Space) -> None:
    result = Replays(level(space, RISING), space).run(SCREENING, 0)
    assert result.beats == BEATS * (CELLS + EPOCHS)
    assert result.winner == pytest.approx(0.9)
    assert result.winner_beats == result.beats


def test_a_screening_that_misleads_never_arrives(space: Space) -> None:
    curves = {EPOCHS: level(space, RISING).curves[EPOCHS], 1: FALLING[None, :, None]}
    result = Replays(recording(space, curves), space).run(SCREENING, 0)
    assert math.isinf(result.beats)
    assert result.winner == pytest.approx(0.1)


def test_a_lucky_seed_is_not_a_good_configuration(space: Space) -> None:
    values = np.full((2, CELLS), 0.5)
    values[:, 0] = 0.7
    values[:, 1] = 0.9, 0.1
    full = np.repeat(values[:, :, None], EPOCHS, axis=2)
    replays = Replays(recording(space, {EPOCHS: full, 1: full[:, :, :1]}), space)
    lucky, sober = (replays.run(SCREENING, seed) for seed in (0, 1))
    assert math.isinf(lucky.beats)
    assert lucky.winner == pytest.approx(0.5)
    assert sober.beats == BEATS * (CELLS + EPOCHS)
    assert sober.winner == pytest.approx(0.7)


def test_a_search_that_samples_finds_the_good_arm_sooner_than_chance(space: Space) -> None:
    values = np.array([0.8 if cell["fusion"] == "film" else 0.2 for cell in space.grid()])
    recorded = level(space, values + RISING / 100)
    tpe = Method(name="tpe", defaults_first=False)
    chance = Method(name="random", sampler="random", defaults_first=False)
    replays = Replays(recorded, space)
    beats = [
        np.mean([replays.run(method, seed).beats for seed in range(20)])
        for method in (tpe, chance)
    ]
    assert beats[0] <= beats[1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_of_the_table_replays(space: Space, method: Method) -> None:
    result = Replays(level(space, RISING), space).run(method, 0)
    assert 0 < result.winner <= 0.9
    assert result.winner_beats <= BEATS * CELLS * (EPOCHS + 1)


def test_the_same_seed_replays_the_same_search(space: Space) -> None:
    replays = Replays(level(space, RISING), space)
    tpe = Method(name="tpe", reduction_factor=3)
    assert replays.run(tpe, 3) == replays.run(tpe, 3)


def test_a_screening_trains_the_best_of_each_arm_in_full(space: Space) -> None:
    method = Method(name="as fusion_grid", sampler="grid", screening=True)
    seen = events(method, level(space, RISING), space)
    assert [event.cell for event in seen[:CELLS]] == [None] * CELLS, "an epoch of each, no score"
    complete = [event.cell for event in seen if event.cell is not None]
    # The last of the three widths of each arm is its best, and the last arm has the best of all.
    assert sorted(complete) == [2, 5, 8, 11]
    assert set(complete[:2]) == {8, 11}
    assert seen[-1].epochs == CELLS + 4 * EPOCHS
    result = Replays(level(space, RISING), space).run(method, 0)
    assert result.winner == pytest.approx(0.9)
    assert result.winner_beats == BEATS * seen[-1].epochs
    assert result.beats <= BEATS * (CELLS + 2 * EPOCHS)
