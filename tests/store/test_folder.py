"""A study's folder: which names it takes, and what a killed process left in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import UsageError
from study.store.folder import leftovers, study_folder


@pytest.mark.parametrize("name", ["fusion_grid", "a", "v1.2-b_3", "9"])
def test_a_plain_name_is_a_folder_of_the_workspace(tmp_path: Path, name: str) -> None:
    assert study_folder(tmp_path, name) == tmp_path / "studies" / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../other", "a/b", "/etc", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 101],
)
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        study_folder(tmp_path, name)
    assert str(caught.value) == (
        f"study {name!r}: a study's name has letters, digits, '-', '_' and '.', "
        "not starting with '.'"
    )


def test_half_written_files_are_found_and_no_others(tmp_path: Path) -> None:
    for name in ("plan.json.part", "beats.npz.7.part", "trials/d/checkpoint.pt.7.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    for name in ("plan.json", "trials/d/checkpoint.pt", "a.particle"):
        (tmp_path / name).write_text("")
    found = leftovers(tmp_path, str(tmp_path / "trials"))
    assert [path.name for path in found] == [
        "beats.npz.7.part",
        "plan.json.part",
        "checkpoint.pt.7.part",
    ]
    assert leftovers(tmp_path, "s3://bucket/study") == found
