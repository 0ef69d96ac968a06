"""A trial continues where it was, to the last bit, and leaves the files that a study needs."""

from __future__ import annotations

import csv
import io
import json
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.errors import CheckpointError, DiskError
from study.keys import BEATS_PER_SECOND, CLASSES, EPOCH, Outcome, Tag
from study.models import rules
from study.store import trial_files
from study.store.storage import Storage
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES
from study.training.engine import Engine
from study.tuning import trial as own
from study.tuning.trial import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    NOTE,
    WEIGHTS,
    FusionTrial,
    TrialJob,
    TrialRun,
    read_checkpoint,
)
from tests.builders import small_config

EPOCHS = 3

CONFIGURATION = small_config(
    input="opt3", fusion="mhca_time", heads=2, ema_decay=0.9, rr_dropout=0.3, epochs=EPOCHS
)
"""Everything that has state or draws random numbers."""

BROKEN = TrialConfig.from_flat(CONFIGURATION.flat() | {"segmentation": "fixed"})
"""Wants beats that the study did not prepare."""


@dataclass
class Through:
    """A trial that ran through: what it reported, the files it left, and those on its way."""

    reports: list[dict[str, Any]]
    files: dict[str, bytes]
    checkpoints: list[bytes | None]


def folder_of(job: TrialJob, config: TrialConfig = CONFIGURATION) -> Path:
    return Path(job.storage.root) / rules.digest(config)


def in_folder(job: TrialJob, folder: Path) -> TrialJob:
    return replace(job, storage=Storage.at(folder))


def leave_checkpoint(job: TrialJob, content: bytes | None) -> None:
    job.storage.folder(rules.digest(CONFIGURATION)).write(CHECKPOINT, content or b"")


def steps(run: TrialRun, n_steps: int) -> list[dict[str, Any]]:
    return [run.step() for _ in range(n_steps)]


def logged(report: dict[str, Any]) -> dict[str, float]:
    """Return what must be equal to the last bit: all metrics but the speed."""
    return {name: v for name, v in report[METRICS].items() if name != BEATS_PER_SECOND}


def arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content)) as packed:
        return dict(packed)


def members(weights: bytes) -> list[dict[str, Any]]:
    return list(torch.load(io.BytesIO(weights), weights_only=True))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(value, other[name], equal_nan=True) for name, value in one.items()
    )


@pytest.fixture(scope="module")
def through(
    small_beats: BeatSet, small_folds: Any, tmp_path_factory: pytest.TempPathFactory
) -> Through:
    job = TrialJob(
        beats={("daeac", "linear"): small_beats},
        folds=small_folds,
        n_seeds=1,
        study_seed=0,
        device="cpu",
        storage=Storage.at(tmp_path_factory.mktemp("through")),
    )
    run, reports, checkpoints = TrialRun(CONFIGURATION, job), [], []
    for _ in range(EPOCHS):
        reports.append(run.step())
        checkpoint = folder_of(job) / CHECKPOINT
        checkpoints.append(checkpoint.read_bytes() if checkpoint.exists() else None)
    files = {path.name: path.read_bytes() for path in folder_of(job).iterdir()}
    return Through(reports, files, checkpoints)


@pytest.mark.parametrize("saved", [1, 2], ids=["in an epoch", "its end was not recorded"])
def test_a_continued_trial_equals_an_uninterrupted_one_to_the_last_bit(
    through: Through, job: TrialJob, saved: int
) -> None:
    leave_checkpoint(job, through.checkpoints[saved])
    rest = steps(TrialRun(CONFIGURATION, job), EPOCHS - saved)

    assert {report[NOTE] for report in rest} == {f"continued after epoch {saved}"}
    for got, expected in zip(rest, through.reports[saved:], strict=True):
        assert got[EPOCH] == expected[EPOCH]
        assert got[Tag.OUTCOME] == expected[Tag.OUTCOME]
        assert same(logged(got), logged(expected)), got[EPOCH]
    predictions = (folder_of(job) / PREDICTIONS).read_bytes()
    assert same(arrays(predictions), arrays(through.files[PREDICTIONS]))
    weights = (folder_of(job) / WEIGHTS).read_bytes()
    for one, other in zip(members(weights), members(through.files[WEIGHTS]), strict=True):
        assert same(one, other)


def test_only_the_last_epoch_ends_a_trial(through: Through) -> None:
    """An epoch is saved when the next one is asked for."""
    assert through.checkpoints[0] is None
    assert read_checkpoint(through.checkpoints[1] or b"")["epoch"] == 1
    assert [report[Tag.OUTCOME] for report in through.reports] == ["", "", Outcome.COMPLETE]
    assert [report[EPOCH] for report in through.reports] == [1, 2, 3]
    assert {report[NOTE] for report in through.reports} == {""}
    reliance = {"rr_reliance_total_S", "rr_reliance_total_V"}
    assert reliance <= through.reports[-1][METRICS].keys()
    assert not reliance & through.reports[0][METRICS].keys()


def test_a_screened_trial_reports_a_score_that_steers_and_leaves_no_file(
    through: Through, job: TrialJob
) -> None:
    screening = replace(job, screens=True)
    config = replace(CONFIGURATION, train=replace(CONFIGURATION.train, epochs=1))
    (report,) = steps(TrialRun(config, screening), 1)
    assert report[Tag.OUTCOME] == Outcome.SCREENED
    assert not folder_of(screening, config).exists()
    assert not {name for name in report[METRICS] if name.startswith("rr_reliance")}
    steered = report[METRICS]["val_auprc_sv"]
    (in_full,) = steps(TrialRun(config, job), 1)
    assert in_full[Tag.OUTCOME] == Outcome.COMPLETE, "in a study that does not screen"
    assert logged(report).items() - logged(in_full).items(), "not every normal beat is predicted"
    assert steered == pytest.approx(in_full[METRICS]["val_auprc_sv"], abs=0.05)
    assert not screening.screening(CONFIGURATION), "more epochs are the budget in full"


def test_a_finished_trial_leaves_its_results(through: Through, small_beats: BeatSet) -> None:
    # Its checkpoint goes when its outcome is recorded: until then it may have to finish again.
    assert through.files.keys() == {PREDICTIONS, WEIGHTS, PER_RECORD, SCORES, CHECKPOINT}
    packed = arrays(through.files[PREDICTIONS])
    inspected = {"sampled_beats", "mean_beat", "attention", "deletion", "branch_share"}
    assert packed.keys() == {"log_probs", "confusion", "gates", *inspected}
    n_beats = len(small_beats.label)
    assert packed["log_probs"].shape == (1, n_beats, len(CLASSES))
    assert packed["log_probs"].dtype == np.float32
    assert np.isfinite(packed["log_probs"]).all(), "every beat validates in one of the folds"
    assert packed["confusion"].sum() == n_beats
    assert packed["gates"].shape == (2, 8)
    assert len(members(through.files[WEIGHTS])) == 2
    per_record = list(csv.DictReader(io.StringIO(through.files[PER_RECORD].decode())))
    assert {row["record"] for row in per_record} == set(small_beats.record_names)


def test_scores_are_kept_with_null_and_a_reason_where_undefined(through: Through) -> None:
    scores = json.loads(through.files[SCORES], parse_constant=pytest.fail)
    final = {n: v for n, v in through.reports[-1][METRICS].items() if n in scores[METRICS]}
    assert scores[METRICS] == {n: v if v == v else None for n, v in final.items()}
    assert {n for n, v in final.items() if v != v} <= scores["undefined"].keys()
    assert len(scores["per_fold"]) >= 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[: len(content) // 2], "(BadZipFile: File is not a zip file)"),
        (lambda content: flipped(content, len(content) // 2), "(the checksum of its part "),
    ],
    ids=["truncated", "altered"],
)
def test_a_damaged_checkpoint_starts_the_trial_again_and_says_so(
    through: Through, job: TrialJob, damage: Any, said: str
) -> None:
    leave_checkpoint(job, damage(through.checkpoints[1]))
    report = TrialRun(CONFIGURATION, job).step()
    assert report[NOTE].startswith(f"started again: its checkpoint is damaged {said}")
    assert report[EPOCH] == 1
    assert same(logged(report), logged(through.reports[0]))


def test_an_altered_byte_is_noticed_or_changes_nothing(through: Through) -> None:
    whole = through.checkpoints[1] or b""
    expected = flat(read_checkpoint(whole))
    noticed = 0
    for place in np.random.default_rng(0).integers(len(whole), size=60):
        try:
            state = read_checkpoint(flipped(whole, int(place)))
        except CheckpointError:
            noticed += 1
        else:
            assert flat(state) == expected, f"byte {place} altered the state unnoticed"
    assert noticed > 30


def flipped(content: bytes, place: int) -> bytes:
    """Return a file in which one bit differs."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def flat(state: Any) -> list[Any]:
    """Return all leaves of a state, with tensors as their bytes."""
    if isinstance(state, dict):
        return [part for key, value in state.items() for part in (key, *flat(value))]
    if isinstance(state, list | tuple):
        return [part for value in state for part in flat(value)]
    return [state.numpy().tobytes() if isinstance(state, torch.Tensor) else repr(state)]


def test_a_checkpoint_of_another_version_is_refused(
    through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_files, "__version__", "99.0")
    with pytest.raises(CheckpointError, match=r"its checkpoint is of version .*, this is 99\.0"):
        read_checkpoint(through.checkpoints[1] or b"")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK"])
def test_a_checkpoint_whose_state_is_none_is_damaged(content: bytes) -> None:
    for whole in (content, trial_files.pack_checkpoint(1, content)):
        with pytest.raises(CheckpointError, match="its checkpoint is damaged"):
            read_checkpoint(whole)


def worker(job: TrialJob) -> FusionTrial:
    """Return what Ray makes an actor of, in this process."""
    trial = FusionTrial.__new__(FusionTrial)
    trial.setup({}, job=job)
    return trial


def test_a_worker_reports_a_failing_trial_and_takes_the_next(job: TrialJob) -> None:
    trial = worker(job)
    trial.reset_config({CONFIG: BROKEN.flat()})
    failed = trial.step()
    assert failed["done"]
    assert failed[Tag.OUTCOME] == Outcome.FAILED
    assert failed[Tag.CAUSE] == "KeyError: ('fixed', 'antialiased')"
    assert "Traceback" in failed[NOTE]
    assert (failed[EPOCH], failed[METRICS]) == (0, {})

    short = TrialConfig.from_flat(CONFIGURATION.flat() | {"epochs": 1})
    assert trial.reset_config({CONFIG: short.flat()})
    done = trial.step()
    assert (done["done"], done[Tag.OUTCOME], done[Tag.CAUSE]) == (True, Outcome.COMPLETE, "")


@pytest.mark.parametrize(
    ("raised", "passed_on"),
    [
        (MemoryError("no more"), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), MemoryError),
        (RuntimeError("could not create a primitive"), MemoryError),
        (OSError(5, "Input/output error", "/store/x"), DiskError),
        (DiskError("/store/x: cannot be written"), DiskError),
    ],
)
def test_what_is_the_machines_fault_is_for_ray_to_try_again(
    job: TrialJob, monkeypatch: pytest.MonkeyPatch, raised: Exception, passed_on: type[Exception]
) -> None:
    def step(self: TrialRun) -> dict[str, Any]:
        raise raised

    monkeypatch.setattr(TrialRun, "step", step)
    trial = worker(job)
    trial.reset_config({CONFIG: CONFIGURATION.flat()})
    with pytest.raises(passed_on) as caught:
        trial.step()
    if passed_on is DiskError:
        assert str(caught.value).startswith("/store/x: ")


def test_a_worker_without_a_gpu_trains_as_a_cpu_does_best(job: TrialJob) -> None:
    for planned in (Engine(), Engine(compiled=True)):
        assert replace(job, engine=planned).engine_here == planned
    of_gpu = replace(job, engine=Engine("tf32", packed=True))
    assert of_gpu.engine_here == Engine("tf32", compiled=True)
    assert TrialRun(CONFIGURATION, of_gpu).step()[NOTE] == ""


def test_a_worker_without_a_compiler_trains_as_written_and_says_so(
    job: TrialJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "has_compiled_kernels", lambda: False)
    run = TrialRun(CONFIGURATION, replace(job, engine=Engine("bf16", compiled=True)))
    assert run.step()[NOTE] == (
        f"kernels cannot be compiled on {socket.gethostname()}: trains as 'bf16, not compiled', "
        "up to twice as long"
    )
