"""A trial continues where it was, to the last bit, and leaves the files that a study needs."""

from __future__ import annotations

import csv
import io
import json
import pickle
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.errors import CheckpointError, DiskError
from study.keys import BEATS_PER_SECOND, CLASSES, EPOCH, Outcome, Tag
from study.models import rules
from study.store.trial_files import CHECKPOINT, PER_RECORD, PREDICTIONS, SCORES, WEIGHTS
from study.training.engine import Engine
from study.tuning import trial as own
from study.tuning.trial import (
    CONFIG,
    METRICS,
    NOTE,
    FusionTrial,
    TrialJob,
    TrialRun,
    read_checkpoint,
)
from tests.builders import refused, small_config

EPOCHS = 3

CONFIGURATION = small_config(
    input="opt3", fusion="mhca_time", heads=2, ema_decay=0.9, rr_dropout=0.3, epochs=EPOCHS
)
"""Everything that has state or draws random numbers."""


@dataclass
class Through:
    """A trial that ran through: what it reported, the files it left, checkpoints by epoch."""

    reports: list[dict[str, Any]]
    files: dict[str, bytes]
    checkpoints: dict[int, bytes]


def folder_of(job: TrialJob, config: TrialConfig = CONFIGURATION) -> Path:
    return Path(job.storage.root) / rules.digest(config)


def leave_checkpoint(job: TrialJob, content: bytes) -> None:
    job.storage.folder(rules.digest(CONFIGURATION)).write(CHECKPOINT, content)


def logged(report: dict[str, Any]) -> dict[str, float]:
    """Return what must be equal to the last bit: all metrics but the speed."""
    return {name: v for name, v in report[METRICS].items() if name != BEATS_PER_SECOND}


def arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(content)) as packed:
        return dict(packed)


def members(weights: bytes) -> list[dict[str, NDArray[Any]]]:
    loaded = torch.load(io.BytesIO(weights), weights_only=True)
    return [{name: tensor.numpy() for name, tensor in member.items()} for member in loaded]


@pytest.fixture(scope="module")
def through(shared_job: TrialJob) -> Through:
    run, folder = TrialRun(CONFIGURATION, shared_job), folder_of(shared_job)
    reports, checkpoints = [], dict[int, bytes]()
    for saved in range(EPOCHS):
        reports.append(run.step())
        if (folder / CHECKPOINT).exists():
            checkpoints[saved] = (folder / CHECKPOINT).read_bytes()
    return Through(reports, {p.name: p.read_bytes() for p in folder.iterdir()}, checkpoints)


@pytest.mark.parametrize("saved", [1, 2], ids=["in an epoch", "its end was not recorded"])
def test_a_continued_trial_equals_an_uninterrupted_one_to_the_last_bit(
    through: Through, job: TrialJob, saved: int
) -> None:
    leave_checkpoint(job, through.checkpoints[saved])
    run = TrialRun(CONFIGURATION, job)
    rest = [run.step() for _ in range(EPOCHS - saved)]
    assert {report[NOTE] for report in rest} == {f"continued after epoch {saved}"}
    for got, expected in zip(rest, through.reports[saved:], strict=True):
        assert (got[EPOCH], got[Tag.OUTCOME]) == (expected[EPOCH], expected[Tag.OUTCOME])
        np.testing.assert_equal(logged(got), logged(expected))
    for name, unpacked in ((PREDICTIONS, arrays), (WEIGHTS, members)):
        left = (folder_of(job) / name).read_bytes()
        np.testing.assert_equal(unpacked(left), unpacked(through.files[name]))


def test_a_screened_trial_reports_a_score_that_steers_and_leaves_no_file(job: TrialJob) -> None:
    screening = replace(job, screens=True)
    config = replace(CONFIGURATION, train=replace(CONFIGURATION.train, epochs=1))
    report = TrialRun(config, screening).step()
    assert report[Tag.OUTCOME] == Outcome.SCREENED
    assert not folder_of(screening, config).exists()
    assert not {name for name in report[METRICS] if name.startswith("rr_reliance")}
    in_full = TrialRun(config, job).step()
    assert in_full[Tag.OUTCOME] == Outcome.COMPLETE, "in a study that does not screen"
    assert logged(report).items() - logged(in_full).items(), "not every normal beat is predicted"
    scores = [trial[METRICS]["val_auprc_sv"] for trial in (report, in_full)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
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
    scores = json.loads(through.files[SCORES], parse_constant=pytest.fail)
    final = {n: v for n, v in through.reports[-1][METRICS].items() if n in scores[METRICS]}
    assert scores[METRICS] == {n: v if v == v else None for n, v in final.items()}
    assert {n for n, v in final.items() if v != v} <= scores["undefined"].keys()
    assert len(scores["per_fold"]) >= 2


def test_a_damaged_checkpoint_starts_the_trial_again(through: Through, job: TrialJob) -> None:
    leave_checkpoint(job, through.checkpoints[1][:-200])
    report = TrialRun(CONFIGURATION, job).step()
    assert report[NOTE].startswith("started again: its checkpoint is damaged (BadZipFile: ")
    assert report[EPOCH] == 1
    np.testing.assert_equal(logged(report), logged(through.reports[0]))


def test_an_altered_byte_is_noticed_or_changes_nothing(through: Through) -> None:
    whole = through.checkpoints[1]
    expected = pickle.dumps(read_checkpoint(whole))
    noticed = 0
    for place in np.random.default_rng(0).integers(len(whole), size=60):
        altered = bytearray(whole)
        altered[place] ^= 1
        try:
            state = read_checkpoint(bytes(altered))
        except CheckpointError:
            noticed += 1
        else:
            assert pickle.dumps(state) == expected, f"byte {place} altered the state unnoticed"
    assert noticed > 30


def worker(job: TrialJob) -> FusionTrial:
    """Return what Ray makes an actor of, in this process."""
    trial = FusionTrial.__new__(FusionTrial)
    trial.setup({}, job=job)
    return trial


def test_a_worker_reports_a_failing_trial_and_takes_the_next(job: TrialJob) -> None:
    trial = worker(job)
    unprepared = CONFIGURATION.flat() | {"segmentation": "fixed"}
    trial.reset_config({CONFIG: unprepared})
    failed = trial.step()
    assert (failed["done"], failed[Tag.OUTCOME]) == (True, Outcome.FAILED)
    assert failed[Tag.CAUSE] == "KeyError: ('fixed', 'antialiased')"
    assert "Traceback" in failed[NOTE]
    assert (failed[EPOCH], failed[METRICS]) == (0, {})

    assert trial.reset_config({CONFIG: CONFIGURATION.flat() | {"epochs": 1}})
    done = trial.step()
    assert (done["done"], done[Tag.OUTCOME], done[Tag.CAUSE]) == (True, Outcome.COMPLETE, "")


def test_what_is_the_machines_fault_is_for_ray_to_try_again(job: TrialJob) -> None:
    trial = worker(job)
    for raised, passed_on in (
        (MemoryError("no more"), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), MemoryError),
        (RuntimeError("could not create a primitive"), MemoryError),
        (OSError(5, "Input/output error", "/store/x"), DiskError),
        (DiskError("/store/x: cannot be written"), DiskError),
    ):
        trial.reset_config({CONFIG: CONFIGURATION.flat()})
        with mock.patch.object(TrialRun, "step", side_effect=raised):
            said = refused(passed_on, trial.step)
        assert passed_on is MemoryError or said.startswith("/store/x: ")


def test_a_worker_without_a_gpu_or_a_compiler_trains_as_it_can_and_says_so(
    job: TrialJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for planned in (Engine(), Engine(compiled=True)):
        assert replace(job, engine=planned).engine_here == planned
    of_gpu = replace(job, engine=Engine("tf32", packed=True))
    assert of_gpu.engine_here == Engine("tf32", compiled=True)
    assert TrialRun(CONFIGURATION, of_gpu).step()[NOTE] == ""
    monkeypatch.setattr(own, "has_compiled_kernels", lambda: False)
    run = TrialRun(CONFIGURATION, replace(job, engine=Engine("bf16", compiled=True)))
    assert run.step()[NOTE] == (
        f"kernels cannot be compiled on {socket.gethostname()}: trains as 'bf16, not compiled', "
        "up to twice as long"
    )
