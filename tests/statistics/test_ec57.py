from __future__ import annotations

import numpy as np
import pytest

from study.statistics.ec57 import detection, gross_and_average

# de Chazal, O'Dwyer & Reilly 2004 (doi:10.1109/TBME.2004.827359), test set DS2: beats by true and
# called class. Calls of Q, which this study does not have, stand with those of N: neither is a
# call of S or V. The 7 beats of Q are left out.
DE_CHAZAL = np.array(
    [
        [38444 + 98, 1904, 303, 3509],
        [173 + 1, 1395, 252, 16],
        [117 + 103, 321, 2504, 176],
        [33 + 0, 1, 7, 347],
    ]
)


@pytest.mark.parametrize(
    ("beat_type", "se", "ppv", "fpr"), [("SVEB", 75.9, 38.5, 4.7), ("VEB", 77.7, 81.9, 1.2)]
)
def test_as_published(beat_type: str, se: float, ppv: float, fpr: float) -> None:
    found = detection(DE_CHAZAL, beat_type).statistics()
    percent = {name: round(100 * float(value), 1) for name, value in found.items()}
    assert (percent["se"], percent["ppv"], percent["fpr"]) == (se, ppv, fpr)


def test_the_counts_of_bxb() -> None:
    # The letters of PhysioNet's bxb: Nv is a beat of N that was called V.
    names = [f"{true}{called}" for true in "NSVF" for called in "nsvf"]
    n = dict(zip(names, range(1, 17), strict=True))
    confusion = np.arange(1, 17).reshape(4, 4)
    veb = detection(confusion, "VEB")
    assert int(veb.true_positive) == n["Vv"]
    assert int(veb.false_negative) == n["Vn"] + n["Vs"] + n["Vf"]
    assert int(veb.false_positive) == n["Nv"] + n["Sv"], "Fv is not penalised"
    assert int(veb.true_negative) == sum(n[t + c] for t in "NSF" for c in "nsf")
    sveb = detection(confusion, "SVEB")
    assert int(sveb.false_negative) == n["Sn"] + n["Sv"] + n["Sf"]
    assert int(sveb.false_positive) == n["Ns"] + n["Vs"] + n["Fs"]
    assert int(sveb.true_negative) == sum(n[t + c] for t in "NVF" for c in "nvf")
    # Accuracy is over all beats that count: 136 in all, without Fv.
    right = int(veb.true_positive + veb.true_negative)
    assert float(veb.statistics()["accuracy"]) == pytest.approx(right / (136 - n["Fv"]))


def test_gross_takes_beats_together_and_average_takes_records() -> None:
    first = np.diag([90, 0, 10, 0])  # all right, without an SVEB
    second = np.zeros((4, 4), dtype=np.int64)
    second[0, 0], second[1, 1], second[1, 0], second[2, 0] = 50, 1, 3, 30
    tables = gross_and_average(np.stack([first, second])[None])
    veb, sveb = tables["VEB"], tables["SVEB"]
    assert veb["gross"]["se"] == pytest.approx([10 / 40])
    assert veb["average"]["se"] == pytest.approx([(1 + 0) / 2])
    assert sveb["gross"]["se"] == pytest.approx([1 / 4])
    assert sveb["average"]["se"] == pytest.approx([1 / 4]), "a record without SVEB does not count"
    assert veb["average"]["ppv"] == pytest.approx([1.0]), "no V was called in the second record"
    empty = gross_and_average(np.diag([5, 0, 0, 0])[None, None])
    assert np.isnan(empty["SVEB"]["gross"]["se"]).all(), "nothing to divide by"
    assert np.isnan(empty["SVEB"]["average"]["ppv"]).all()
    assert empty["SVEB"]["gross"]["fpr"] == pytest.approx([0.0])
