"""Devices and precisions: what is chosen, what is refused, and what they change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import UsageError
from study.training import device, engine
from study.training.device import resolve_device
from study.training.engine import Engine, bfloat16_gain, resolve_precision
from tests.builders import refused, small_training


@pytest.mark.parametrize(("gain", "expected"), [(3.0, "bf16"), (1.2, "fp32"), (0.5, "fp32")])
def test_auto_is_the_faster(monkeypatch: pytest.MonkeyPatch, gain: float, expected: str) -> None:
    monkeypatch.setattr(engine, "bfloat16_gain", lambda: gain)
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("auto", "cuda") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
    assert resolve_precision("tf32", "cuda") == "tf32"


def test_the_gain_of_bfloat16_is_measured_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    assert 0.02 < bfloat16_gain() < 50
    assert torch.get_num_threads() == threads


def test_refusals() -> None:
    for name, on, message in (
        ("bf16", "mps", "--precision bf16: not on .* 'mps'; leave it out, or add --device cpu or"),
        ("tf32", "cpu", "--precision tf32: not on this .* 'cpu'; .* --device cud"),
        ("half", "cpu", "--precision: .*'half'"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve_precision(name, on)


def test_devices_go_by_name_and_a_gpu_is_not_left_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (resolve_device("auto").type != "cpu") == accelerated
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, fault in (
        ("cdua", "unknown device 'cdua'; known: auto, cpu, cuda, mps. Did you mean 'cuda'?"),
        ("cuda:1", "'cuda:1' is not available here; available: cpu"),
    ):
        assert refused(UsageError, resolve_device, name) == f"device: {fault}"
    monkeypatch.setattr(device, "NODES", tmp_path)
    assert (resolve_device("auto").type, caplog.text) == ("cpu", "")
    (tmp_path / "nvidia0").touch()
    for cuda, why in ((None, "is built for CPUs only"), ("13.0", "needs a driver for CUDA 13.0")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        assert resolve_device("auto").type == "cpu"
        assert caplog.messages[-1].startswith("An NVIDIA GPU is here") and why in caplog.text
        with pytest.raises(UsageError, match=why):
            resolve_device("cuda")


def test_the_last_scores_alone_must_be_exact(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    engine = Engine("bf16", compiled=True)
    training = small_training(tiny_beats, tiny_folds, engine=engine, fusion="mhca", embed_dim=64)
    for exact in (False, True):
        report = training.run_epoch()
        rough = training._score(training._predict(exact=False)).values["val_loss"]
        exactly = training._score(training._predict(exact=True)).values["val_loss"]
        assert rough != exactly
        assert report.metrics["val_loss"] == (exactly if exact else rough)
        assert rough == pytest.approx(exactly, abs=0.02)
    metrics = training.finish().metrics
    # Both sides of a reliance are rounded alike: what cannot use RR is still exactly blind to it.
    assert metrics["rr_reliance_inputs_max_change"] == 0.0
    assert metrics["rr_reliance_window_max_change"] > 0.0
