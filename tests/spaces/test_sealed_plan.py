"""The `[test]` table: what it says, and each fault with its key."""

from __future__ import annotations

import pytest

from study.data.catalogue import CATALOGUE
from study.errors import unknown
from study.keys import FLOORS
from study.spaces.sealed_plan import METRICS, Origin, SealedTest
from tests.builders import SEALED_PLAN, checked_space_of, faults_of_space

FULL = SEALED_PLAN.replace("= 10", "= 12").replace(
    'name = "mine"',
    """name = "film_or_not"
metrics = ["auprc_macro"]
contrasts = [["film", "film_placebo"], ["film", "logistic_regression"]]
floor = "logistic_ratios"
development = "svdb+mitdb"
study_seed = 3
resamples = 500
permutations = 200
precision = "fp32"
[test.study]
name = "fusion_compare"
fingerprint = "0123456789ab"
data = { "daeac/linear" = "ab0123456789" }""",
)


def test_every_record_trains_and_nothing_is_scored() -> None:
    space = checked_space_of(SEALED_PLAN)
    assert (space.folds, space.seeds, space.trials) == ("all", 10, 2)
    # The loss of training is a fact of each trial; it ranks nothing.
    assert space.objective == "train_loss"
    assert space.test == SealedTest(
        name="mine",
        metrics=("auprc_sv", "auroc_sv"),
        contrasts=(),
        floor=FLOOR,
        development="mitdb",
        study_seed=0,
        resamples=2000,
        permutations=10_000,
        precision="auto",
    )


def test_everything_a_table_can_say() -> None:
    data = {"daeac/linear": "ab0123456789"}
    space = checked_space_of(FULL)
    assert space.test == SealedTest(
        name="film_or_not",
        metrics=("auprc_macro",),
        contrasts=(("film", "film_placebo"), ("film", "logistic_regression")),
        floor="logistic_ratios",
        development="mitdb+svdb",
        study_seed=3,
        resamples=500,
        permutations=200,
        precision="fp32",
        origin=Origin(name="fusion_compare", fingerprint="0123456789ab", data=data),
    )
    other = checked_space_of(FULL.replace("500", "600"))
    assert other.digest == space.digest, "what is asked does not shape what is trained"


FLOOR = "logistic_regression"
FAULTS = [
    ('"all"', "5", "compare.folds: must be 'all' beside [test], got 5"),
    ("seeds = 12", "seeds = 9", "compare.seeds: must be 10 or more beside [test], got 9"),
    ('"auprc_macro"', '"auprc_vs"', f"test.metrics: {unknown('metric', 'auprc_vs', METRICS)}"),
    ('"film_placebo"]', '"film"]', "test.contrasts[1]: 'film' is compared with itself"),
    ('"film_placebo"]', f'"{FLOOR}"]', f"test.contrasts[2]: film and {FLOOR} are compared al"),
    ("500", "2.5", "test.resamples: must be a whole number in [100, 100000], got 2.5"),
    ('fingerprint = "0123456789ab"', "", "test.study.fingerprint: must be a text, got None"),
    ('name = "film"', f'name = "{FLOOR}"', f"arms.{FLOOR}: is the name of a floor, which"),
    ('"svdb+mitdb"', '"svbd"', f"test.development: {unknown('database', 'svbd', CATALOGUE)}"),
    ('"logistic_ratios"', '"ratios"', f"test.floor: {unknown('floor', 'ratios', FLOORS)}"),
    ("[[arms]]", "[params]\n[[arms]]", "[params] means nothing beside [test]: an arm says every"),
]


@pytest.mark.parametrize(("old", "new", "fault"), FAULTS)
def test_each_fault_is_named_by_its_key(old: str, new: str, fault: str) -> None:
    assert old in FULL
    assert any(line.startswith(fault) for line in faults_of_space(FULL.replace(old, new, 1)))


def test_all_records_are_for_the_plan_of_a_test_alone() -> None:
    text = SEALED_PLAN.replace('[test]\nname = "mine"\n', "").replace(
        "draws", 'reference = "film"\ndraws'
    )
    (fault,) = faults_of_space(text)
    assert fault.startswith("compare.folds: must be a whole number in [2, 1000] or 'published'")
