"""What is taken from a search to be confirmed, and how it is written down."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from study.confirm import _epochs
from study.data.beat_set import BeatSet
from study.data.folds import Folds, make_folds
from study.data.source import Source
from study.errors import StudyStateError, UsageError
from study.keys import AUPRC_SV, Outcome
from study.models import rules
from study.spaces.load import load_space
from study.store.beats_file import read_beats
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.study import Study
from study.store.trial_files import SCORES
from study.store.trials import EXHAUSTED, Proposal
from study.tuning.candidates import (
    Search,
    admit_space,
    fresh_partitions,
    pick,
    read_search,
    scores_of_arms,
    space_text,
)
from study.tuning.proposals import Proposals
from tests.builders import stored_beats

SPACE = """
description = "three fusions"
[search]
sampler = "grid"
scheduler = "none"
folds = 2
[fixed]
input = "opt1"
epochs = 2
normal_beats_per_epoch = 40
[params.fusion]
values = ["mhca_time", "concat", "film"]
[params.embed_dim]
values = [8, 16]
default = 8
[params.rr]
values = ["real", "placebo"]
"""

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


@pytest.fixture
def folder(tmp_path: Path, plan: StudyPlan) -> Path:
    """The folder of a search that was stopped."""
    path = tmp_path / "studies" / "tiny"
    replace(plan, epochs=2, trials=12).save(path)
    (tmp_path / "tiny.toml").write_text(SPACE)
    space = load_space(tmp_path / "tiny.toml")
    ledger = Ledger(storage_url=url(path), name="tiny", epochs=2)
    proposals = Proposals(space, seed=0)
    for index in range(space.n_trials):
        proposal = proposals.enumerated(index)
        assert proposal is not None
        params = proposal.params
        key = (params["fusion"], params["embed_dim"], params["rr"])
        if key in SCORES_OF:
            end(ledger, path, proposal, SCORES_OF[key])
    return path


def end(ledger: Ledger, folder: Path, proposal: Proposal, value: float) -> None:
    number = ledger.open(ledger.enqueue(proposal), proposal)
    outcome = Outcome.COMPLETE if math.isfinite(value) else Outcome.FAILED
    ledger.close(
        number,
        outcome,
        cause="",
        metrics={AUPRC_SV: value},
        epochs=2,
        seconds=1.0,
        objective=value,
    )
    folds = [value - 0.2, value + 0.2]
    if value == 0.55:
        # The best arm is good where the others are not: its lead has a large standard error.
        folds = [folds[0] + 0.04, folds[1] - 0.04]
    per_fold = [{"auprc_S": fold, "auprc_V": fold} for fold in folds]
    storage = Storage.at(folder / "trials").folder(proposal.digest)
    storage.write(SCORES, json.dumps({"per_fold": per_fold}).encode())


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def read(folder: Path) -> Search:
    return read_search(Study.open(folder.parents[1], folder.name))


def test_the_best_trial_of_each_arm_is_read_and_placebos_are_not(folder: Path) -> None:
    search = read(folder)
    found = [(config.model.fusion, config.model.embed_dim) for _, config in search.best]
    assert found == [("mhca_time", 16), ("film", 8), ("concat", 8)]
    assert [c.score for c in search.candidates] == [0.55, 0.54, 0.52]
    assert {config.signal.rr for _, config in search.best} == {"real"}
    assert len(search.study.rows) == len(SCORES_OF)
    assert search.study.unfinished
    Ledger(storage_url=url(folder), name="tiny").note(EXHAUSTED, True)
    assert not read(folder).study.unfinished, "nothing more can come"


@pytest.mark.parametrize(
    ("top", "fusions"),
    [
        (1, ["mhca_time", "concat"]),
        (2, ["mhca_time", "film", "concat"]),
        (9, ["mhca_time", "film", "concat"]),
    ],
)
def test_the_best_arms_and_the_simplest_within_one_standard_error_are_picked(
    folder: Path, top: int, fusions: list[str]
) -> None:
    """By fold concat loses .07 and -.01: .03, with a standard error of .04."""
    picks = pick(read(folder), top)
    assert [p.config.model.fusion for p in picks] == fusions
    assert [p.config.model.fusion for p in picks if p.simplest] == ["concat"]


def test_the_space_of_a_confirmation_builds_the_configurations_of_the_search(
    folder: Path, tmp_path: Path
) -> None:
    search = read(folder)
    picks = pick(search, 3)
    path = tmp_path / "again.toml"
    path.write_text(space_text(search, picks, seeds=7))
    space = load_space(path)
    built = {point.arm: rules.digest(point.config) for point in space.comparisons()}
    assert built == {p.name: p.row.digest for p in picks}
    assert (space.kind, space.seeds, space.folds, space.draws) == ("compare", 7, 2, 1)
    concat = "opt1_daeac_concat_seed7_real"
    assert space.reference == concat
    assert {pair[1] for pair in space.contrasts} == {concat}
    assert len(space.contrasts) == 2
    assert space.fixed["epochs"] == 2


def test_a_screening_s_configurations_are_trained_in_full(folder: Path, tmp_path: Path) -> None:
    search = read(folder)
    path = tmp_path / "again.toml"
    path.write_text(space_text(search, pick(search, 3), seeds=5, epochs=6))
    points = load_space(path).comparisons()
    assert {point.config.train.epochs for point in points} == {6}
    searched = [p.config for p in pick(search, 3)]
    kept = [replace(c, train=replace(c.train, epochs=6)) for c in searched]
    assert {p.arm: rules.digest(p.config) for p in points} == {
        p.name: rules.digest(c) for p, c in zip(pick(search, 3), kept, strict=True)
    }


def test_epochs_are_told_where_the_search_had_others(folder: Path) -> None:
    picks = pick(read(folder), 3)
    told = [_epochs(picks, asked) for asked in (None, 2, 6)]
    assert told == ["", "", "2, here 6"]


def test_a_hold_out_is_confirmed_on_folds(folder: Path, tmp_path: Path) -> None:
    replace(StudyPlan.load(folder), n_folds=1).save(folder)
    search = read(folder)
    path = tmp_path / "again.toml"
    path.write_text(space_text(search, pick(search, 1), seeds=5))
    assert load_space(path).folds == 5


def test_what_cannot_be_confirmed_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "trials").glob(f"*/{SCORES}"):
        path.unlink()
    with pytest.raises(StudyStateError, match=r"trial \d+, opt1 .* has no scores.json; a study"):
        read(folder)
    replace(StudyPlan.load(folder), kind="compare").save(folder)
    with pytest.raises(StudyStateError) as caught:
        read(folder)
    assert str(caught.value) == (
        "--confirm tiny: is a compare study; only a search can be confirmed"
    )


def test_a_search_without_a_complete_trial_has_nothing_to_confirm(
    tmp_path: Path, plan: StudyPlan
) -> None:
    plan.save(tmp_path / "studies" / "tiny")
    with pytest.raises(StudyStateError) as caught:
        read(tmp_path / "studies" / "tiny")
    assert str(caught.value) == "--confirm tiny: none of its 0 settled trials is complete"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 6}, "seeds (5, here 6)"),
        ({"seeds": 5, "epochs": 3}, "epochs (2, here 3)"),
        ({"seeds": 6, "epochs": 3}, "epochs (2, here 3) and seeds (5, here 6)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_confirmation_has_begun_with_is_kept_and_named(
    folder: Path, tmp_path: Path, options: dict[str, int], said: str
) -> None:
    search = read(folder)
    path = tmp_path / "tiny-confirm.toml"
    admit_space(path, "nothing is there yet")
    path.write_text(begun := space_text(search, pick(search, 2), seeds=5))
    admit_space(path, begun)
    with pytest.raises(StudyStateError) as caught:
        admit_space(path, space_text(search, pick(search, 2), **options))
    assert str(caught.value) == (
        f"{path}: the confirmation began with other {said} than this command gives; give the "
        "options that it was started with, or another --name"
    )
    assert path.read_text() == begun


def test_other_configurations_than_begun_with_are_refused(folder: Path, tmp_path: Path) -> None:
    search = read(folder)
    path = tmp_path / "tiny-confirm.toml"
    path.write_text(space_text(search, pick(search, 3), seeds=5))
    with pytest.raises(StudyStateError, match="began with other configurations than this "):
        admit_space(path, space_text(search, pick(search, 1), seeds=5))
    path.write_text("not = [TOML")
    with pytest.raises(StudyStateError, match="began with other content than this command "):
        admit_space(path, space_text(search, pick(search, 1), seeds=5))


def test_partitions_are_new_ones_and_differ(
    records_source: Source, beat_set: BeatSet, tmp_path: Path
) -> None:
    patients, path = records_source.patients, tmp_path / "beats.npz"
    names, counts = beat_set.record_names, beat_set.counts
    path.write_bytes(stored_beats(beat_set))

    def folds_of(seed: int) -> str:
        return make_folds(names, counts, 5, seed, patients).fingerprint

    seeds = fresh_partitions(read_beats(path), patients, folds_of(2), n_folds=5, n=3)
    assert seeds == [1, 3, 4], "the search had those of seed 2"
    assert len({folds_of(seed) for seed in seeds}) == 3


def test_records_that_allow_too_few_partitions_are_told(
    small_source: Source, small_beats: BeatSet, small_folds: Folds, tmp_path: Path
) -> None:
    path = tmp_path / "beats.npz"
    path.write_bytes(stored_beats(small_beats))
    with pytest.raises(UsageError) as caught:
        fresh_partitions(
            read_beats(path), small_source.patients, small_folds.fingerprint, n_folds=2, n=3
        )
    assert str(caught.value) == (
        "--partitions 3: these 6 records allow 1 partition into 2 folds besides the search's"
    )


def test_scores_of_a_comparison_are_read_by_arm(folder: Path) -> None:
    scores = scores_of_arms(Study.open(folder.parents[1], folder.name))
    assert scores["opt1 / daeac / film / seed7 / placebo"] == 0.60
