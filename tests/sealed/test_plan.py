from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from study.config import ModelConfig, SignalSpec, TrialConfig
from study.errors import PlanError, unknown
from study.keys import PRECISIONS
from study.sealed.plan import Arm, Origin, SealedPlan
from study.sealed.plan_file import load_plan, parse_plan

MINIMAL = """
name = "mine"
[[arms]]
name = "film"
fusion = "film"
"""

FULL = """
# What is asked.
name = "film_or_not"
metrics = ["auprc_macro"]
contrasts = [["film", "film_placebo"], ["film", "logistic_regression"]]
seeds = 12
study_seed = 3
resamples = 500
permutations = 200
precision = "fp32"
[study]
name = "fusion_compare"
fingerprint = "0123456789ab"
data = { "daeac/linear" = "ab0123456789" }
[[arms]]
name = "film"
fusion = "film"
learning_rate = 0.003
[[arms]]
name = "film_placebo"
fusion = "film"
rr = "placebo"
learning_rate = 3e-3
"""


def parsed(text: str) -> SealedPlan:
    return parse_plan(tomllib.loads(text), "plan.toml")


def refusal(text: str) -> list[str]:
    """Return the faults of a plan, a line each."""
    with pytest.raises(PlanError) as caught:
        parsed(text)
    lines = str(caught.value).splitlines()
    if len(lines) == 1:
        return [lines[0].removeprefix("plan.toml: ")]
    assert lines[0] == f"plan.toml: {len(lines) - 1} faults"
    return [line.removeprefix("  - ") for line in lines[1:]]


def test_a_plan_by_hand_needs_a_name_and_an_arm() -> None:
    plan = parsed(MINIMAL)
    assert plan.arms == (Arm(name="film", config=TrialConfig(model=ModelConfig(fusion="film"))),)
    assert (plan.metrics, plan.contrasts) == (("auprc_sv", "auroc_sv"), ())
    assert (plan.seeds, plan.study_seed, plan.resamples, plan.permutations) == (10, 0, 2000, 10000)
    assert (plan.precision, plan.origin) == ("auto", None)


def test_everything_a_plan_can_say() -> None:
    plan = parsed(FULL)
    assert plan.origin == Origin(
        name="fusion_compare",
        fingerprint="0123456789ab",
        data={"daeac/linear": "ab0123456789"},
    )
    assert plan.contrasts == (("film", "film_placebo"), ("film", "logistic_regression"))
    assert (plan.seeds, plan.study_seed, plan.resamples, plan.permutations) == (12, 3, 500, 200)
    assert plan.arms[1].config.signal == SignalSpec(rr="placebo")


def test_a_written_plan_is_the_plan_that_is_read() -> None:
    plan = parsed(FULL)
    text = plan.text(comments="Written by hand.\n\nIn two lines.")
    assert text.startswith("# Written by hand.\n#\n# In two lines.\nname = ")
    again = parsed(text)
    assert again.text() == plan.text()
    assert again.hash == plan.hash


def test_the_hash_is_over_what_is_said() -> None:
    plan = parsed(MINIMAL)
    same = [
        "# a comment\n" + MINIMAL,
        MINIMAL.replace('fusion = "film"', 'fusion = "film"\nlearning_rate = 2e-3'),
        # Film has no heads.
        MINIMAL.replace('fusion = "film"', 'heads = 4\nfusion = "film"'),
        MINIMAL.replace('"mine"', '"mine"\nseeds = 10\nstudy_seed = 0'),
    ]
    assert {parsed(text).hash for text in same} == {plan.hash}
    other = [
        MINIMAL.replace('"mine"', '"other"'),
        MINIMAL.replace('"mine"', '"mine"\nseeds = 11'),
        MINIMAL.replace('fusion = "film"', 'fusion = "film"\nlearning_rate = 1e-3'),
        MINIMAL.replace('name = "film"', 'name = "movie"'),
        MINIMAL.replace('"mine"', '"mine"\ncontrasts = [["film", "logistic_regression"]]'),
    ]
    hashes = {parsed(text).hash for text in other}
    assert len(hashes) == len(other) and plan.hash not in hashes
    assert len(plan.hash) == 64
    assert plan.title == f"mine ({plan.hash[:12]})"


def test_where_it_comes_from_is_part_of_the_hash() -> None:
    plan = parsed(FULL)
    assert plan.origin is not None
    moved = replace(plan, origin=replace(plan.origin, fingerprint="ba9876543210"))
    assert moved.hash != plan.hash


def test_all_faults_are_reported_together() -> None:
    text = """
        name = "a/b"
        sedes = 10
        seeds = 9
        metrics = ["auprc_vs", "auroc_sv", "auroc_sv"]
        contrasts = [["film", "flim"], ["film", "film"], "film"]
        resamples = 2.5
        precision = "bf32"
        [study]
        nam = "x"
        name = "x"
        [[arms]]
        name = "film"
        fusion = "flim"
        dropuot = 0.1
        [[arms]]
        name = "logistic_regression"
        input = "ecg"
        fusion = "film"
        [[arms]]
        fusion = "film"
    """
    of = ("F", "N", "S", "V", "macro", "sv")
    known = ", ".join(f"{measure}_{name}" for measure in ("auprc", "auroc") for name in of)
    found = refusal(text)
    for fault in (
        "unknown key 'sedes'; known: arms, contrasts, metrics, name, permutations, precision, "
        "resamples, seeds, study, study_seed. Did you mean 'seeds'?",
        "name: must be letters, digits, '-', '_' and '.', at most 100, beginning with a letter or "
        "digit, got 'a/b'",
        "seeds: must be a whole number in [10, 1000], got 9",
        f"metrics: unknown metric 'auprc_vs'; known: {known}. Did you mean 'auprc_sv'?",
        "metrics: 'auroc_sv' is listed more than once",
        "contrasts[2]: 'film' is compared with itself",
        'contrasts[3]: must be a pair of arms ["a", "b"], got \'film\'',
        "resamples: must be a whole number in [100, 100000], got 2.5",
        f"precision: {unknown('value', 'bf32', PRECISIONS)}",
        "study.nam: unknown key 'nam'; known: data, fingerprint, name. Did you mean 'name'?",
        "study.fingerprint: must be a text, got None",
        "arms[2]: 'logistic_regression' is the logistic floor, which every plan includes; choose "
        "another name",
    ):
        assert fault in found, fault
    assert any(line.startswith("arms.film: unknown parameter 'dropuot'") for line in found)
    assert any(
        line.startswith("arms.logistic_regression: configuration: fusion: 'film' takes")
        for line in found
    )
    assert any(line.startswith("arms[3]: name must be letters") for line in found)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = "a"', "arms: a plan needs one or more [[arms]]"),
        ('name = "a"\narms = [1]', "arms[1]: must be a table [[arms]], got 1"),
        (
            MINIMAL + '[[arms]]\nname = "other"\nfusion = "film"\nheads = 2',
            "arms.other: is the same configuration as film",
        ),
        (
            MINIMAL + '[[arms]]\nname = "film"\nfusion = "concat"',
            "arms: the name 'film' is used more than once",
        ),
        (
            'contrasts = [["film", "logistic_regresion"]]' + MINIMAL,
            "contrasts[1]: unknown arm 'logistic_regresion'; known: film, logistic_regression. "
            "Did you mean 'logistic_regression'?",
        ),
        (
            'contrasts = [["film", "logistic_regression"], ["logistic_regression", "film"]]'
            + MINIMAL,
            "contrasts[2]: logistic_regression and film are compared already",
        ),
        ("seeds = true" + MINIMAL, "seeds: must be a whole number in [10, 1000], got True"),
        ("study = 3" + MINIMAL, "study: must be a table [study], got 3"),
        (
            MINIMAL.replace('"film"\nfusion', '"film"\nepochs = 0\nfusion'),
            "arms.film: epochs: must be in [1, 1000], got 0",
        ),
    ],
)
def test_one_fault_is_one_line(text: str, fault: str) -> None:
    assert refusal(text) == [fault]


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    with pytest.raises(PlanError, match="there is no such plan; `--write-plan STUDY` writes one"):
        load_plan(path)
    path.write_text("name = ")
    with pytest.raises(PlanError, match="cannot be read as TOML"):
        load_plan(path)
    path.write_text(FULL)
    assert load_plan(path) == parsed(FULL)
