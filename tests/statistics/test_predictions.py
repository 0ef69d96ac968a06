"""What a comparison is computed from: what is refused in which words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.errors import ComparisonError
from study.statistics.predictions import Beats, check_comparable
from tests.builders import MakeArm


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
