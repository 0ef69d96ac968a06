"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
import torch

from study.data.beat_set import BeatSet
from study.data.folds import Folds, make_folds
from study.data.prepare import prepare, prepare_all
from study.data.source import Source, synthetic_source
from study.keys import CLASSES
from study.models.build_kernels import FOLDER_VARIABLE
from study.statistics.predictions import ArmRuns, Beats
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.tracking.mlflow_store import connect, find_store
from study.training.floors import FLOOR_CUT
from study.tuning.trial import TrialJob
from tests.builders import MakeArm, arm_of, study_plan, write_split
from tests.command import fresh_tables, own_surroundings

if TYPE_CHECKING:
    from tests.studies import Studies

torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.ERROR)


LONGEST = """
    killed_drivers signals full_disks workers trackers networks ray_tune cluster whole_studies
    packs confirm evaluate external status cpu_backbone engine postgres slurm
""".split()
"""Files that take longest: begun first, so that none runs alone at the end."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes; three for the faults, which wait more than they compute."""
    return 3 if config.option.markexpr == "faults" else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: processes take files in this order."""
    rank = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep them for all workspaces of the tests; each would compile them for two seconds."""
    os.environ.setdefault(FOLDER_VARIABLE, str(tmp_path_factory.getbasetemp() / "kernels"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Start every test from the same global random state, whatever ran before."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the caller's tracker, and take back the log levels that -v and -q set."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # At the begin: a fixture of a module may have run a command before its first test.
    for name in ("study", "study.data.source"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def real_records(variable: str) -> Path:
    """Return the folder that a variable names; the test is skipped where it is not set."""
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set: this test reads the real records")
    return Path(folder)


@pytest.fixture(scope="session")
def mitdb_dir() -> Path:
    return real_records("MITDB_DIR")


@pytest.fixture(scope="session")
def svdb_dir() -> Path:
    return real_records("SVDB_DIR")


@pytest.fixture(scope="session")
def records_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Short synthetic WFDB records, in the names of DS1, as the source of a study."""
    return synthetic_source(tmp_path_factory.mktemp("synthetic"), duration_s=120)


NAMES = ("101", "106", "108", "109", "112", "114")
"""Six records of a minute have ten beats and more of every class in each of two folds."""


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Six synthetic records of one minute."""
    return synthetic_source(tmp_path_factory.mktemp("records"), duration_s=60, names=NAMES)


@pytest.fixture(scope="session")
def small_beats(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """Some 440 beats, cut as daeac."""
    return prepare(small_source, "daeac", "linear", cache_dir=tmp_path_factory.mktemp("beats"))


@pytest.fixture(scope="session")
def floor_beats(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """The small records, cut for the floors."""
    cache_dir = tmp_path_factory.mktemp("beats")
    return prepare_all(small_source, [FLOOR_CUT], cache_dir=cache_dir)[FLOOR_CUT]


@pytest.fixture(scope="session")
def small_folds(small_source: Source, small_beats: BeatSet) -> Folds:
    """Two folds of three records."""
    beats = small_beats
    return make_folds(beats.record_names, beats.counts, 2, 0, small_source.patients)


@pytest.fixture(scope="module")
def studies(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    """A workspace with these records, whose studies end within seconds."""
    from tests.studies import SPACES, Studies

    folder = tmp_path_factory.mktemp("workspace")
    (folder / "records").symlink_to(small_source.folders[0])
    write_split(folder, small_source.records)
    for name, text in SPACES.items():
        (folder / f"{name}.toml").write_text(text)
    with own_surroundings() as scratch:
        yield Studies(folder, scratch)


@pytest.fixture(scope="session")
def shared_job(
    small_beats: BeatSet, small_folds: Folds, tmp_path_factory: pytest.TempPathFactory
) -> TrialJob:
    """What the trials of a tiny study share: two members each."""
    return TrialJob(
        beats={("daeac", "linear"): small_beats},
        folds=small_folds,
        n_seeds=1,
        study_seed=0,
        device="cpu",
        storage=Storage.at(tmp_path_factory.mktemp("trials")),
    )


@pytest.fixture
def job(shared_job: TrialJob, tmp_path: Path) -> TrialJob:
    """The same with files in the test's folder."""
    return replace(shared_job, storage=Storage.at(tmp_path / "trials"))


@pytest.fixture
def plan() -> StudyPlan:
    """A plan of a tiny search; take `dataclasses.replace` for another."""
    return study_plan()


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An `mlflow.db` of empty tables, to copy: making them takes seconds."""
    folder = tmp_path_factory.mktemp("tables")
    connect(find_store(None, folder))
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def made_study(mlflow_tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an interrupted study, `tiny`, all of whose records agree."""
    from tests.tuning.small_study import make

    workspace = tmp_path_factory.mktemp("made")
    shutil.copy(mlflow_tables, workspace)
    make(workspace)
    return workspace


@pytest.fixture
def workspace(made_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that workspace, to change, as the current folder."""
    copy = tmp_path / "workspace"
    shutil.copytree(made_study, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "studies" / "tiny"


COUNTS = {"N": 30, "S": 12, "V": 14, "F": 6}
"""Beats of every record: each fold has more than ten of each class."""


@pytest.fixture(scope="session")
def beats() -> Beats:
    """Eight records of seven patients in two folds; one record more is in no fold."""
    of_a_record = np.repeat(np.arange(len(CLASSES)), list(COUNTS.values()))
    names = ("100", "101", "102", "103", "104", "105", "106", "107", "108")
    # 104 has no S, and most V are of 106.
    without_s = np.where(of_a_record == 1, 0, of_a_record)
    labels = [without_s if name == "104" else of_a_record for name in names]
    labels[6] = np.append(labels[6], np.full(30, 2))
    return Beats(
        label=np.concatenate(labels),
        record=np.repeat(np.arange(len(names)), [len(label) for label in labels]),
        record_names=names,
        patient_of_record=("100", "101", "102", "101", "104", "105", "106", "107", "108"),
        folds_of_record=((0, 0, 0, 0, 1, 1, 1, 1, -1),),
    )


@pytest.fixture(scope="session")
def make_arm(beats: Beats) -> MakeArm:
    """A factory of arms of these beats, as `arm_of` makes them."""
    return partial(arm_of, beats)


@pytest.fixture(scope="session")
def arms(make_arm: MakeArm) -> list[ArmRuns]:
    """A bare ECG arm, two fusions, the placebo of one; film is clearly best."""
    return [
        make_arm("ecg", input="ecg", fusion="none"),
        make_arm("film", better=1.5, trials=2, beats_trained=5_000),
        make_arm("film_placebo", rr="placebo"),
        make_arm("concat", fusion="concat", better=0.2),
    ]


@pytest.fixture
def own_tables() -> Iterator[None]:
    """Take back what plug-ins add to the tables of this process."""
    with fresh_tables():
        yield
