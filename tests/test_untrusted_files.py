"""Files from elsewhere: none of them is executed, and none leads out of its folder."""

from __future__ import annotations

import ast
import io
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.data import beat_set
from study.errors import CheckpointError, PlanError, StudyError
from study.files import read_arrays
from study.models.seed_ensemble import Loaded, SeedEnsemble
from study.sealed.plan import load_plan
from study.store.beats_file import read_beats
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, pack_checkpoint, read_predictions
from study.tuning.trial import read_checkpoint
from tests.builders import npz

STUDY = Path(__file__).parents[1] / "study"


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def torch_file(attack: Attack, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    content = {"version": attack, "state": attack}
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def bare_pickle(attack: Attack) -> bytes:
    return pickle.dumps(attack, protocol=2)  # the one that torch itself writes


def numpy_file(attack: Attack) -> bytes:
    names = ("meta", "label", "record", "record_names", "patient_of_record", "log_probs")
    return npz(**dict.fromkeys(names, np.array([attack], dtype=object)))


Make = Callable[[Attack], bytes]


@pytest.mark.parametrize("make", [torch_file, partial(torch_file, zipped=False), bare_pickle])
def test_weights_and_checkpoints_execute_nothing(tmp_path: Path, make: Make) -> None:
    pickle.loads(bare_pickle(Attack(tmp_path / "executed")))
    (tmp_path / "executed").unlink()  # it is an attack

    content = make(Attack(tmp_path / "executed"))
    with pytest.raises(CheckpointError, match="^its checkpoint is damaged"):
        read_checkpoint(pack_checkpoint(1, content))
    with pytest.raises(CheckpointError, match="^the ensemble is damaged"):
        SeedEnsemble.read(content)
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="^--model bad.pt: the ensemble is damaged"):
        Loaded.at(tmp_path / "bad.pt", "bad.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("make", [numpy_file, bare_pickle])
def test_arrays_execute_nothing(tmp_path: Path, make: Make) -> None:
    content = make(Attack(tmp_path / "executed"))
    path = tmp_path / "beats.npz"
    path.write_bytes(content)
    storage = Storage.at(tmp_path)
    storage.folder("d").write(PREDICTIONS, content)
    for read in (
        lambda: read_beats(path),
        lambda: read_predictions(storage, "d", n_beats=1),
        lambda: read_arrays(content, {}),
    ):
        with pytest.raises(StudyError, match="is damaged"):
            read()
    (tmp_path / "x.beats").write_bytes(beat_set._digest(content) + b"\n" + content)
    assert beat_set.load_cached(tmp_path / "x.beats", "key") is None
    assert not (tmp_path / "executed").exists()


def test_no_file_is_loaded_in_a_way_that_executes_it() -> None:
    """Read from the source, so that a new loader is seen too."""
    loads, faults = 0, []
    for path in sorted(STUDY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            loads += called in ("torch.load", "np.load")
            if (
                (called == "torch.load" and given.get("weights_only") != "True")
                or given.get("allow_pickle", "False") != "False"
                or called in ("pickle.load", "pickle.loads", "eval", "exec", "load_model")
                or called.startswith(("yaml.", "joblib.load", "os.system", "mlflow.pyfunc."))
            ):
                faults.append(f"{path.relative_to(STUDY)}:{node.lineno}: {called}")
    assert loads >= 4
    assert faults == []


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", ".x", "a/b"])
def test_a_plan_and_its_arms_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f'name = "{name}"\n[[arms]]\nname = "{name}"\nfusion = "film"\n')
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    assert "name: must be letters, digits, '-', '_' and '.'" in str(caught.value)
    assert "arms[1]: name must be letters, digits, - and _" in str(caught.value)
