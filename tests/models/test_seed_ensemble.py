from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from study.config import ModelConfig, SignalSpec, TrialConfig
from study.errors import CheckpointError
from study.models.classifier import build_model
from study.models.seed_ensemble import SeedEnsemble

CONFIG = TrialConfig(
    signal=SignalSpec(input="opt3"), model=ModelConfig(fusion="film", embed_dim=8)
)


def weights(config: TrialConfig, n_seeds: int = 2) -> list[dict[str, torch.Tensor]]:
    models = [build_model(config.signal, config.model, seed=(7, s)) for s in range(n_seeds)]
    for seed, model in enumerate(models):
        model.set_rr_statistics(torch.arange(7.0) + seed, torch.full((7,), 2.0))
    return [model.state_dict() for model in models]


def inputs(n_beats: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ecg, early, late = (torch.randn(n_beats, n, generator=generator) for n in (128, 2, 7))
    return ecg, early, late


def test_what_was_written_predicts_alike() -> None:
    ensemble = SeedEnsemble.of_weights(CONFIG, weights(CONFIG))
    again = SeedEnsemble.read(ensemble.content())
    assert again.config == CONFIG
    assert torch.equal(again.log_probs(*inputs(5)), ensemble.log_probs(*inputs(5)))


def test_probabilities_are_the_mean_over_seeds_and_do_not_depend_on_the_batch() -> None:
    ensemble = SeedEnsemble.of_weights(CONFIG, weights(CONFIG))
    ecg, early, late = inputs(300)
    log_probs = ensemble.log_probs(ecg, early, late)
    assert log_probs.shape == (2, 300, 4)
    assert not torch.allclose(log_probs[0], log_probs[1])
    torch.testing.assert_close(ensemble.probs(ecg, early, late), log_probs.exp().mean(dim=0))
    torch.testing.assert_close(
        ensemble.log_probs(ecg[200:203], early[200:203], late[200:203]), log_probs[:, 200:203]
    )


def test_arrays_give_the_same_probabilities_though_they_may_not_be_written() -> None:
    ensemble = SeedEnsemble.of_weights(CONFIG, weights(CONFIG))
    arrays = [rows.numpy() for rows in inputs(5)]
    for rows in arrays:
        rows.flags.writeable = False
    probs = ensemble.predict(*arrays)
    assert probs.dtype == np.float32
    np.testing.assert_array_equal(probs, ensemble.probs(*inputs(5)).numpy())


def test_what_its_users_must_know_goes_with_it() -> None:
    about = {"trained_on": "DS1 of MIT-BIH", "data_source": "mitdb"}
    ensemble = SeedEnsemble.of_weights(CONFIG, weights(CONFIG, n_seeds=1), about)
    assert SeedEnsemble.read(ensemble.content()).about == about


def test_weights_of_another_configuration_are_refused() -> None:
    other = TrialConfig(signal=CONFIG.signal, model=ModelConfig(fusion="film", embed_dim=16))
    with pytest.raises(CheckpointError, match="weights are not of this configuration: .*'embed_d"):
        SeedEnsemble.of_weights(other, weights(CONFIG))
    with pytest.raises(CheckpointError, match="needs those of one seed or more, got none"):
        SeedEnsemble.of_weights(CONFIG, [])


def test_a_damaged_file_is_refused() -> None:
    content = SeedEnsemble.of_weights(CONFIG, weights(CONFIG, n_seeds=1)).content()
    at = content.index(b"/data/0") + 200
    altered = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for broken in (b"", content[:-200], b"no archive", altered):
        with pytest.raises(CheckpointError, match="the ensemble is damaged"):
            SeedEnsemble.read(broken)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"config": {"fusion": "film", "embed_dim": "x"}}, r"damaged \(configuration: embed_dim"),
        ({"config": 5}, r"damaged \(TypeError\)"),
        ({"classes": 5}, r"damaged \(TypeError\)"),
        ({"about": [1]}, r"damaged \(TypeError\)"),
        ({"weights": 5}, r"damaged \(TypeError\)"),
        ({"weights": [5]}, "weights are not of this configuration"),
        ({"weights": [{"x": 5}]}, "weights are not of this configuration"),
        ({"weights": []}, "needs those of one seed or more"),
    ],
)
def test_a_whole_file_that_holds_something_else_is_refused(
    changed: dict[str, object], fault: str
) -> None:
    ensemble = SeedEnsemble.of_weights(CONFIG, weights(CONFIG, n_seeds=1))
    buffer = io.BytesIO()
    torch.save({**torch.load(io.BytesIO(ensemble.content())), **changed}, buffer)
    with pytest.raises(CheckpointError, match=fault):
        SeedEnsemble.read(buffer.getvalue())


def test_a_file_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = SeedEnsemble.of_weights(CONFIG, weights(CONFIG, n_seeds=1)).content()
    monkeypatch.setattr("study.__version__", "99.0")
    with pytest.raises(CheckpointError, match=r"is of version .*, this is 99\.0"):
        SeedEnsemble.read(content)


def test_a_file_of_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = SeedEnsemble.of_weights(CONFIG, weights(CONFIG, n_seeds=1)).content()
    monkeypatch.setattr("study.models.seed_ensemble.CLASSES", ("N", "V", "S", "F"))
    with pytest.raises(CheckpointError) as caught:
        SeedEnsemble.read(content)
    assert str(caught.value) == "the ensemble has classes N, S, V, F, this version N, V, S, F"
