"""A seed ensemble as MLflow serves it: named arrays of beats in, probabilities out.

MLflow calls `_load_pyfunc` of this module (the `loader_module` of the model), so that a loaded
model is this code and a file of weights: nothing is unpickled.

Shapes: B beats, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import LATE_RR_WIDTH, N_SAMPLES, SignalSpec
from study.errors import DataError, listed
from study.keys import CLASSES
from study.models.seed_ensemble import SeedEnsemble

_INPUTS = {"beat": "ecg", "deviation": "deviation"}
"""Inputs that are windows, by what they show of a beat."""

_STANDARD = 1e-5
"""A window whose mean and standard deviation are this close to 0 and 1 stays as it is."""


def input_widths(signal: SignalSpec) -> dict[str, int]:
    """Return the inputs of a configuration by name, with the columns of each.

    `ecg` is the beat's window, cut as the configuration's segmentation says and resampled to 128
    samples; in any unit, since each is brought to zero mean and unit variance here. `deviation` is
    that from the beat's template, and `late_shape` are its distances from it, as
    `study.data.reference.templates` gives them. `early_rr` and `late_rr` are RR features as
    `study.data.rr` gives them.
    """
    widths = {_INPUTS[name]: N_SAMPLES for name in signal.windows}
    if signal.option.early_rr:
        widths["early_rr"] = 2
    if signal.option.late_rr:
        widths["late_rr"] = LATE_RR_WIDTH[signal.late_rr]
    if signal.n_shape:
        widths["late_shape"] = signal.n_shape
    return widths


class ServedEnsemble:
    """The model that MLflow calls: `predict` on a dict of arrays."""

    def __init__(self, ensemble: SeedEnsemble) -> None:
        self.ensemble = ensemble
        self.widths = input_widths(ensemble.config.signal)

    def predict(
        self, model_input: Mapping[str, NDArray[Any]], params: Mapping[str, Any] | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities of N, S, V and F, [B, C], of arrays [B, columns] by name.

        `input_widths` names them; `params` is not used, but MLflow gives it.

        Raises:
            DataError: If an input is missing or unknown, has another shape, is not finite, or a
                window is flat; all together.
        """
        given = {name: np.asarray(rows, np.float32) for name, rows in model_input.items()}
        faults = self._faults(given)
        if faults:
            raise DataError(listed("model input", faults))
        names = [_INPUTS[name] for name in self.ensemble.config.signal.windows]
        if len(given[names[0]]) == 0:
            return np.empty((0, len(CLASSES)), dtype=np.float32)
        if "ecg" in names:
            given["ecg"] = _standardised(given["ecg"])
        windows = [given[name] for name in names]
        return self.ensemble.predict(
            np.stack(windows, axis=1) if len(windows) > 1 else windows[0],
            *(given.get(name) for name in ("early_rr", "late_rr", "late_shape")),
        )

    def _faults(self, given: Mapping[str, NDArray[np.float32]]) -> list[str]:
        known = ", ".join(self.widths)
        faults = [
            f"{name}: this model has no such input; it has {known}"
            for name in sorted(given.keys() - self.widths)
        ]
        beats = next((rows.shape[:1] for rows in given.values()), ())
        for name, width in self.widths.items():
            if name not in given:
                faults.append(f"{name}: must be given, [beats, {width}]")
            elif (shape := given[name].shape) != (*beats, width):
                faults.append(
                    f"{name}: must be [beats, {width}] with as many beats each, got {list(shape)}"
                )
            elif not (finite := np.isfinite(given[name]).all(axis=1)).all():
                faults.append(f"{name}: must be finite, but is not in beat {finite.argmin()}")
            elif name == "ecg" and (flat := np.ptp(given[name], axis=1) == 0).any():
                faults.append(f"ecg: the window of beat {flat.argmax()} is flat")
        return faults


def _standardised(ecg: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring windows to zero mean and unit variance; those that are stay as they are."""
    rows = ecg.astype(np.float64)
    mean, sd = rows.mean(axis=1, keepdims=True), rows.std(axis=1, keepdims=True)
    # Prepared windows stay as they are to the last bit: served and stored predictions are equal.
    standard = (np.abs(mean) < _STANDARD) & (np.abs(sd - 1) < _STANDARD)
    return np.where(standard, ecg, (rows - mean) / sd).astype(np.float32)


def _load_pyfunc(path: str) -> ServedEnsemble:
    """Return the model of a file, as MLflow asks for it."""
    return ServedEnsemble(SeedEnsemble.at(Path(path)))
