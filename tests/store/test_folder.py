"""A study's folder: which names it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.errors import UsageError
from study.store.folder import study_folder

REFUSED = ["", ".", "..", "../other", "/etc", "a\\b", ".hidden", "a b", "é", "a\n", "x" * 101]


def test_a_plain_name_is_a_folder_and_one_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("fusion_grid", "a", "v1.2-b_3", "9"):
        assert study_folder(tmp_path, name) == tmp_path / "studies" / name
    for name in REFUSED:
        said = f"study {name!r}: a study's name has letters, digits, '-', '_' and '.', not start"
        with pytest.raises(UsageError, match=re.escape(said)):
            study_folder(tmp_path, name)
