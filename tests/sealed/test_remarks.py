"""What is told of other records: classes, patients, what was left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study.data.annotations import Doubled
from study.data.external import find_external
from study.data.prepare import prepare
from study.errors import MissingDataError
from study.sealed.remarks import ClassPresence, classes_present, describe
from tests.builders import bare_beats, write_record


def test_description_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    for name in ("a", "b", "c", "d"):
        write_record(folder, name, rate_hz=128, leads=("II", "aVF"), duration_s=20)
    (folder / "c.atr").unlink()
    wfdb.wrann("d", "atr", np.array([18]), symbol=["+"], write_dir=str(folder))
    external = find_external(folder)
    beats = prepare(external.source, "beat", "linear", cache_dir=tmp_path / "cache")
    lines = describe(external, beats).splitlines()
    assert lines == [
        f"external records 'ward' in {folder}: 2 records of 2 patients, {len(beats.label)} beats",
        "leads: II (2); sampling rates in Hz: 128 (2)",
        "beats left out: first or last beat 4",
        "no beats with classes, left out: c, d",
        "N has no part in the macro: 44 beats of 2 patients say as much as 2.0 patients would, "
        "needs 5.3",
        *(f"{name} has no part in the macro: absent" for name in "SVF"),
    ]
    alike = Doubled(samples=(100, 101), symbols=("N", "L"))
    doubled = {"a": (alike, Doubled(samples=(300, 303), symbols=("N", "S")))}
    unusable = {"d": "has no lead", "e": "has no lead"}
    odd = replace(external, doubled=doubled, unusable=unusable)
    more = describe(odd, beats).splitlines()
    assert [line for line in more if line not in lines] == [
        "cannot be used, left out: d and e: has no lead",
        "annotated more than once within 0.2 s, taken as one beat at the first mark: a (2)",
        "of these marked as different classes, left out as class Q: a (1; N and S at sample 300)",
    ]
    for name in ("a", "b"):
        (folder / f"{name}.atr").unlink()
    with pytest.raises(MissingDataError, match="none of 4 records has beats with classes"):
        find_external(folder)


def test_classes_that_hardly_any_patient_has_are_left_out_of_the_macro_and_why() -> None:
    beats = bare_beats(
        [(50, 0, 90, 1), (50, 0, 2, 2), (50, 0, 2, 3), (50, 0, 2, 3), (50, 0, 0, 0), (50, 0, 0, 0)]
    )
    patients = {name: name for name in "abcdef"}
    n, s, v, f = classes_present(beats, patients)
    assert n == ClassPresence(name="N", beats=300, patients=6, effective_patients=6.0, left_out="")
    assert (s.beats, s.patients, s.effective_patients, s.left_out) == (0, 0, 0.0, "absent")
    # (90 + 2 + 2 + 2)^2 / (90^2 + 3 * 2^2)
    assert v.effective_patients == pytest.approx(96**2 / 8112)
    assert v.left_out == ("96 beats of 4 patients say as much as 1.1 patients would, needs 5.3")
    assert f.left_out == "9 beats, needs 10"
    n, *_ = classes_present(beats, dict(zip("abcdef", "xxyyzz", strict=True)))
    assert (n.patients, n.effective_patients) == (3, 3.0), "records of one patient count once"
    assert n.left_out.endswith("needs 5.3")
