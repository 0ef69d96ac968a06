"""Recorded curves come back as they were written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import recording
from benchmarks.recording import Params, Recording
from benchmarks.time_to_quality import SPACE
from study.spaces.load import load_space

CELLS: list[Params] = [{"fusion": "film"}, {"fusion": "mhca", "heads": 2}]


def test_a_recording_comes_back_as_it_was_written(tmp_path: Path) -> None:
    curves = np.random.default_rng(0).random((2, 2, 6)).round(5)
    written = Recording(
        space="two.toml",
        digest="0" * 12,
        beats_per_epoch=100,
        cells=CELLS,
        curves={6: curves, 1: curves[:, :, :1]},
        provenance={"git_commit": "1" * 40},
    )
    written.write(tmp_path / "two.json")
    back = recording.read(tmp_path / "two.json")
    np.testing.assert_equal(asdict(back), asdict(written))
    assert (back.horizon, back.n_seeds) == (6, 2)
    np.testing.assert_allclose(back.confirmed(), curves[:, :, -1].mean(axis=0))
    np.testing.assert_array_equal(back.seen(6, seed=3), curves[1])


def test_the_recorded_cells_are_those_of_fusion_grid_as_it_is() -> None:
    grid, sample = load_space("fusion_grid"), load_space(SPACE)
    recorded = recording.read(SPACE.with_suffix(".json"))
    assert recorded.digest == sample.digest
    assert grid.fixed["epochs"] in recorded.curves
    shown = {name: value for name, value in grid.fixed.items() if name != "epochs"}
    assert shown.items() <= sample.fixed.items()
