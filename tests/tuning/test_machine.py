"""What the tracker is told of the machine that trials run on."""

from __future__ import annotations

import re

import pytest

from study import __version__
from study.tuning.machine import provenance


def test_provenance_names_commit_device_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = provenance("cpu")
    assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?|unknown", origin["git_commit"])
    assert (origin["device"], origin["version_study"]) == ("cpu", __version__)
    assert {f"version_{name}" for name in ("torch", "ray", "optuna", "mlflow")} <= set(origin)
    # As in an image, where there is no checkout.
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance("cpu")["git_commit"] == "unknown"
