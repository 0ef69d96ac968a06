"""The plan of a sealed test: both forms of its file, and its hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.config import ModelConfig, SignalSpec, TrainConfig, TrialConfig
from study.errors import PlanError
from study.sealed.plan import Arm, SealedPlan, load_plan, parse_plan
from tests.builders import SEALED_PLAN, refused

DOCS = Path(__file__).parents[2] / "docs" / "results"

MINIMAL = """
name = "mine"
[[arms]]
name = "film"
fusion = "film"
"""
"""In the form of the version before."""

TABLES = SEALED_PLAN.replace(
    "[[arms]]", '[fixed]\nlogit_adjustment = "none"\n[[arms]]', 1
).replace("placebo = true\n", "")
"""The same in the form of today, where probabilities are adjusted unless a plan says otherwise."""

SAME_ARM = '[[arms]]\nname = "other"\nfusion = "film"\nheads = 2'


def parsed(text: str) -> SealedPlan:
    return parse_plan(text, Path("plan.toml"))


def test_a_plan_by_hand_needs_a_name_and_an_arm() -> None:
    plan = parsed(MINIMAL)
    config = TrialConfig(
        signal=SignalSpec(resampling="linear"),
        model=ModelConfig(fusion="film"),
        train=TrainConfig(logit_adjustment="none"),
    )
    assert plan.arms == (Arm(name="film", config=config),)
    assert (plan.test.metrics, plan.test.contrasts) == (("auprc_sv", "auroc_sv"), ())
    assert (plan.seeds, plan.test.study_seed, plan.test.resamples) == (10, 0, 2000)
    assert (plan.test.precision, plan.test.origin) == ("auto", None)
    assert plan == parsed(TABLES)
    space = plan.space("mitdb")
    assert (space.name, space.folds, space.seeds, space.trials) == ("mine", "all", 10, 1)
    assert parsed("# c\n" + TABLES).space("mitdb").digest == space.digest


def test_the_plan_that_opened_ds2_has_the_hash_that_was_logged() -> None:
    """What was logged by the version that opened it, in November 2026."""
    (line,) = (DOCS / "fusion_compare_test" / "test_openings.jsonl").read_text().splitlines()
    assert load_plan(DOCS / "fusion_compare_test.toml").hash == json.loads(line)["plan_hash"]


def test_the_hash_is_over_what_is_said() -> None:
    def with_test(*lines: str) -> str:
        return MINIMAL.replace('"mine"', '"mine"\n' + "\n".join(lines))

    plan = parsed(MINIMAL)
    same = [
        TABLES,
        "# a comment\n" + MINIMAL,
        # Film has no heads.
        MINIMAL.replace('fusion = "film"', 'heads = 4\nfusion = "film"'),
        with_test("seeds = 10", 'floor = "logistic_regression"'),
    ]
    assert {parsed(text).hash for text in same} == {plan.hash}
    study = ("[study]", 'name = "s"', 'data = { "daeac/linear" = "ab0123456789" }')
    other = [
        with_test(*study, 'fingerprint = "0123456789ab"'),
        with_test(*study, 'fingerprint = "ba9876543210"'),
        MINIMAL.replace('"mine"', '"other"'),
        MINIMAL.replace('fusion = "film"', 'fusion = "film"\nlearning_rate = 1e-3'),
        MINIMAL.replace('name = "film"', 'name = "movie"'),
        MINIMAL + 'development = "svdb"',
    ]
    numbers = ("seeds = 11", "study_seed = 3", "resamples = 500", "permutations = 200")
    words = ('precision = "fp32"', 'floor = "logistic_ratios"', 'development = "svdb"')
    lists = ('metrics = ["auprc_macro"]', 'contrasts = [["film", "logistic_regression"]]')
    other += [with_test(line) for line in (*numbers, *words, *lists)]
    hashes = {parsed(text).hash for text in other}
    assert len(hashes) == len(other) and plan.hash not in hashes
    assert (len(plan.hash), plan.title) == (64, f"mine ({plan.hash[:12]})")


def test_arms_are_told_apart_by_what_they_train_on() -> None:
    plan = parsed(f'{MINIMAL}{SAME_ARM}\ndevelopment = "svdb+mitdb"')
    own, other = plan.arms
    assert own.config == other.config
    assert plan.developments == {"mitdb": (own,), "mitdb+svdb": (other,)}
    assert [plan.floor_of(arm) for arm in plan.arms] == [
        *("logistic_regression", "logistic_regression_on_mitdb_svdb")
    ]
    alone = plan.space("mitdb+svdb")
    assert [arm.name for arm in alone.arms] == ["other"]
    assert alone.digest == parsed(MINIMAL.replace('"film"', '"other"', 1)).space("mitdb").digest


def test_an_arm_has_the_beats_that_its_space_reads() -> None:
    plan = parsed(
        MINIMAL.replace('"film"\n', '"rr"\n', 1).replace(
            'fusion = "film"', 'fusion = "rr_only"\nsegmentation = "beat"'
        )
    )
    assert plan.space("mitdb").cuts() == [arm.cut for arm in plan.arms]
    assert plan.space("mitdb").configurations() == [arm.config for arm in plan.arms]


def test_a_fault_is_named_by_its_key() -> None:
    for text, fault in (
        ('name = "a"', "arms: a compare space needs at least one [[arms]]"),
        (MINIMAL + SAME_ARM, "arms.other: is the same configuration as arm film"),
        ("sedes = 10" + MINIMAL, "test.sedes: unknown setting 'sedes'"),
        ("[compare]\ndraws = 1\nfolds = 5", "description: must be a line of text"),
    ):
        said = refused(PlanError, parsed, text)
        assert said.startswith("plan.toml: ") and fault in said


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    with pytest.raises(PlanError, match="there is no such plan; `--write-plan STUDY` writes one"):
        load_plan(path)
    path.write_text("name = ")
    with pytest.raises(PlanError, match="is not TOML"):
        load_plan(path)
    text = TABLES.replace('[test]\nname = "mine"\n', "").replace('"all"', "5")
    path.write_text(text.replace("draws = 1", 'draws = 1\nreference = "film"'))
    with pytest.raises(PlanError, match=r"is a space without \[test\], not the plan of a sealed"):
        load_plan(path)
