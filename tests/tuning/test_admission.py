"""What a start looks at before its first trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import StudyStateError
from study.store.ledger import Ledger
from study.store.owner import Owner
from study.store.storage import Storage
from study.store.trials import TRACKED
from study.tuning.admission import admit_place, claim
from tests.tuning.small_study import NAME


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


def test_a_copy_of_a_folder_does_not_run_the_study_that_the_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both have the plan, and the storage is neither's."""
    ledger = Ledger(storage_url=f"sqlite:///{tmp_path / 'shared.db'}", name=NAME)
    one, other = tmp_path / "one", tmp_path / "other"
    admit_place(ledger, one, NAME)
    admit_place(ledger, one, NAME)  # its lock was ours: the start before has ended
    ledger.note(TRACKED, False)
    with pytest.raises(StudyStateError) as refused:
        admit_place(ledger, other, NAME)
    assert str(refused.value) == (
        f"study '{NAME}': {Owner.current()} runs it in {one}, with this Optuna storage: wait for "
        "it, stop it, or give this one another --name"
    )
    assert not caplog.messages
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "node7")
        admit_place(ledger, other, NAME)
    (said,) = caplog.messages
    assert said.endswith(f"in {one}, did not close it; if it runs still, stop one of the two")
    admit_place(ledger, other, NAME)
    ledger.note(TRACKED, True)
    admit_place(ledger, one, NAME)
    assert len(caplog.messages) == 1, "a start that was closed is over"
