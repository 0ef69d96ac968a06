"""What a start looks at before its first trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import StudyStateError
from study.tuning.admission import claim
from study.tuning.storage import Storage


def test_results_of_another_study_of_the_same_name_are_not_overwritten(tmp_path: Path) -> None:
    """Two workspaces may share a --storage; what is in it is found by name and configuration."""
    storage = Storage.at(tmp_path).folder("fusion_grid")
    claim(storage, "0123456789ab", "fusion_grid")
    claim(storage, "0123456789ab", "fusion_grid")
    with pytest.raises(StudyStateError) as caught:
        claim(storage, "ba9876543210", "fusion_grid")
    assert str(caught.value) == (
        f"{tmp_path}/fusion_grid: has the results of another study 'fusion_grid', which these "
        "would overwrite; give this one another --name or --storage"
    )
    claim(Storage.at(tmp_path).folder("other"), "ba9876543210", "other")
