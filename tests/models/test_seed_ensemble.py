"""Several seeds as one file: what is written predicts alike, and what is damaged is refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from study.config import TrialConfig
from study.errors import CheckpointError
from study.models.classifier import build_model
from study.models.seed_ensemble import SeedEnsemble

CONFIG = TrialConfig.from_flat({"input": "opt3", "fusion": "film", "embed_dim": 8})


def weights(config: TrialConfig, n_seeds: int = 2) -> list[dict[str, torch.Tensor]]:
    models = [build_model(config.signal, config.model, seed=(7, s)) for s in range(n_seeds)]
    for seed, model in enumerate(models):
        model.set_rr_statistics(torch.arange(7.0) + seed, torch.full((7,), 2.0))
    return [model.state_dict() for model in models]


def inputs(n_beats: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ecg, early, late = (torch.randn(n_beats, n, generator=generator) for n in (128, 2, 7))
    return ecg, early, late


@pytest.fixture
def ensemble() -> SeedEnsemble:
    about = {"trained_on": "DS1 of MIT-BIH", "data_source": "mitdb"}
    return SeedEnsemble.of_weights(CONFIG, weights(CONFIG), about, temperature=2.0)


def test_probabilities_are_means_over_seeds_whatever_the_batch(ensemble: SeedEnsemble) -> None:
    beats = inputs(300)
    log_probs = ensemble.log_probs(*beats)
    assert log_probs.shape == (2, 300, 4)
    assert not torch.allclose(log_probs[0], log_probs[1])
    torch.testing.assert_close(ensemble.probs(*beats), log_probs.exp().mean(dim=0))
    few = [rows[200:203] for rows in beats]
    torch.testing.assert_close(ensemble.log_probs(*few), log_probs[:, 200:203])
    arrays = [rows.numpy() for rows in few]
    for array in arrays:
        array.flags.writeable = False
    probs = ensemble.predict(*arrays)
    assert probs.dtype == np.float32
    bare = ensemble.probs(*few).numpy()
    np.testing.assert_array_equal(replace(ensemble, temperature=1.0).predict(*arrays), bare)
    # p^(1/2), by definition, shared out anew
    shares = np.sqrt(bare)
    np.testing.assert_allclose(probs, shares / shares.sum(axis=1, keepdims=True), rtol=1e-5)


def test_a_damaged_file_is_refused(ensemble: SeedEnsemble) -> None:
    content = ensemble.content()
    at = content.index(b"/data/0") + 200
    altered = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for broken in (b"", content[:-200], b"no archive", altered):
        with pytest.raises(CheckpointError, match="the ensemble is damaged"):
            SeedEnsemble.read(broken)


def test_a_foreign_file(ensemble: SeedEnsemble) -> None:
    weights = io.BytesIO()
    torch.save([model.state_dict() for model in ensemble.models], weights)
    with pytest.raises(CheckpointError, match=r"^is no model: .* study.champion --study NAME"):
        SeedEnsemble.read(weights.getvalue())
    for changed, fault in (
        ({"config": {"fusion": "film", "embed_dim": "x"}}, r"damaged \(configuration: embed_dim"),
        ({"config": 5}, r"damaged \(TypeError\)"),
        ({"weights": [{"x": 5}]}, "weights are not of this configuration"),
        ({"version": "99"}, "the ensemble is of format 99, this version reads 2, 0.1.0"),
        ({"temperature": "x"}, r"damaged \(ValueError\)"),
        ({"classes": ["N", "V"]}, "the ensemble has classes N, V, this version N, S, V, F"),
    ):
        buffer = io.BytesIO()
        torch.save({**torch.load(io.BytesIO(ensemble.content())), **changed}, buffer)
        with pytest.raises(CheckpointError, match=fault):
            SeedEnsemble.read(buffer.getvalue())
