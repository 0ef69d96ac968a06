"""A study's folder: which names it takes, and what a killed process left in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.errors import UsageError
from study.store.folder import leftovers, study_folder

REFUSED = ["", ".", "..", "../other", "/etc", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 101]


def test_a_plain_name_is_a_folder_and_one_that_could_lead_elsewhere_is_refused(
    tmp_path: Path,
) -> None:
    for name in ("fusion_grid", "a", "v1.2-b_3", "9"):
        assert study_folder(tmp_path, name) == tmp_path / "studies" / name
    for name in REFUSED:
        said = f"study {name!r}: a study's name has letters, digits, '-', '_' and '.', not start"
        with pytest.raises(UsageError, match=re.escape(said)):
            study_folder(tmp_path, name)


def test_half_written_files_are_found_and_no_others(tmp_path: Path) -> None:
    left = ["beats.npz.7.part", "plan.json.part", "trials/d/checkpoint.pt.7.part"]
    for name in (*left, "plan.json", "trials/d/checkpoint.pt", "a.particle"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert leftovers(tmp_path, str(tmp_path / "trials")) == [tmp_path / name for name in left]
    assert leftovers(tmp_path, "s3://bucket/study") == [tmp_path / name for name in left]
