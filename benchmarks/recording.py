"""Recorded learning curves: what every cell of a small space scored after every epoch.

A cell is trained once in full for each seed. Other horizons are curves of their own, because the
learning rate falls to zero over the epochs of a trial: the first epoch of six is not a trial of
one epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """The curves of all cells of a space. Shapes: S seeds, K cells, E epochs of a horizon.

    Args:
        space: File name of the space.
        digest: Its digest, so that curves are not replayed on another.
        beats_per_epoch: Beats that all members of a trial train on in an epoch.
        cells: Parameters of each cell.
        curves: Objective after each epoch, [S, K, E], by horizon E.
        provenance: Commit, versions, device and engine.
    """

    space: str
    digest: str
    beats_per_epoch: int
    cells: Sequence[Params]
    curves: Mapping[int, NDArray[np.float64]]
    provenance: Mapping[str, str]

    @property
    def horizon(self) -> int:
        """The full budget, in epochs."""
        return max(self.curves)

    @property
    def n_seeds(self) -> int:
        """Seeds with which every cell was trained in full."""
        return len(self.curves[self.horizon])

    def confirmed(self) -> NDArray[np.float64]:
        """Return what each cell scores at full budget, the mean over seeds, [K]."""
        return np.asarray(self.curves[self.horizon][:, :, -1].mean(axis=0))

    def seen(self, horizon: int, seed: int) -> NDArray[np.float64]:
        """Return the curves [K, E] that a search with one recorded seed sees."""
        curves = self.curves[horizon]
        return np.asarray(curves[seed % len(curves)])

    def write(self, path: Path) -> None:
        """Write it as JSON, a cell a line; values to 5 decimals."""
        head = {
            "space": self.space,
            "digest": self.digest,
            "beats_per_epoch": self.beats_per_epoch,
            "provenance": dict(self.provenance),
        }
        rows = [
            {
                "params": dict(params),
                "curves": {
                    str(horizon): np.round(curves[:, index], 5).tolist()
                    for horizon, curves in sorted(self.curves.items())
                },
            }
            for index, params in enumerate(self.cells)
        ]
        lines = ",\n".join(json.dumps(row) for row in rows)
        text = json.dumps(head, indent=1)[:-2] + ',\n "cells": [\n' + lines + "\n]}\n"
        path.write_text(text)


def read(path: Path) -> Recording:
    """Read a recording."""
    content = json.loads(path.read_text())
    rows = content.pop("cells")
    horizons = sorted(int(horizon) for horizon in rows[0]["curves"])
    return Recording(
        **content,
        cells=[row["params"] for row in rows],
        curves={
            horizon: np.array([row["curves"][str(horizon)] for row in rows]).swapaxes(0, 1)
            for horizon in horizons
        },
    )


def complete_curves(
    cells: Sequence[Params], trials: Iterable[tuple[Params, Mapping[int, float]]], horizon: int
) -> NDArray[np.float64]:
    """Return the curves [K, E] of one study's trials, in the order of the cells.

    Args:
        cells: Parameters of each cell.
        trials: Parameters and values by epoch of each trial.
        horizon: Epochs of a trial.

    Raises:
        ValueError: If a cell has no trial with all its epochs.
    """
    found = {
        _key(params): [values[epoch] for epoch in range(1, horizon + 1)]
        for params, values in trials
        if len(values) == horizon
    }
    missing = [dict(params) for params in cells if _key(params) not in found]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(cells)} cells have no curve of {horizon} epochs, "
            f"the first {missing[0]}"
        )
    return np.array([found[_key(params)] for params in cells])


def _key(params: Params) -> str:
    return json.dumps(dict(params), sort_keys=True)
