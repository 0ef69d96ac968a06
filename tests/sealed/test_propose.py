from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from study.config import TrialConfig, digest_of
from study.errors import PlanError, StudyStateError, UsageError
from study.keys import FLOORS
from study.models import rules
from study.sealed.plan import SealedPlan, parse_plan
from study.sealed.propose import propose
from study.spaces.load import load_space, rehearsal
from study.spaces.sealed_plan import Origin
from study.store.floors import KEY
from study.store.folder import study_folder
from study.store.history import METRICS
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.trial_files import SCORES as SCORES_FILE
from study.store.trials import EXHAUSTED
from tests.builders import RATES, optuna_trial, small_config, space_toml, study_plan, trial_row

ARMS: dict[str, dict[str, Any]] = {
    "film": {"fusion": "film", "template": "record", "late_shape": "distances", "placebo": True},
    "concat": {"fusion": "concat"},
    "bare": {"input": "ecg", "fusion": "none"},
    "wide": {"fusion": "film", "embed_dim": 128},
    "bare_daeac": {"input": "ecg", "fusion": "none", "segmentation": "daeac"},
}
CONTRASTS = [["film", "film_placebo"], ["concat", "bare"], ["wide", "bare"]]
COMPARE = space_toml(
    RATES,
    fixed={"segmentation": "beat", "epochs": 2},
    arms=[{"name": name, **arm} for name, arm in ARMS.items()],
    settings={"draws": 2, "reference": "concat", "contrasts": CONTRASTS},
)
SEARCH = {"trials": 12, "sampler": "tpe", "scheduler": "none"}

PLAN = study_plan(
    name="s",
    kind="compare",
    sampler="draws",
    scheduler="none",
    trials=12,
    epochs=2,
    folds="5-fold, partition seed 0",
    n_folds=5,
    study_seed=7,
    engine="bf16, compiled",
    data_source="mitdb",
    data_fingerprints={
        "beat/antialiased": "2" * 12,
        "beat/antialiased/record": "4" * 12,
        "daeac/linear": "3" * 12,
    },
)


def settle(
    workspace: Path, plan: StudyPlan, trials: list[tuple[str, int, TrialConfig, float]]
) -> None:
    """Leave a study with complete trials: arm, draw, configuration, objective."""
    folder = study_folder(workspace, plan.name)
    plan.save(folder)
    searched = space_toml(RATES, fixed={"epochs": 2}, settings=SEARCH)
    (folder / "space.toml").write_text(COMPARE if plan.kind == "compare" else searched)
    url = f"sqlite:///{folder / 'study.db'}"
    study = optuna.create_study(study_name=plan.name, storage=url, direction="maximize")
    for number, (arm, draw, config, score) in enumerate(trials):
        scores, digest = {plan.objective: score}, rules.digest(config)
        row = trial_row(number, arm, digest=digest, draw=draw, epochs=2, metrics=scores)
        study.add_trial(optuna_trial(row, config))


def compared(workspace: Path, scores: Mapping[tuple[str, int], float]) -> None:
    """Leave the comparison with these scores by arm and draw."""
    folder = study_folder(workspace, "s")
    folder.mkdir(parents=True)
    (folder / "space.toml").write_text(COMPARE)
    for name, score in FLOOR_SCORES.items():
        (folder / "floors" / name).mkdir(parents=True)
        stored = {KEY: "k", METRICS: {PLAN.objective: score}}
        (folder / "floors" / name / SCORES_FILE).write_text(json.dumps(stored))
    points = {(p.arm, p.draw): p for p in load_space(folder / "space.toml").comparisons()}
    trials = [(*key, points[key].config, scores[key]) for key in points if key in scores]
    settle(workspace, PLAN, trials)


SCORES = {
    "film": (0.5, 0.52),
    "film_placebo": (0.4, 0.41),
    "concat": (0.45, 0.3),
    "bare": (0.42, 0.43),
    "wide": (0.48, 0.2),
    "bare_daeac": (0.6, 0.6),
}


FLOOR_SCORES = dict(zip(FLOORS, (0.1, 0.3, 0.2, 0.45, 0.4), strict=True))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the finished comparison; nothing may write to it."""
    workspace = tmp_path_factory.mktemp("comparison")
    scores = {(arm, draw): s for arm, both in SCORES.items() for draw, s in enumerate(both)}
    compared(workspace, scores)
    return workspace


def proposed(workspace: Path, *arms: str) -> SealedPlan:
    return propose(workspace, "s", arms=arms).plan


def test_a_comparison_is_tested_by_its_best_arm_and_its_controls(comparison: Path) -> None:
    plan = proposed(comparison)
    # Not bare_daeac, which scores best: it uses no RR, and has another window than film. Bare
    # has film's window, though film has other beats: with their distances from a template.
    assert [arm.name for arm in plan.arms] == ["film", "film_placebo", "concat", "bare"]
    declared = (("film", "film_placebo"), ("concat", "bare"))
    assert plan.test.contrasts == (*declared, ("film", "concat"), ("film", "bare"))
    assert plan.test.floor == "logistic_ratios_distances", "the highest on DS1"
    # S of DS2 is nearly one patient's: V is what a test can be of.
    assert (plan.seeds, plan.test.metrics) == (10, ("auprc_sv", "auprc_V", "auroc_sv"))
    assert (plan.test.study_seed, plan.test.precision) == (7, "bf16")
    stored = StudyPlan.load(study_folder(comparison, "s")).identity()
    of_its_windows = {"beat/antialiased": "2" * 12, "beat/antialiased/record": "4" * 12}
    assert plan.test.origin == Origin(name="s", fingerprint=digest_of(stored), data=of_its_windows)


def test_all_arms_of_a_plan_have_the_draw_that_suits_them_best(comparison: Path) -> None:
    space = load_space(study_folder(comparison, "s") / "space.toml")
    draws = {rules.digest(point.config): point.draw for point in space.comparisons()}

    def draw_of(plan: SealedPlan) -> set[int]:
        return {draws[rules.digest(arm.config)] for arm in plan.arms}

    assert draw_of(proposed(comparison)) == {0}, "means .4425 and .415"
    assert draw_of(proposed(comparison, "film", "bare")) == {1}, "means .46 and .475"


def test_arms_can_be_chosen(comparison: Path) -> None:
    every = proposed(comparison, "all")
    assert len(every.arms) == 6
    assert every.test.origin is not None and "daeac/linear" in every.test.origin.data
    some = proposed(comparison, "wide", "bare", "film")
    assert [arm.name for arm in some.arms] == ["wide", "bare", "film"]
    assert some.test.contrasts == (("wide", "bare"),), "what the space declares of them"
    none_declared = proposed(comparison, "wide", "film")
    assert none_declared.test.contrasts == (("wide", "film"),), "the first minus each other"
    with pytest.raises(UsageError, match="(?s)unknown arm 'flim'.*unknown arm 'concta'"):
        proposed(comparison, "flim", "concta")


def test_arms_can_train_on_several_sets_of_records(comparison: Path) -> None:
    train_on = ("svdb+mitdb", "mitdb")
    plan = propose(comparison, "s", arms=("film", "bare"), train_on=train_on).plan
    assert plan.test.development == "mitdb", "what the study had"
    assert {of: [arm.name for arm in arms] for of, arms in plan.developments.items()} == {
        "mitdb+svdb": ["film", "bare"],
        "mitdb": ["film_on_mitdb", "bare_on_mitdb"],
    }
    assert plan.test.contrasts == (("film", "bare"), ("film", "film_on_mitdb"))
    assert parse_plan(plan.text(), Path("plan.toml")) == plan


def test_a_written_plan_can_be_read(comparison: Path) -> None:
    proposal = propose(comparison, "s")
    text = proposal.plan.text(proposal.comments)
    assert parse_plan(text, Path("plan.toml")).hash == proposal.plan.hash
    assert proposal.lacks == ()
    lacks = propose(comparison, "s", arms=("film",)).lacks
    found = [lack.split(":")[0] for lack in lacks]
    assert found == ["no contrast", "no placebo of film", "no bare ECG"]
    assert "film .500, film_placebo .400" in text
    assert "Floors: prevalence .100, logistic_regression .300" in text


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a search of three arms that differ in input and fusion."""
    workspace, settled = tmp_path_factory.mktemp("search"), []
    for input_, fusion, rate, score in (
        ("opt1", "film", 1e-3, 0.3),
        ("opt1", "film", 2e-3, 0.5),
        ("opt3", "mhca", 1e-3, 0.4),
        ("ecg", "none", 1e-3, 0.2),
    ):
        config = small_config(input=input_, fusion=fusion, learning_rate=rate)
        settled.append((rules.arm(config), 0, config, score))
    settle(workspace, replace(PLAN, kind="search", sampler="tpe"), settled)
    return workspace


def test_a_search_is_tested_by_its_best_configuration_and_its_placebo(search: Path) -> None:
    plan = proposed(search)
    assert [arm.name for arm in plan.arms] == ["opt1-film", "opt1-film_placebo"]
    best, placebo = (arm.config for arm in plan.arms)
    assert (best.train.learning_rate, best.signal.rr) == (2e-3, "real")
    assert placebo.signal.rr == "placebo"
    assert replace(placebo, signal=best.signal) == best
    assert plan.test.contrasts == (("opt1-film", "opt1-film_placebo"),)


def test_arms_of_a_search_are_named_by_what_tells_them_apart(search: Path) -> None:
    plan = proposed(search, "all")
    assert [arm.name for arm in plan.arms] == ["opt1-film", "opt3-mhca", "ecg-none"]
    assert plan.test.contrasts == (("opt1-film", "opt3-mhca"), ("opt1-film", "ecg-none"))
    without_rr = proposed(search, "ecg-none")
    assert [arm.name for arm in without_rr.arms] == ["ecg-none"], "it has no placebo"
    assert without_rr.test.contrasts == ()
    assert without_rr.test.floor == "logistic_regression", "it has scored no floor"
    assert "no score of prevalence, logistic_reg" in propose(search, "s").lacks[-1]


def test_a_study_that_cannot_be_proposed_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no study 's' in .*; no study was begun there"):
        propose(tmp_path, "s")
    compared(tmp_path / "apart", {("film", 0): 0.5, ("concat", 1): 0.5})
    with pytest.raises(PlanError, match="film, concat: have no draw of which all are complete"):
        proposed(tmp_path / "apart", "film", "concat")
    with pytest.raises(PlanError, match="complete; name the arms to be tested by --arms"):
        proposed(tmp_path / "apart")
    rr = small_config(fusion="rr_only", segmentation="beat")
    seen = {"beat/antialiased": "2" * 12}
    of_beats = replace(PLAN, kind="search", sampler="tpe", data_fingerprints=seen)
    settle(tmp_path / "rr", of_beats, [(rules.arm(rr), 0, rr, 0.5)])
    with pytest.raises(PlanError, match="none of opt1-rr_only has beats that it saw"):
        proposed(tmp_path / "rr", "opt1-rr_only")
    settle(tmp_path, PLAN, [])
    with pytest.raises(PlanError, match="no complete trial with a finite val_auprc_sv"):
        proposed(tmp_path)
    settle(tmp_path / "quick", PLAN, [(rules.arm(rr), 0, rr, 0.5)])
    space = study_folder(tmp_path / "quick", "s") / "space.toml"
    space.write_text(rehearsal(load_space(space)).text)
    with pytest.raises(StudyStateError, match="'s': is a rehearsal .* run its space without"):
        proposed(tmp_path / "quick")


def test_an_unfinished_study_ranks_arms_on_draws_of_all(tmp_path: Path, comparison: Path) -> None:
    # Draw 1 suits every arm, and only some have got to it.
    scores = {(arm, 0): both[0] for arm, both in SCORES.items()}
    compared(tmp_path, scores | {("concat", 1): 0.9, ("wide", 1): 0.9})
    proposal = propose(tmp_path, "s")
    assert [arm.name for arm in proposal.plan.arms] == ["film", "film_placebo", "concat", "bare"]
    assert "The study is UNFINISHED: 8 of its 12 trials are settled. Draw 0" in proposal.comments
    assert "UNFINISHED" not in propose(comparison, "s").comments
    ledger = Ledger(storage_url=f"sqlite:///{study_folder(tmp_path, 's') / 'study.db'}", name="s")
    ledger.note(EXHAUSTED, True)
    ledger.release()
    assert "UNFINISHED" not in propose(tmp_path, "s").comments, "nothing more can come"
