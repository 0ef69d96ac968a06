"""Recorded curves: what is kept, what is refused, and the space they are recorded on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import recording
from benchmarks.recording import Params, Recording, complete_curves
from benchmarks.time_to_quality import SPACE
from study.models import rules
from study.spaces.load import load_space
from study.spaces.space import Space

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


def test_curves_are_in_the_order_of_the_cells_whatever_was_trained_first() -> None:
    trials: list[tuple[Params, dict[int, float]]] = [
        ({"heads": 2, "fusion": "mhca"}, {2: 0.4, 1: 0.3}),
        ({"fusion": "film"}, {1: 0.1}),  # interrupted
        ({"fusion": "film"}, {1: 0.1, 2: 0.2}),
    ]
    assert complete_curves(CELLS, trials, 2).tolist() == [[0.1, 0.2], [0.3, 0.4]]
    with pytest.raises(ValueError, match=r"^1 of 2 cells have no curve of 2 epochs, the first "):
        complete_curves(CELLS, trials[1:], 2)


def test_the_sample_is_a_grid_of_cells_of_fusion_grid_with_its_defaults() -> None:
    sample, whole = load_space(SPACE), load_space("fusion_grid")
    # The curves were recorded in the published representation, which the sample keeps.
    seen = ("segmentation", "template", "morphology", "late_rr", "backbone_width", "learning_rate")
    shown = {name: value for name, value in whole.fixed.items() if name not in seen}
    shown |= {name: value for name, value in sample.fixed.items() if name in seen}
    whole = replace(whole, fixed=shown)

    def digests(space: Space, cells: Iterable[Params]) -> list[str]:
        return [rules.digest(space.configuration(cell)) for cell in cells]

    assert len(list(sample.grid())) == sample.trials == 36
    assert set(digests(sample, sample.grid())) <= set(digests(whole, whole.grid()))
    assert digests(sample, sample.defaults()) == digests(whole, whole.defaults())
    for name in ("folds", "seeds", "objective"):
        assert getattr(sample, name) == getattr(whole, name)
