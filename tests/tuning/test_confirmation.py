"""What is taken from a search to be confirmed, and how it is written down."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.data.source import Source
from study.errors import StudyStateError, UsageError
from study.keys import AUPRC_SV, Outcome
from study.models import rules
from study.store.beats_file import read_beats
from study.store.trial_files import SCORES
from study.store.trials import EXHAUSTED
from study.tuning import confirmation
from study.tuning.confirmation import Search, pick, read_search, space_text
from tests.builders import (
    checked_space_of,
    small_config,
    stored_beats,
    study_of,
    study_plan,
    trial_row,
)

SCORES_OF = {
    ("mhca_time", 8, "real"): 0.50,
    ("mhca_time", 16, "real"): 0.55,
    ("concat", 8, "real"): 0.52,
    ("concat", 16, "real"): 0.51,
    ("film", 8, "real"): 0.54,
    ("film", 16, "real"): math.nan,
    ("film", 8, "placebo"): 0.60,
}
"""Objectives of trials that ended; NaN failed. The others were not run."""


def searched(folder: Path, **plan: Any) -> Search:
    """Return a search that was stopped."""
    trials = []
    for number, ((fusion, embed_dim, rr), value) in enumerate(SCORES_OF.items()):
        config = small_config(fusion=fusion, embed_dim=embed_dim, rr=rr)
        row = trial_row(
            number,
            rules.arm(config),
            digest=rules.digest(config),
            outcome=Outcome.COMPLETE if math.isfinite(value) else Outcome.FAILED,
            metrics={AUPRC_SV: value},
        )
        trials.append((row, config))
        # The best arm is good where the others are not: its lead has a large standard error.
        spread = 0.16 if value == 0.55 else 0.2
        scores = [{"auprc_S": v, "auprc_V": v} for v in (value - spread, value + spread)]
        path = folder / "trials" / row.digest / SCORES
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"per_fold": scores}))
    return read_search(study_of(folder, study_plan(epochs=2, trials=12, **plan), trials))


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return searched(tmp_path)


def test_the_best_trial_of_each_arm_is_read_and_placebos_are_not(search: Search) -> None:
    found = [(config.model.fusion, config.model.embed_dim) for _, config in search.best]
    assert found == [("mhca_time", 16), ("film", 8), ("concat", 8)]
    assert [c.score for c in search.scored] == [0.55, 0.54, 0.52]
    assert {config.signal.rr for _, config in search.best} == {"real"}
    exhausted = replace(search.study.trials, attrs={EXHAUSTED: True})
    assert search.study.unfinished
    assert not replace(search.study, trials=exhausted).unfinished, "nothing more can come"
    assert search.study.arm_scores["opt1 / daeac / film / published7 / placebo"] == 0.60


def test_the_best_and_the_simplest_within_one_standard_error_are_picked(
    search: Search,
) -> None:
    """By fold concat loses .07 and -.01: .03, with a standard error of .04."""
    three = ["mhca_time", "film", "concat"]
    for top, fusions in ((1, ["mhca_time", "concat"]), (2, three), (9, three)):
        picks = pick(search, top)
        assert [p.config.model.fusion for p in picks] == fusions
        assert [p.config.model.fusion for p in picks if p.simplest] == ["concat"]


def test_a_hold_out_is_confirmed_on_folds(tmp_path: Path) -> None:
    search = searched(tmp_path, n_folds=1)
    assert checked_space_of(space_text(search, pick(search, 1), seeds=5)).folds == 5


def test_what_cannot_be_confirmed_is_refused(search: Search, tmp_path: Path) -> None:
    with pytest.raises(
        StudyStateError, match="--confirm tiny: is a compare study; only a search can be "
    ):
        searched(tmp_path, kind="compare")
    for path in (tmp_path / "trials").glob(f"*/{SCORES}"):
        path.unlink()
    with pytest.raises(StudyStateError, match=r"trial \d+, opt1 .* has no scores.json; a study"):
        read_search(search.study)
    with pytest.raises(StudyStateError, match="none of its 0 settled trials is complete"):
        read_search(study_of(tmp_path, study_plan(), []))


def test_records_that_allow_too_few_partitions_are_told(
    small_source: Source, small_beats: BeatSet, small_folds: Folds, tmp_path: Path
) -> None:
    (tmp_path / "beats.npz").write_bytes(stored_beats(small_beats))
    beats, used = read_beats(tmp_path / "beats.npz"), small_folds.fingerprint
    with pytest.raises(UsageError, match="these 6 records allow 1 partition into 2 folds besides"):
        confirmation.fresh_partitions(beats, small_source, used, n_folds=2, n=3)
