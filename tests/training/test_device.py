"""Devices by name, and read-only arrays moved to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from study.errors import UsageError
from study.training.device import Inputs, resolve_device, to_device


def test_devices_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (resolve_device("auto").type != "cpu") == accelerated
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name, fault in (
        ("cdua", "unknown device 'cdua'; known: auto, cpu, cuda, mps. Did you mean 'cuda'?"),
        ("cuda:1", "'cuda:1' is not available here; available: cpu"),
    ):
        with pytest.raises(UsageError) as error:
            resolve_device(name)
        assert str(error.value) == f"device: {fault}"


def test_a_read_only_array_is_copied() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = to_device(array, torch.device("cpu"))
    tensor += 1
    assert array.tolist() == [0, 1, 2]


def test_a_batch_is_taken_by_index() -> None:
    inputs = Inputs(
        ecg=torch.arange(8.0).reshape(4, 2), early_rr=None, late_rr=torch.arange(4.0)[:, None]
    )
    batch = inputs.take(torch.tensor([2, 0]))
    assert batch.ecg.tolist() == [[4, 5], [0, 1]]
    assert batch.early_rr is None
    assert batch.late_rr is not None
    assert batch.late_rr.tolist() == [[2], [0]]
