"""Devices by name, and read-only arrays moved to them."""

from __future__ import annotations

import pytest
import torch

from study.errors import UsageError
from study.training.device import resolve_device


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
