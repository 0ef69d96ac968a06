"""Both halves of a small synthetic data set, and plans that train on it in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from study.data.records import DS1, DS2
from study.data.synthetic import write_records
from study.sealed.folder import EvaluationFolder
from study.sealed.plan import Arm, SealedPlan
from study.sealed.plan_file import load_plan
from study.sealed.preparation import make_job
from study.sealed.records import Records, synthetic_records
from study.sealed.retrain import Job
from study.statistics.predictions import Beats

ARM = """
[[arms]]
name = "{name}"
{lines}
epochs = 1
batch_size = 32
normal_beats_per_epoch = 40
"""

PLAN = (
    """
name = "tiny"
contrasts = [["rr", "rr_placebo"]]
resamples = 100
permutations = 100
precision = "fp32"
"""
    + ARM.format(name="rr", lines='fusion = "rr_only"\nembed_dim = 8')
    + ARM.format(name="rr_placebo", lines='fusion = "rr_only"\nembed_dim = 8\nrr = "placebo"')
)
"""Arms without an ECG train and predict in no time."""

WITH_ECG = 'name = "with_ecg"' + ARM.format(name="film", lines='fusion = "film"\nembed_dim = 8')


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of six records of DS1 and of all of DS2, all synthetic."""
    folder = tmp_path_factory.mktemp("halves")
    write_records(folder, names=(*DS2, *DS1[:6]), duration_s=60)
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared beats, shared by all tests."""
    return tmp_path_factory.mktemp("beats")


@pytest.fixture
def records(halves: Path, tmp_path: Path) -> Records:
    """The two halves as the records of a rehearsal."""
    return synthetic_records(halves, tmp_path)


@pytest.fixture
def plan(tmp_path: Path) -> SealedPlan:
    """Two arms of one epoch, ten seeds each."""
    path = tmp_path / "tiny.toml"
    path.write_text(PLAN)
    return load_plan(path)


@pytest.fixture
def film(tmp_path: Path) -> Arm:
    """An arm with an ECG."""
    path = tmp_path / "with_ecg.toml"
    path.write_text(WITH_ECG)
    return load_plan(path).arms[0]


@pytest.fixture
def folder(plan: SealedPlan, tmp_path: Path) -> EvaluationFolder:
    """Where its evaluation goes."""
    return EvaluationFolder.of(tmp_path, plan, rehearsal=True)


@pytest.fixture
def job(plan: SealedPlan, records: Records, folder: EvaluationFolder, cache_dir: Path) -> Job:
    """What its models are trained with."""
    return make_job(plan, records, folder, cache_dir=cache_dir, device="cpu", commit="abc")


@pytest.fixture
def beats() -> Beats:
    """120 beats of four records; record b has most S, c all F, and d is of a patient of DS1."""
    rng = np.random.default_rng(0)
    counts = {"a": (20, 2, 5, 0), "b": (15, 16, 2, 0), "c": (20, 0, 5, 12), "d": (20, 2, 1, 0)}
    label = [np.repeat(np.arange(4), n) for n in counts.values()]
    return Beats(
        label=np.concatenate([rng.permutation(labels) for labels in label]),
        record=np.repeat(np.arange(4), [sum(n) for n in counts.values()]),
        record_names=tuple(counts),
        patient_of_record=("p1", "p2", "p3", "p4"),
        fold_of_record=(0, 0, 0, 0),
    )
