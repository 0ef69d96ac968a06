"""A whole comparison of small arms: its figures against plain loops, its refusals, its tables."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from study.errors import ComparisonError
from study.keys import CLASSES, metric
from study.statistics.predictions import ArmRuns, Beats
from tests.builders import MakeArm, compared


def test_figures_of_an_arm_equal_plain_loops(beats: Beats, arms: list[ArmRuns]) -> None:
    found = compared(beats, arms, objective=metric("auprc", "V"))
    film = next(arm for arm in found.arms if arm.name == "film")
    runs, c = arms[1].log_probs[..., 2], CLASSES.index("V")

    def by_run(rows: Any) -> list[float]:
        return [average_precision_score(beats.label[rows] == c, run[rows]) for run in runs]

    def of(rows: Any) -> float:
        return float(np.mean(by_run(rows)))

    folds = [np.flatnonzero(beats.fold[0] == fold) for fold in range(2)]
    within = np.mean([of(rows) for rows in folds])
    assert film.estimates["V"].value == pytest.approx(within)
    held_out = np.flatnonzero(beats.fold[0] >= 0)
    assert film.pooled["V"] == pytest.approx(of(held_out))
    assert film.gap["V"] == pytest.approx(of(held_out) - within)
    without = [rows[beats.record[rows] != 6] for rows in folds]
    assert film.without_largest["V"] == pytest.approx(np.mean([of(rows) for rows in without]))
    records = [np.flatnonzero(beats.record == record) for record in range(8)]
    assert film.patient_mean["V"] == pytest.approx(np.mean([of(rows) for rows in records]))
    by_name = {row.record: row for row in found.records if row.arm == "film"}
    assert set(by_name) == set(beats.record_names[:8]), "108 is in no fold"
    assert by_name["103"].scores["V"] == pytest.approx(of(records[3]))
    assert (by_name["103"].patient, by_name["103"].folds) == ("101", (0,))
    assert by_name["103"].beats["V"] == 14
    assert math.isnan(by_name["104"].scores["S"]), "it has no S"
    # Spreads are over one thing at a time: draws, seeds, folds.
    table = np.array([by_run(rows) for rows in folds]).reshape(2, 2, 3)
    expected = [table.mean(axis=axes).std(ddof=1) for axes in ((0, 2), (0, 1), (1, 2))]
    assert (film.sd_draws, film.sd_seeds, film.sd_folds) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [2, 4])
def test_seeds_spread_within_partitions(beats: Beats, make_arm: MakeArm, seeds: int) -> None:
    """Seeds 0 and 2 have the folds of the first partition, 1 and 3 those of the second."""
    other = (0, 1, 0, 1, 0, 1, 0, 1, -1)
    both = replace(beats, folds_of_record=(*beats.folds_of_record, other))
    arms = [make_arm(name, draws=1, seeds=seeds) for name in ("film", "concat")]
    found = compared(both, arms, contrasts=[], objective=metric("auprc", "V"))
    film = next(arm for arm in found.arms if arm.name == "film")

    def score(seed: int) -> float:
        folds = [both.fold[seed % 2] == fold for fold in range(2)]
        run = arms[0].log_probs[seed, :, 2]
        return float(np.mean([average_precision_score(both.label[k] == 2, run[k]) for k in folds]))

    scores = np.array([score(seed) for seed in range(seeds)]).reshape(-1, 2)
    within = math.sqrt(scores.var(axis=0, ddof=1).mean()) if seeds == 4 else math.nan
    assert film.sd_seeds == pytest.approx(within, nan_ok=True)
    assert film.sd_partitions == pytest.approx(scores.mean(axis=0).std(ddof=1))
    assert found.resampling.startswith("patients of all folds together, of partitions")


def test_a_floor_is_paired(beats: Beats, arms: list[ArmRuns], make_arm: MakeArm) -> None:
    floor = make_arm("floor", better=0.3)
    found, without = compared(beats, arms, floor=floor), compared(beats, arms)
    assert [pair.first for pair in found.above_floor] == [arm.name for arm in found.arms]
    (first, *_) = found.above_floor
    assert first.second == "floor" and first.estimates["sv"].low < first.estimates["sv"].value
    pairs = compared(beats, [arms[1], floor], contrasts=()).contrasts
    assert pairs[0].estimates == first.estimates
    # As text, because an undefined value is not equal to itself.
    assert without.above_floor == ()
    assert str(replace(found, above_floor=())) == str(without)


def test_a_clear_difference_is_found_and_none_is_not(beats: Beats, arms: list[ArmRuns]) -> None:
    found = compared(beats, arms)
    assert [arm.name for arm in found.arms][0] == "film"
    first, second, *others = found.contrasts
    assert (first.first, first.second, first.primary) == ("film", "film_placebo", True)
    assert first.p < 0.05 and first.p <= first.p_adjusted < 0.05
    assert first.estimates["sv"].low > 0
    assert 0 < first.detectable < first.estimates["sv"].value
    assert len(others) == 4 and not any(pair.primary for pair in others)
    assert all(math.isnan(pair.p) and math.isfinite(pair.estimates["sv"].low) for pair in others)
    same = compared(beats, [arms[0], replace(arms[0], name="again")], contrasts=[("ecg", "again")])
    assert same.contrasts[0].p == 1.0
    interval = same.contrasts[0].estimates["sv"]
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_placebos_are_never_chosen(beats: Beats, arms: list[ArmRuns]) -> None:
    ecg, film, *others = arms
    found = compared(beats, [ecg, replace(film, rr="placebo"), *others])
    assert found.arms[0].name == "film"
    assert found.choice is not None
    assert found.choice.best == "concat" and "film" not in found.choice.selected
    assert compared(beats, arms, choosing=False).choice is None


def test_ecg_performance_is_kept_lost_or_not_shown(beats: Beats, make_arm: MakeArm) -> None:
    bare = make_arm("ecg", input="ecg", fusion="none")
    arms = [
        bare,
        replace(bare, name="same", input="opt1"),
        make_arm("worse", better=-1.0),
        make_arm("noisy"),
        make_arm("elsewhere", window="daeac"),
        replace(bare, name="placebo", input="opt1", rr="placebo"),
    ]
    found = compared(beats, arms, contrasts=[]).non_inferiority
    assert [(one.arm, one.reference, one.verdicts["V"]) for one in found] == [
        ("same", "ecg", "kept"),
        ("worse", "ecg", "lost"),
        ("noisy", "ecg", "not shown"),
    ]


def test_what_rests_on_one_patient_has_no_interval(beats: Beats, arms: list[ArmRuns]) -> None:
    """F is in one record alone, enough for its fold to count."""
    label = np.where((beats.label == 3) & (beats.record != 5), 0, beats.label)
    label[np.flatnonzero(beats.record == 5)[:10]] = 3
    found = compared(replace(beats, label=label), arms, objective=metric("auprc", "macro"))
    why = "not estimable: F rests on 1.0 effective patients"
    for name in ("F", "macro"):
        estimate = found.arms[0].estimates[name]
        assert math.isnan(estimate.low) and estimate.remark == why
    assert math.isfinite(found.arms[0].estimates["S"].low)
    assert math.isnan(found.contrasts[0].p) and math.isnan(found.contrasts[0].detectable)
    assert found.notes == (f"AUPRC macro is {why}: nothing is tested",)


def test_notes_tell_of_one_seed_and_of_patients_alone(beats: Beats, make_arm: MakeArm) -> None:
    alone = replace(beats, folds_of_record=((0, 0, 0, 0, 0, 0, 0, 1, -1),))
    arms = [make_arm(name, seeds=1) for name in ("film", "concat")]
    assert compared(alone, arms, contrasts=[], notes=["draw 1 is left out"]).notes == (
        "draw 1 is left out",
        "AUPRC S+V is not estimable: S rests on 3.3 effective patients, V rests on 3.3 effective "
        "patients: nothing is tested",
        "one seed: intervals and p leave out what another seed would change",
        "fold 1 has one patient, who is in every resample",
    )


def test_an_interval_that_covers_too_little_is_marked(beats: Beats, arms: list[ArmRuns]) -> None:
    """One fold: a patient has most V, another no S, and a third two records."""
    one_fold = replace(beats, folds_of_record=((0,) * 8 + (-1,),))
    found = compared(one_fold, arms)
    film, little = found.arms[0], "covers less than 90 % in simulation"
    of_v = f"{little}: V rests on 5.4 effective patients in one fold"
    of_both = f"{little}: S rests on 5.4 effective patients, V rests on 5.4 effective patients"
    assert film.estimates["V"].remark == of_v and math.isfinite(film.estimates["V"].low)
    assert film.estimates["sv"].remark == f"{of_both} in one fold"
    assert film.estimates["N"].remark == ""
    assert found.contrasts[0].estimates["V"].remark == ""
    folds = replace(one_fold, folds_of_record=beats.folds_of_record)
    assert compared(folds, arms).arms[0].estimates["V"].remark == ""


def test_unknown_names_are_refused(beats: Beats, arms: list[ArmRuns]) -> None:
    with pytest.raises(ComparisonError) as caught:
        compared(beats, arms, contrasts=[("film", "concta")], objective="val_auprc_SV")
    head, *faults = str(caught.value).split("\n  - ")
    assert head == "comparison: 2 faults"
    assert faults[0].startswith("contrast film - concta: unknown arm 'concta'; known: concat, ")
    assert faults[1].startswith("unknown objective 'val_auprc_SV'; known: val_auprc_F, ")
