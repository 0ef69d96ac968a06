"""What a comparison is computed from: what is derived, and what is refused in which words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.errors import ComparisonError
from study.statistics.predictions import Beats, check_comparable
from tests.builders import MakeArm


def test_patients_and_folds_of_beats(beats: Beats) -> None:
    assert beats.patients == ("100", "101", "102", "104", "105", "106", "107")
    assert beats.n_folds == 2
    of_103 = beats.record == 3
    assert set(beats.patient[of_103]) == {1} and set(beats.fold[0, of_103]) == {0}
    assert set(beats.patient[beats.record == 8]) == {-1}
    assert beats.counts_by_fold.tolist() == [[[120, 48, 56, 24], [132, 36, 86, 24]]]


def test_a_fold_counts_with_ten_beats_of_a_class_and_others() -> None:
    label = np.array([0] * 20 + [1] * 10 + [2] * 9 + [0] * 12)
    fold = Beats(
        label=label,
        record=np.repeat([0, 1], [39, 12]),
        record_names=("a", "b"),
        patient_of_record=("a", "b"),
        folds_of_record=((0, 1),),
    )
    assert fold.counted.tolist() == [[[True, True, False, False], [False] * 4]]


def test_all_faults_of_beats_are_told_together(beats: Beats) -> None:
    with pytest.raises(ComparisonError) as caught:
        replace(beats, label=beats.label + 1, folds_of_record=((0, 0, 0, 1, 1, 1, 1, 1),))
    assert str(caught.value) == (
        "beats: 3 faults\n"
        "  - folds_of_record: must have one entry for each of 9 records, got 8\n"
        "  - label: must be in [0, 3], got 1 to 4\n"
        "  - patient 101 is in folds [0, 1]; a patient must be in one"
    )
    with pytest.raises(ComparisonError, match=r"label and record must both be \[N\], got \(3,\)"):
        replace(beats, label=beats.label[:3])


def test_what_differs_is_named_with_the_arms_on_each_side(beats: Beats, make_arm: MakeArm) -> None:
    shared = {**beats.fingerprints, "daeac/linear windows": "aaa"}
    moved = replace(beats, folds_of_record=((0, 0, 0, 0, 1, 1, 1, 1, 0),))
    # What one arm alone tells, such as windows that it alone has, differs from nothing.
    check_comparable(beats, [replace(make_arm("film"), fingerprints=shared), make_arm("ecg")])
    arms = [
        replace(make_arm("film"), fingerprints=shared),
        replace(make_arm("ecg"), fingerprints={**shared, "daeac/linear windows": "bbb"}),
        replace(make_arm("mhca"), fingerprints={**shared, **moved.fingerprints}),
    ]
    with pytest.raises(ComparisonError) as caught:
        check_comparable(beats, arms)
    mine, theirs = beats.fingerprints["folds"], moved.fingerprints["folds"]
    assert beats.fingerprints["beats"] == moved.fingerprints["beats"]
    relabelled = replace(beats, label=np.roll(beats.label, 1))
    assert beats.fingerprints["beats"] != relabelled.fingerprints["beats"]
    assert str(caught.value) == (
        "these arms cannot be compared: 2 faults\n"
        f"  - folds differ: {mine} of these beats, film, ecg; {theirs} of mhca\n"
        "  - daeac/linear windows differ: aaa of film, mhca; bbb of ecg"
    )


def test_draws_seeds_shapes_and_missing_predictions(beats: Beats, make_arm: MakeArm) -> None:
    holed = make_arm("holed")
    holed.log_probs[1, 7, 2] = np.nan
    short = make_arm("short")
    arms = [
        make_arm("film"),
        make_arm("one_draw", draws=1),
        holed,
        replace(short, log_probs=short.log_probs[:, :9]),
        make_arm("film"),
    ]
    with pytest.raises(ComparisonError) as caught:
        check_comparable(beats, arms)
    n = len(beats.label)
    assert str(caught.value) == (
        "these arms cannot be compared: 4 faults\n"
        "  - holed: 1 predictions of beats in folds are not finite\n"
        f"  - short: log_probs must be [R, {n}, 4] with R = 6 pairs of draw and seed, "
        "got [6, 9, 4]\n"
        "  - draws and seeds differ: 6 runs (draws [0, 1], seeds [0, 1, 2]) in film, holed, "
        "short, film; 3 runs (draws [0], seeds [0, 1, 2]) in one_draw\n"
        "  - film: is given twice"
    )
