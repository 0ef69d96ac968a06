"""Both halves of a small synthetic data set, and a plan that is trained on it in seconds."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

from study import evaluate
from study.data.beat_set import BeatSet
from study.data.catalogue import DS1, DS2
from study.data.prepare import prepare_all
from study.data.synthetic import write_records
from study.keys import Tag
from study.models import rules
from study.sealed import session
from study.sealed.plan import SealedPlan, load_plan
from study.sealed.records import Asked, Records, find_records
from study.sealed.result import EvaluationFolder
from study.statistics.predictions import Beats
from study.store.beats_file import write_beats
from study.store.folder import BEATS
from study.store.trial_files import WEIGHTS
from study.tuning.session import Options, Summary
from study.tuning.setup import Setup
from study.tuning.trial import TrialRun
from tests.command import Ended

PLAN = """
description = "two arms"
[compare]
draws = 1
folds = "all"
seeds = 10
[test]
name = "tiny"
contrasts = [["rr", "rr_placebo"]]
resamples = 100
permutations = 100
precision = "fp32"
[fixed]
fusion = "rr_only"
template = "trailing"
late_shape = "distances"
embed_dim = 8
epochs = 1
batch_size = 32
normal_beats_per_epoch = 40
[[arms]]
name = "rr"
[[arms]]
name = "rr_placebo"
rr = "placebo"
"""
"""Arms without an ECG train and predict in no time."""

CUT = ("daeac", "linear")

Run = Callable[..., Ended]


def run_here(setup: Setup, options: Options, experiment: object) -> Summary:
    """Run a study in this process, without Ray and Optuna; what has its weights is done."""
    torch.set_num_threads(1)  # as a worker has it: two threads of a busy machine spin
    folder = options.places.folder
    setup.plan.save(folder)
    write_beats(folder / BEATS, setup.beats, setup.job.folds, setup.source.patients)
    for point in setup.space.comparisons():
        if not setup.job.storage.folder(rules.digest(point.config)).holds(WEIGHTS):
            trial = TrialRun(point.config, setup.job)
            while not trial.step()[Tag.OUTCOME]:
                pass
    return Summary()


def interrupted(*args: object, **kwargs: object) -> None:
    """Stand for whatever Ctrl-C comes into."""
    raise KeyboardInterrupt


def never(*args: object, **kwargs: object) -> None:
    """Stand for what must not be done."""
    raise AssertionError("must not be done")


def refusal(ended: Ended) -> str:
    """Return the only thing that a command has said: why it does nothing."""
    assert (ended.code, ended.out) == (2, "") and "Traceback" not in ended.err
    return ended.err.removeprefix("error: ").strip()


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
    return find_records(
        Asked(developments=("mitdb",), data_dirs=[halves], synthetic=True, workspace=tmp_path)
    )


@pytest.fixture
def ds1(records: Records, cache_dir: Path) -> BeatSet:
    """DS1 of these records, cut as daeac."""
    source = records.developments["mitdb"]
    return prepare_all(source, [CUT], cache_dir=cache_dir, study_seed=0)[CUT]


def command_line(halves: Path, *words: object, track: bool = False) -> list[str]:
    """Return the words by which `tiny.toml` is evaluated on synthetic records."""
    plan = ["--plan", "tiny.toml", "--synthetic", "--data-dir", str(halves)]
    return [*plan, *([] if track else ["--no-track"]), *map(str, words)]


@contextmanager
def here(folder: Path, cache_dir: Path) -> Iterator[None]:
    """Work in a folder, where studies run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MITDB_DIR", raising=False)
        patch.setenv("STUDY_CACHE_DIR", str(cache_dir))
        patch.setattr(session, "run_study", run_here)
        yield


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, halves: Path, cache_dir: Path
) -> tuple[Path, SealedPlan]:
    """A workspace with the models of `tiny.toml`, and the plan: trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(PLAN)
    with here(folder, cache_dir):
        assert evaluate.main(command_line(halves, "-q", "--stop-before-opening")) == 0
    return folder, load_plan(folder / "tiny.toml")


@pytest.fixture(scope="session")
def evaluated_once(
    tmp_path_factory: pytest.TempPathFactory,
    trained: tuple[Path, SealedPlan],
    halves: Path,
    cache_dir: Path,
) -> Callable[..., tuple[Path, str]]:
    """Evaluates with these words in a copy of that workspace; gives it and what was said."""

    def evaluate_once(*words: object) -> tuple[Path, str]:
        folder = tmp_path_factory.mktemp("evaluated") / "workspace"
        shutil.copytree(trained[0], folder)
        with here(folder, cache_dir), redirect_stdout(io.StringIO()) as said:
            assert evaluate.main(command_line(halves, *words)) == 0
        return folder, said.getvalue()

    return evaluate_once


@pytest.fixture(scope="session")
def opened_once(evaluated_once: Callable[..., tuple[Path, str]]) -> tuple[Path, str]:
    """A workspace after an opening, and what the command has said."""
    return evaluated_once()


@pytest.fixture
def workspace(request: pytest.FixtureRequest, cache_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to work in; of the workspace that has an opening where a test takes `opened`."""
    has_opening = "opened" in request.fixturenames
    source = request.getfixturevalue("opened_once" if has_opening else "trained")[0]
    folder = tmp_path / "workspace"
    shutil.copytree(source, folder)
    with here(folder, cache_dir):
        yield folder


@pytest.fixture
def opened(opened_once: tuple[Path, str], workspace: Path) -> str:
    """Let the workspace have an opening; what the command said of it."""
    # The only path in it is that of the files.
    return opened_once[1].replace(str(opened_once[0]), str(workspace))


@pytest.fixture
def evaluates(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command with these words."""

    def run(*words: object) -> Ended:
        capsys.readouterr()
        return Ended(evaluate.main([str(word) for word in words]), *capsys.readouterr())

    return run


@pytest.fixture
def run(workspace: Path, halves: Path, evaluates: Run) -> Run:
    """Evaluates `tiny.toml` in the workspace."""
    return lambda *words, track=False: evaluates(*command_line(halves, *words, track=track))


@pytest.fixture
def folder(workspace: Path, trained: tuple[Path, SealedPlan]) -> EvaluationFolder:
    """Where the models are."""
    return EvaluationFolder.of(workspace, trained[1], rehearsal=True)


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
        folds_of_record=((0, 0, 0, 0),),
    )
