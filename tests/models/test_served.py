"""The model that MLflow serves: which inputs it takes, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from study.config import INPUTS, LATE_RR_WIDTH, ModelConfig, SignalSpec, TrialConfig
from study.errors import DataError
from study.models.classifier import build_model
from study.models.rules import fusions_for
from study.models.seed_ensemble import SeedEnsemble
from study.models.served import ServedEnsemble, input_widths

Arrays = dict[str, NDArray[Any]]


def ensemble_of(signal: SignalSpec) -> SeedEnsemble:
    config = TrialConfig(
        signal=signal, model=ModelConfig(fusion=fusions_for(signal.input)[0], embed_dim=8)
    )
    states = [build_model(signal, config.model, seed=(s,)).state_dict() for s in range(2)]
    return SeedEnsemble.of_weights(config, states)


def beats_of(signal: SignalSpec, n_beats: int = 5) -> Arrays:
    """Prepared beats: windows of zero mean and unit variance."""
    rng = np.random.default_rng(0)
    beats = {name: rng.normal(size=(n_beats, n)) for name, n in input_widths(signal).items()}
    if "ecg" in beats:
        ecg = beats["ecg"]
        beats["ecg"] = (ecg - ecg.mean(axis=1, keepdims=True)) / ecg.std(axis=1, keepdims=True)
    return {name: rows.astype(np.float32) for name, rows in beats.items()}


OF_TEMPLATE = {"template": "record", "late_shape": "distances"}
SIGNALS = [
    *(SignalSpec(input=name, late_rr=late) for name in INPUTS for late in LATE_RR_WIDTH),
    *(SignalSpec(input="opt3", morphology=of, **OF_TEMPLATE) for of in ("deviation", "both")),
]


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_configuration_is_served_with_its_own_inputs(signal: SignalSpec) -> None:
    ensemble, beats = ensemble_of(signal), beats_of(signal)
    names = {"beat": ["ecg"], "deviation": ["deviation"], "both": ["ecg", "deviation"]}
    windows = [beats[name] for name in names[signal.morphology]]
    given = windows[0] if len(windows) == 1 else np.stack(windows, axis=1)
    others = (beats.get(name) for name in ("early_rr", "late_rr", "late_shape"))
    probs = ServedEnsemble(ensemble).predict(beats)
    assert probs.shape == (5, 4)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(probs, ensemble.predict(given, *others))


def test_windows_may_be_in_any_unit() -> None:
    signal = SignalSpec(input="opt3")
    model, beats = ServedEnsemble(ensemble_of(signal)), beats_of(signal)
    raw = beats | {"ecg": 1024 + 200 * beats["ecg"].astype(np.float64)}
    np.testing.assert_allclose(model.predict(raw), model.predict(beats), atol=1e-6)
    assert model.predict(beats_of(signal, 0)).shape == (0, 4)


def _spoilt(name: str, row: int, value: float) -> Arrays:
    rows = beats_of(SignalSpec(input="opt3"))[name]
    rows[row] = value
    return {name: rows}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"late_rr": None}, "late_rr: must be given, [beats, 7]"),
    ({"rr": np.zeros(5)}, "rr: this model has no such input; it has ecg, early_rr, late_rr"),
    ({"early_rr": np.zeros((4, 2))}, "early_rr: must be [beats, 2] with as many beats each, got"),
    (_spoilt("late_rr", 3, np.nan), "late_rr: must be finite, but is not in beat 3"),
    (_spoilt("ecg", 2, 0.5), "ecg: the window of beat 2 is flat"),
]


@pytest.mark.parametrize(("changes", "fault"), FAULTS)
def test_unsuitable_input_is_one_clear_error(changes: dict[str, Any], fault: str) -> None:
    signal = SignalSpec(input="opt3")
    given = {name: rows for name, rows in (beats_of(signal) | changes).items() if rows is not None}
    with pytest.raises(DataError, match=re.escape(fault)):
        ServedEnsemble(ensemble_of(signal)).predict(given)
