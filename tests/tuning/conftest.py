"""Short synthetic records in two folds, small enough to train on in a second, and a sink."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from study.data.beatset import BeatSet
from study.data.prepare import prepare
from study.data.source import Source, synthetic_source
from study.data.splits import Folds, make_folds
from study.keys import Outcome
from study.tuning.plan import StudyPlan
from study.tuning.storage import Storage
from study.tuning.trial import TrialJob

NAMES = ("101", "106", "108", "109", "112", "114")
"""Six records of a minute have ten beats and more of every class in each of two folds."""


@dataclass
class MemorySink:
    """A tracker that remembers what it was told, in order, and what the files held."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def open_study(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> str:
        """Remember a parent run."""
        self.events.append(("open_study", name, dict(params), dict(tags)))
        self._keep("study", artifacts)
        return "study"

    def open_trial(
        self,
        digest: str,
        *,
        number: int,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        at_s: float | None = None,
    ) -> str:
        """Remember a nested run."""
        self.events.append(("open_trial", digest, number, dict(params), dict(tags)))
        return f"run-{digest}"

    def log_epoch(
        self, run_id: str, epoch: int, metrics: Mapping[str, float], *, at_s: float | None = None
    ) -> None:
        """Remember an epoch."""
        self.events.append(("log_epoch", run_id, epoch, dict(metrics)))

    def close_trial(
        self,
        run_id: str,
        *,
        outcome: Outcome,
        cause: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Remember an outcome."""
        self.events.append(("close_trial", run_id, outcome, cause, dict(metrics)))
        self._keep(run_id, artifacts)

    def add_floor(
        self,
        digest: str,
        *,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Remember a floor."""
        self.events.append(("add_floor", name, dict(params), dict(tags), dict(metrics)))
        self._keep(name, artifacts)

    def close_study(
        self,
        *,
        outcome: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        at_s: float | None = None,
    ) -> None:
        """Remember the end."""
        self.events.append(("close_study", outcome, dict(metrics)))
        self._keep("closed study", artifacts)

    def where(self) -> str:
        """Say where it is."""
        return "memory"

    def store(self) -> str:
        """Name it."""
        return "memory"

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the events of one kind."""
        return [event for event in self.events if event[0] == name]

    def _keep(self, run: str, paths: Sequence[Path]) -> None:
        # Read now: the recorder may delete its files as soon as this returns.
        self.files.setdefault(run, {}).update({path.name: path.read_bytes() for path in paths})


@pytest.fixture
def memory_sink() -> MemorySink:
    """A tracker to look into."""
    return MemorySink()


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Six synthetic records of one minute."""
    return synthetic_source(tmp_path_factory.mktemp("records"), duration_s=60, names=NAMES)


@pytest.fixture(scope="session")
def small_beats(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> BeatSet:
    """Some 440 beats, cut as daeac."""
    return prepare(small_source, "daeac", "linear", cache_dir=tmp_path_factory.mktemp("beats"))


@pytest.fixture(scope="session")
def small_folds(small_source: Source, small_beats: BeatSet) -> Folds:
    """Two folds of three records."""
    beats = small_beats
    return make_folds(beats.record_names, beats.counts(), 2, 0, small_source.patients)


@pytest.fixture
def job(small_beats: BeatSet, small_folds: Folds, tmp_path: Path) -> TrialJob:
    """What the trials of a tiny study share: two members each, files in the test's folder."""
    return TrialJob(
        beats={("daeac", "linear"): small_beats},
        folds=small_folds,
        n_seeds=1,
        study_seed=0,
        device="cpu",
        storage=Storage.at(tmp_path / "trials"),
    )


@pytest.fixture
def plan() -> StudyPlan:
    """A plan of a tiny search; take `dataclasses.replace` for another."""
    return StudyPlan(
        name="tiny",
        space="tiny",
        space_digest="0" * 12,
        kind="search",
        objective="val_auprc_sv",
        sampler="tpe",
        scheduler="asha",
        reduction_factor=2,
        trials=3,
        epochs=6,
        folds="2-fold, partition seed 0",
        fold_fingerprint="1" * 12,
        n_folds=2,
        n_seeds=1,
        study_seed=0,
        engine="fp32, not compiled",
        data_source="synthetic",
        data_fingerprints={"daeac/linear": "2" * 12},
    )


@pytest.fixture(scope="session")
def made_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an interrupted study, `tiny`, all of whose records agree."""
    from tests.tuning.small_study import make

    workspace = tmp_path_factory.mktemp("made")
    make(workspace)
    return workspace


@pytest.fixture
def workspace(made_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that workspace, to change, as the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = tmp_path / "workspace"
    shutil.copytree(made_study, place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def folder(workspace: Path) -> Path:
    """The folder of that study."""
    return workspace / "studies" / "tiny"
