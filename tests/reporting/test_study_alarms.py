"""The alarms of a study, from trials that were trained and from what a folder holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.config import TrialConfig
from study.keys import AUPRC_SV
from study.models import rules
from study.reporting.study_alarms import study_alarms
from study.spaces.space import Space
from study.store.storage import Storage
from study.store.study_floors import StudyFloor
from study.store.trial_files import PREDICTIONS
from study.store.trials import TrialRow
from study.tuning.trial import METRICS, TrialJob, TrialRun
from tests.builders import load_text, npz, trial_row

SEARCH = """
description = "heads over one token"
[search]
sampler = "grid"
folds = 2
[fixed]
fusion = "mhca"
embed_dim = 8
epochs = 1
normal_beats_per_epoch = 40
dropout = 0.0
[params.heads]
values = [1, 2]
"""

COMPARE = """
description = "three arms"
[compare]
draws = 1
folds = 2
reference = "film"
[fixed]
epochs = 1
[[arms]]
name = "film"
fusion = "film"
placebo = true
[[arms]]
name = "ecg"
input = "ecg"
fusion = "none"
"""

FOLD = np.array([0, 0, 1, 1])


def row_of(number: int, config: TrialConfig, arm: str = "", **metrics: float) -> TrialRow:
    name = arm or rules.arm(config)
    return trial_row(number, name, digest=rules.digest(config), metrics=metrics)


def store(storage: Storage, digest: str, seed: int) -> None:
    log_probs = np.random.default_rng(seed).normal(size=(1, len(FOLD), 4)).astype(np.float32)
    log_probs[0, ::2, 0] = 9
    log_probs[0, 1::2, 1] = 9
    storage.folder(digest).write(PREDICTIONS, npz(log_probs=log_probs))


def test_heads_over_one_token_are_found_to_change_nothing(job: TrialJob, tmp_path: Path) -> None:
    """The softmax over one key is 1 for any number of heads, and only the order of sums differs.

    Without dropout, which draws for each head.
    """
    space = load_text(tmp_path, SEARCH)
    rows = []
    for number, point in enumerate(space.grid()):
        config = space.configuration(point)
        metrics = TrialRun(config, job).step()[METRICS]
        # As a CSV gives them back: parameters are text.
        params = {name: str(value) for name, value in point.items()}
        rows.append(replace(row_of(number, config, **metrics), params=params))
    fold = job.folds.of_beats(next(iter(job.beats.values())))
    said = [str(alarm) for alarm in study_alarms(space, rows, job.storage, fold)]
    arm = "opt1 / daeac / mhca / seed7"
    assert (
        f"warning: heads changes nothing in {arm}: equal but for rounding are trials 0 and 1 "
        "(heads = 1; 2); count these trials as one try, and leave out what does nothing"
    ) in said
    assert said[-1].startswith(f"note: cannot use the RR that they are given: {arm}: ")
    assert not [line for line in said if "does not use" in line]


@pytest.fixture
def compared(tmp_path: Path) -> tuple[Space, list[TrialRow], Storage]:
    """A comparison whose film arm and its placebo predict the same."""
    space, storage = load_text(tmp_path, COMPARE), Storage.at(tmp_path / "trials")
    rows = []
    for number, point in enumerate(space.comparisons()):
        row = row_of(number, point.config, point.arm, **{AUPRC_SV: 0.4 + number / 10})
        rows.append(replace(row, params={"arm": point.arm}, draw=0))
        store(storage, row.digest, seed=0 if "film" in point.arm else 1)
    return space, rows, storage


def test_arms_of_a_comparison_differ_by_their_configurations(
    compared: tuple[Space, list[TrialRow], Storage],
) -> None:
    (alarm,) = study_alarms(*compared, FOLD)
    assert alarm.what == "rr changes nothing in film and film_placebo"
    assert "trials 0 and 1 (rr = real; placebo)" in alarm.evidence


def test_floors_are_held_against_intervals_or_the_best_trial_of_each_arm(
    compared: tuple[Space, list[TrialRow], Storage],
) -> None:
    scores = {AUPRC_SV: 0.45, "val_auprc_S": 0.7, "val_auprc_V": 0.1}
    floor = StudyFloor(name="logistic_regression", digest="f", metrics=scores)
    missing = StudyFloor(name="prevalence", digest="g", missing="no beats")
    space, rows, storage = compared
    rows = [replace(row, metrics={**row.metrics, "val_auprc_S": 0.6}) for row in rows]
    floors = [floor, missing]
    *_, points, of_s = study_alarms(space, rows, storage, FOLD, floors=floors)
    said = "arms are not shown to beat logistic regression in"
    assert points.what == f"1 of 3 {said} AUPRC S+V"
    assert points.evidence == "it scores .450, they film .400"
    assert of_s.what == f"3 of 3 {said} AUPRC S"
    intervals = {"film": (0.3, 0.5), "film_placebo": (0.4, 0.6), "ecg": (0.5, 0.7)}
    *_, within, _ = study_alarms(space, rows, storage, FOLD, floors=floors, intervals=intervals)
    assert within.what == f"2 of 3 {said} AUPRC S+V"


def test_rungs_are_judged_where_trials_were_stopped_early(
    compared: tuple[Space, list[TrialRow], Storage],
) -> None:
    assert len(study_alarms(*compared, FOLD)) == 1
    whats = [alarm.what for alarm in study_alarms(*compared, FOLD, rungs=(0.2, 20))]
    assert "early stopping may have stopped the best configurations" in whats


def test_trials_without_files_are_left_out(
    compared: tuple[Space, list[TrialRow], Storage], tmp_path: Path
) -> None:
    space, rows, _ = compared
    assert study_alarms(space, rows, Storage.at(tmp_path / "gone"), FOLD) == []
