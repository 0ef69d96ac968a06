"""Models into MLflow's registry and back, in this process and in a new one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.config import ModelConfig, SignalSpec, TrialConfig
from study.errors import TrackingError, UsageError
from study.models.classifier import build_model
from study.models.seed_ensemble import SeedEnsemble
from study.models.served import ServedEnsemble
from study.tracking.experiment import Experiment
from study.tracking.registry import HOW, Registered, load, register
from tests.builders import mlflow_client, npz, refused

ROOT = Path(__file__).parents[2]
NAME = "svt on Holter"


def ensemble_of(start: int, fusion: str = "film") -> SeedEnsemble:
    config = TrialConfig(
        signal=SignalSpec(input="opt3"), model=ModelConfig(fusion=fusion, embed_dim=8)
    )
    states = [
        build_model(config.signal, config.model, seed=(start, s)).state_dict() for s in range(2)
    ]
    return SeedEnsemble.of_weights(config, states, {"trained_on": f"nothing, start {start}"})


def beats() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    widths = {"ecg": 128, "early_rr": 2, "late_rr": 7}
    return {name: rng.normal(size=(6, n)).astype(np.float32) for name, n in widths.items()}


def registered_in(workspace: Path, ensemble: SeedEnsemble, name: str = NAME) -> Registered:
    return register(ensemble, name, experiment="ecg", workspace=workspace)


@pytest.fixture(scope="module")
def workspace(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions of one model; the second is champion."""
    folder = tmp_path_factory.mktemp("work space")
    shutil.copy(mlflow_tables, folder)
    registered_in(folder, ensemble_of(1))
    registered_in(folder, ensemble_of(2))
    return folder


def probs_of(ensemble: SeedEnsemble) -> Any:
    return ServedEnsemble(ensemble).predict(beats())


def test_what_was_registered_predicts_alike(workspace: Path) -> None:
    addresses = {f"models:/{NAME}@champion": 2, f"models:/{NAME}/1": 1}
    for reference, start in {NAME: 2, f"{NAME}@1": 1, **addresses}.items():
        loaded = load(reference, workspace=workspace)
        assert loaded.origin == f"{NAME} version {start}"
        assert loaded.ensemble.about == {"trained_on": f"nothing, start {start}"}
        np.testing.assert_array_equal(probs_of(loaded.ensemble), probs_of(ensemble_of(start)))


PROGRAM = f"""
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/{NAME}@champion")
with np.load(sys.argv[1]) as file:
    probs = model.predict(dict(file))
inputs = {{spec.name: [str(spec.type), *spec.shape] for spec in model.metadata.signature.inputs}}
outputs = [[str(spec.type), *spec.shape] for spec in model.metadata.signature.outputs]
try:
    with np.load(sys.argv[1]) as file:
        model.predict(dict(file) | {{"late_rr": np.zeros((6, 3), np.float32)}})
    refused = False
except mlflow.exceptions.MlflowException:
    refused = True
print(json.dumps([probs.astype(float).tolist(), inputs, outputs, refused]))
"""


def test_a_new_process_loads_the_same_by_mlflow_alone(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "beats.npz").write_bytes(npz(**beats()))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "beats.npz")],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    probs, inputs, outputs, refused = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_array_equal(np.array(probs, np.float32), probs_of(ensemble_of(2)))
    assert inputs == {
        "ecg": ["float32", -1, 128],
        "early_rr": ["float32", -1, 2],
        "late_rr": ["float32", -1, 7],
    }
    assert outputs == [["float32", -1, 4]]
    assert refused


def test_what_the_registry_shows_of_a_version(workspace: Path) -> None:
    client = mlflow_client(workspace)
    version = client.get_model_version_by_alias(NAME, "champion")
    assert version.tags == {
        "trained_on": "nothing, start 2",
        "arm": "opt3 / daeac / film / published7 / real",
    }
    for said in ("mean probability of 2 networks", "- early_rr [beats, 2]: ", ", unscaled\n"):
        assert said in version.description
    run = client.get_run(version.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"model {NAME}")
    assert run.data.params["fusion"] == "film"
    assert run.data.tags["kind"] == "model"
    model = Path(version.source)
    # Nothing of ours is pickled: code by its module, data by its file.
    assert "loader_module: study.models.served" in (model / "MLmodel").read_text()
    assert [path.name for path in (model / "data").iterdir()] == ["ensemble.pt"]
    assert not list(model.rglob("*.pkl"))
    # What serves it in an environment of its own.
    assert (model / "code" / "study" / "models" / "served.py").is_file()
    requirements = (model / "requirements.txt").read_text()
    assert re.fullmatch(r"mlflow==\S+\nnumpy==\S+\ntorch==[\d.]+", requirements)


def test_unknown_models_are_refused_with_the_known_ones(workspace: Path) -> None:
    for reference, message in {
        "svt": f"--model: unknown registered model 'svt'; known: {NAME}.",
        f"{NAME}@campion": f"--model {NAME}: unknown alias 'campion'; known: champion. Did you",
        f"{NAME}@7": f"--model {NAME}: unknown version '7'; known: 1, 2.",
    }.items():
        assert refused(UsageError, load, reference, workspace=workspace).startswith(message)


def test_a_registry_that_is_empty_has_lost_files_or_a_version_more(
    mlflow_tables: Path, tmp_path: Path
) -> None:
    fresh = Path(shutil.copy(mlflow_tables, tmp_path)).parent
    said = refused(UsageError, load, "svt", workspace=fresh)
    assert said == f"--model: there is no registered model; {HOW}"
    first = registered_in(fresh, ensemble_of(1), "gone")
    (folder,) = fresh.glob("mlruns/ecg/*/artifacts/model")
    shutil.rmtree(folder)
    assert refused(TrackingError, load, "gone", workspace=fresh) == (
        f"--model gone@1: data/ensemble.pt cannot be downloaded from {folder}: its files were "
        "moved or deleted, or it is no model of this package"
    )
    second = registered_in(fresh, ensemble_of(1), "gone")
    assert first == Registered(name="gone", version="1", previous=None)
    assert str(first) == "registered as gone@champion: version 1"
    assert str(second) == "registered as gone@champion: version 2 (before: version 1)"


def test_a_store_that_is_away_is_told_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away: dict[str, Any] = {"workspace": tmp_path, "tracking_uri": "http://ann:s3cret@127.0.0.1:9"}
    experiment = Experiment(name="ecg", **away)
    assert experiment.where() == "MLflow: http://127.0.0.1:9"
    said = "tracking: cannot use http://127.0.0.1:9: no answer (Connection refused); start it, "
    other = "or give another --tracking-uri"
    for use, advice in (
        (experiment.connect, "give another --tracking-uri, or leave MLflow out with --no-track"),
        (partial(load, "svt", **away), other),
        (partial(register, ensemble_of(1), "svt", experiment="ecg", **away), other),
    ):
        with pytest.raises(TrackingError) as caught:
            use()
        assert str(caught.value) == said + advice
        assert caught.value.__suppress_context__, "the cause has the password"
