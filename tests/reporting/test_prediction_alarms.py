"""What stored predictions raise an alarm for, and all alarms of a study that was trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.keys import AUPRC_SV, CLASSES
from study.models import rules
from study.reporting.prediction_alarms import (
    PredictionFacts,
    constant_alarms,
    describe_predictions,
    no_effect_alarms,
    study_alarms,
)
from study.statistics.predictions import ArmRuns, Beats
from study.store.floors import StudyFloor
from study.store.folder import BEATS
from study.store.study import Study
from study.store.trial_files import PREDICTIONS
from study.store.trials import TrialRow
from study.tuning.trial import METRICS, TrialJob, TrialRun
from tests.builders import (
    MakeArm,
    bare_beats,
    compared,
    load_text,
    npz,
    stored_beats,
    study_of,
    study_plan,
    trial_row,
)

FOLD = np.array([0, 0, 0, 1, 1, 1, -1])


def decided(n_seeds: int, n_beats: int, seed: int = 0) -> NDArray[np.float32]:
    """Scores of which every member decides for N and S by turns."""
    values = np.random.default_rng(seed).normal(size=(n_seeds, n_beats, len(CLASSES)))
    values[:, ::2, 0] = values[:, 1::2, 1] = 9
    return values.astype(np.float32)


def log_probs() -> NDArray[np.float32]:
    """Predictions of 7 beats, the last in no fold."""
    values = decided(2, len(FOLD))
    values[:, FOLD < 0] = np.nan
    return values


def row(number: int, digest: str = "", **params: object) -> TrialRow:
    return trial_row(number, "mhca", digest=digest or f"d{number}", params=params)


def facts(
    digest: str = "same", level: float | None = None, flat: int = 0, **one_class: int
) -> PredictionFacts:
    """Facts of predictions whose sample is as far from others' as their digests' letters."""
    sample = np.full((1, 3, 4), ord(digest[0]) if level is None else level, dtype=np.float32)
    return PredictionFacts(
        digest=digest, sample=sample, members=10, flat=flat, one_class=one_class
    )


def test_members_that_are_constant_are_counted() -> None:
    values = log_probs()
    found = describe_predictions(values, FOLD[None])
    assert (found.members, found.flat, found.one_class) == (4, 0, {})
    values[0, FOLD == 1] = np.log([0.7, 0.1, 0.1, 0.1])
    values[1, FOLD == 0, 2] = 10  # the largest there is
    found = describe_predictions(values, FOLD[None])
    assert (found.members, found.flat, found.one_class) == (4, 1, {"N": 1, "V": 1})


def test_a_parameter_that_changes_nothing_is_named_once_with_its_values() -> None:
    widths = ((1, 32), (4, 32), (1, 64), (8, 64), (8, 128))
    rows = [row(n, heads=heads, embed_dim=dim) for n, (heads, dim) in enumerate(widths)]
    predictions = {f"d{n}": facts(digest) for n, digest in enumerate("aabbc")}
    (alarm,) = no_effect_alarms(rows, predictions)
    assert str(alarm) == (
        "warning: heads changes nothing in mhca: equal to the last bit are trials 0 and 1 "
        "(heads = 1; 4) and trials 2 and 3 (heads = 1; 8); count these trials as "
        "one try, and drop parameters without effect"
    )
    # What differs by rounding alone is told apart from what is equal.
    rows = [row(0, heads=1), row(1, heads=4), row(2, heads=8)]
    predictions = {"d0": facts("a", 0.0), "d1": facts("b", 9e-5), "d2": facts("c", 2e-4)}
    (alarm,) = no_effect_alarms(rows, predictions)
    assert alarm.what == "heads changes nothing in mhca"
    assert alarm.evidence == "equal but for rounding are trials 0 and 1 (heads = 1; 4)"


def test_only_the_smallest_differences_are_named() -> None:
    rows = [row(0, heads=1, gate=-2.0), row(1, heads=2, gate=-2.0), row(2, heads=1, gate=0.0)]
    whats = [alarm.what for alarm in no_effect_alarms(rows, {f"d{n}": facts() for n in range(3)})]
    assert whats == ["gate changes nothing in mhca", "heads changes nothing in mhca"]
    rows = [row(0, heads=1, gate="off"), row(1, heads=2, gate="learned", gate_init=-2.0)]
    (alarm,) = no_effect_alarms(rows, {"d0": facts(), "d1": facts()})
    assert alarm.what == "gate, gate_init and heads together change nothing in mhca"
    assert "(gate, gate_init, heads = off, none, 1; learned, -2, 2)" in str(alarm)
    assert no_effect_alarms(rows, {"d0": facts("a"), "d1": facts("b")}) == []
    assert no_effect_alarms(rows, {}) == [], "pruned and failed trials leave no predictions"


def test_constant_predictors_are_named() -> None:
    rows = [row(0), row(1), row(2)]
    (flat,) = constant_alarms(rows, {"d0": facts(flat=3, N=3), "d1": facts()})
    assert str(flat) == (
        "error: 1 of 2 trials predict a constant: the same log-probabilities for every beat: "
        "trial 0 (mhca), 3 of 10 members; they have learned nothing: lower the learning rate, "
        "look at their losses"
    )
    (of_one_class,) = constant_alarms(rows, {f"d{k}": facts(N=2, V=1) for k in range(2)})
    assert str(of_one_class) == (
        "warning: members that give every beat the same class, in 2 of 2 trials: trial 0 (mhca) "
        "and trial 1 (mhca), N by 2 of 10 and V by 1 of 10 members; their F1, Se and +P say "
        "nothing; their ranking metrics still may"
    )
    assert constant_alarms(rows, {"d0": facts()}) == constant_alarms(rows, {}) == []


SEARCH = """
description = "heads over one token"
search = { sampler = "grid", folds = 2 }
params.heads = { values = [1, 2] }
fixed = { fusion = "mhca", embed_dim = 8, epochs = 1, normal_beats_per_epoch = 40, dropout = 0.0 }
"""

SCREENING = """
description = "two arms"
search = { sampler = "tpe", trials = 4, scheduler = "screening" }
params.fusion = { values = ["film", "mhca"] }
"""

COMPARE = """
description = "three arms"
compare = { draws = 1, folds = 2, reference = "film" }
fixed = { epochs = 1 }
arms = [
    { name = "film", fusion = "film", placebo = true },
    { name = "ecg", input = "ecg", fusion = "none" },
]
"""

BEATS_OF_TWO = [[1, 1, 0, 0], [1, 1, 0, 0]]
"""Four beats of two records, which are a fold each."""


def test_heads_over_one_token_found(job: TrialJob, small_beats: BeatSet, tmp_path: Path) -> None:
    """The softmax over one key is 1 for any number of heads, and only the order of sums differs.

    Without dropout, which draws for each head.
    """
    space = load_text(tmp_path, SEARCH, "space")
    (tmp_path / BEATS).write_bytes(stored_beats(small_beats, job.folds))
    trials = []
    for number, point in enumerate(space.grid()):
        config = space.configuration(point)
        metrics = TrialRun(config, job).step()[METRICS]
        row = trial_row(
            number, rules.arm(config), digest=rules.digest(config), params=point, metrics=metrics
        )
        trials.append((row, config))
    plan = study_plan(sampler="grid", scheduler="none", epochs=1)
    said = [
        str(alarm) for alarm in study_alarms(study_of(tmp_path, plan, trials), comparison=None)
    ]
    arm = "opt1 / daeac / mhca / published7"
    assert (
        f"warning: heads changes nothing in {arm}: equal but for rounding are trials 0 and 1 "
        "(heads = 1; 2); count these trials as one try, and drop parameters without effect"
    ) in said
    assert said[-1].startswith(f"note: cannot use the RR that they are given: {arm}: ")
    assert not [line for line in said if "does not use" in line]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A comparison whose film arm and its placebo predict the same."""
    space = load_text(tmp_path, COMPARE, "space")
    (tmp_path / BEATS).write_bytes(stored_beats(bare_beats(BEATS_OF_TWO)))
    trials = []
    for number, point in enumerate(space.comparisons()):
        metrics = {AUPRC_SV: 0.4 + number / 10, "val_auprc_S": 0.6}
        digest = rules.digest(point.config)
        row = trial_row(number, point.arm, digest=digest, metrics=metrics, draw=0)
        trials.append((row, point.config))
    study = study_of(tmp_path, study_plan(kind="compare", scheduler="none"), trials)
    for row in study.rows:
        content = npz(log_probs=decided(1, 4, seed=0 if "film" in row.arm else 1))
        study.files.folder(row.digest).write(PREDICTIONS, content)
    return study


def test_arms_of_a_comparison_differ_by_their_configurations(study: Study) -> None:
    (alarm,) = study_alarms(study, comparison=None)
    assert alarm.what == "rr changes nothing in film and film_placebo"
    assert "trials 0 and 1 (rr = real; placebo)" in alarm.evidence


def test_arms_are_held_against_the_floor_on_the_same_patients(
    study: Study, beats: Beats, arms: list[ArmRuns], make_arm: MakeArm
) -> None:
    """Those whose difference reaches 0 are named, the closest to beating the floor first."""
    floor = replace(make_arm("logistic regression", fusion="none"), seed=arms[0].seed)
    found = compared(beats, arms, floor=floor, contrasts=())
    *_, alarm = study_alarms(study, comparison=found)
    assert "not shown to beat logistic regression: " in alarm.what
    assert "2 of 4 arms in AUPRC S and " in alarm.what
    (in_s,) = re.findall(r"in AUPRC S by ([^;]+)", alarm.evidence)
    assert re.match(r"\w+ [+-]\.\d{3} \[-\.\d{3}, ", in_s)
    assert "film " not in in_s


def test_arms_that_are_not_compared_are_held_against_the_floor_by_their_scores(
    study: Study,
) -> None:
    """Their scores are .4, .5 and .6."""
    floors = [StudyFloor(name="a_line", digest="", metrics={AUPRC_SV: 0.55})]
    *_, alarm = study_alarms(study, comparison=None, floors=floors)
    assert alarm.what == "no higher than the floor, a line: 2 of 3 arms in AUPRC S+V"
    assert alarm.evidence.startswith("it scores .550, film_placebo .500 and film .400; ")


def test_what_stopped_or_screened_trials_is_judged(study: Study) -> None:
    asha = replace(study, plan=replace(study.plan, scheduler="asha"))
    assert (
        study_alarms(asha, comparison=None)[-1].what
        == "it is unknown whether early stopping was right"
    )
    load_text(study.folder, SCREENING, "space")
    plan = replace(study.plan, kind="search", sampler="tpe", scheduler="screening")
    assert str(study_alarms(replace(study, plan=plan), comparison=None)[-1]) == (
        "note: it is unknown whether the screening chose each arm's best configuration: it "
        "trains one of each arm in full; do not read screened configurations as worse: "
        "--scheduler none trains them all"
    )
