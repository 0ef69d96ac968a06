from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from study.keys import FLOORS
from study.sealed.plan import parse_plan
from study.sealed.scoring import compare_arms, compare_ensembles, exclusions, score_arm
from study.sealed.tables import Findings, result_text
from study.sealed.thresholds import Thresholds
from study.statistics.predictions import Beats

FLOOR = "logistic_ratios"

TWO = """
name = "two"
metrics = ["auprc_V"]
contrasts = [["film", "ecg"], ["logistic_ratios", "film"]]
floor = "logistic_ratios"
resamples = 100
permutations = 200
[[arms]]
name = "film"
fusion = "film"
[[arms]]
name = "ecg"
input = "ecg"
fusion = "none"
"""


@pytest.fixture
def beats() -> Beats:
    """Eight records with equal V, of which one has all F."""
    counts = [(20, 2 + r % 2, 5, 12 if r == 2 else 0) for r in range(8)]
    return Beats(
        label=np.concatenate([np.repeat(np.arange(4), n) for n in counts]),
        record=np.repeat(np.arange(8), [sum(n) for n in counts]),
        record_names=tuple("abcdefgh"),
        patient_of_record=tuple("abcdefgh"),
        folds_of_record=(8 * (0,),),
    )


def findings_of(beats: Beats, text: str = TWO) -> Findings:
    plan = parse_plan(text, Path("two.toml"))
    rng = np.random.default_rng(8)
    log_probs = {}
    # The worse, the more noise.
    floors = [(name, 1, 0.5 + number) for number, name in enumerate(FLOORS)]
    for name, seeds, noise in (("film", 10, 1.0), ("ecg", 10, 2.0), *floors):
        shape = (seeds, len(beats.label), 4)
        logits = noise * rng.normal(size=shape) + 2 * np.eye(4)[beats.label]
        log_probs[name] = log_softmax(logits, axis=2).astype(np.float32)
    fixed = Thresholds(single=np.full(4, 0.3), ensemble=np.full(4, 0.3), source="a test")
    left_out = exclusions(beats, [])
    return Findings(
        plan=plan,
        how="How it was done.",
        arms=[score_arm(name, p, beats, fixed, left_out) for name, p in log_probs.items()],
        left_out=left_out,
        comparisons=compare_arms(plan, log_probs, beats, lambda text: None),
        ensembles=compare_ensembles(plan, log_probs, beats, lambda text: None),
    )


def row(text: str, title: str, first: str) -> list[str]:
    """Return the cells of a table's row, the tables told by the words above them."""
    table = text.split(title)[1].split("\n\n")[1]
    (line,) = [line for line in table.splitlines() if line.startswith(f"{first}  ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_contrasts_have_the_sign_and_the_order_of_the_plan_and_its_tests(beats: Beats) -> None:
    findings = findings_of(beats)
    text = result_text(findings)
    held = {arm.arm for found in findings.comparisons.values() for arm in found.non_inferiority}
    assert held == {"film"}, "a floor has no bare ECG"
    assert text.count("Contrasts in ") == 1, "only of what is declared"
    mean = {arm.name: float(arm.seeds.values["test_auprc_V"].mean()) for arm in findings.arms}
    for first, second in (("film", "ecg"), (FLOOR, "film"), ("ecg", FLOOR)):
        cells = row(text, "Contrasts in AUPRC", f"{first} - {second}")
        assert float(cells[1].split()[0]) == pytest.approx(mean[first] - mean[second], abs=6e-4)
        low, high = (float(end) for end in cells[1].split("[")[1].rstrip("]").split(","))
        assert low <= mean[first] - mean[second] <= high
    assert f"film - {FLOOR}" not in text, "declared the other way round"
    assert f"ecg - {FLOORS[-1]}" not in text, "what arms are held against is declared too"
    assert row(text, "AUPRC on DS2", FLOORS[-1])[2] == "-", "one model has no spread"
    assert len(row(text, "Contrasts in AUPRC", "film - ecg")) == 6
    assert len(row(text, "Contrasts in AUPRC", f"ecg - {FLOOR}")) == 4, "no p, not adjusted"


def test_a_plan_without_contrasts_tests_nothing(beats: Beats) -> None:
    lines = [line for line in TWO.splitlines() if not line.startswith("contrasts")]
    text = result_text(findings_of(beats, "\n".join(lines)))
    assert "The plan declares none: there are intervals, and no test." in " ".join(text.split())
    assert len(row(text, "Contrasts in AUPRC", f"film - {FLOOR}")) == 4
