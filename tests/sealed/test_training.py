"""What precedes an opening: studies that train all arms, and what of them is no result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from study.errors import DivergedError, StudyStateError
from study.keys import Outcome
from study.sealed.plan import SealedPlan
from study.sealed.records import Records
from study.sealed.result import EvaluationFolder
from study.sealed.training import Training, set_up_training, train
from study.spaces.settings import SETTINGS
from study.store.study import Study
from study.training.seeding import FRESH_SEED
from study.tuning.ray_tune import StopSignal
from study.tuning.session import Summary
from tests.builders import trial_row

SetUp = Callable[[str], Training]


@pytest.fixture
def set_up(
    trained: tuple[Path, SealedPlan], records: Records, cache_dir: Path, tmp_path: Path
) -> SetUp:
    folder = EvaluationFolder.of(tmp_path, trained[1], rehearsal=True)
    return lambda storage: set_up_training(
        trained[1],
        folder,
        records,
        workspace=tmp_path,
        cache_dir=cache_dir,
        device="cpu",
        storage=storage,
    )


def test_no_study_can_have_used_a_seed() -> None:
    assert SETTINGS["seeds"].high == FRESH_SEED


def test_arms_are_cross_validated_where_no_study_has_their_predictions(
    set_up: SetUp, trained: tuple[Path, SealedPlan], tmp_path: Path
) -> None:
    """Five folds of whole patients and one seed, whose scores rank nothing."""
    (group,) = set_up(str(tmp_path / "shared")).groups
    of_thresholds = group.cross_validation
    assert of_thresholds is not None
    assert [arm.name for arm in of_thresholds.space.arms] == ["rr", "rr_placebo"]
    assert (of_thresholds.plan.n_folds, of_thresholds.plan.n_seeds) == (5, 1)
    assert of_thresholds.plan.objective == "train_loss"
    assert of_thresholds.job.folds.fingerprint == group.folds.fingerprint
    assert (group.models.plan.folds, group.models.plan.n_seeds) == ("all", 10)
    of_plan = tmp_path / "shared" / trained[1].label
    assert str(group.models.job.storage.root) == str(of_plan / "training"), "plans are kept apart"


KEPT = "training: the disk is full; trained models are kept, and the same command continues"
LACKING = "the weights.pt of arm rr is missing; delete the folder"
DIVERGED = trial_row(arm="rr", outcome=Outcome.FAILED, cause="diverged")


def test_what_ends_otherwise_is_no_result(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    # Thresholds come after the models.
    monkeypatch.setattr("study.sealed.training._thresholds", lambda group, run: {})
    training = set_up("")
    for stop, rows, error, fault in (
        (StopSignal("SIGTERM received", interrupted=True), [], KeyboardInterrupt, ""),
        (StopSignal("the disk is full"), [], StudyStateError, KEPT),
        (StopSignal(), [DIVERGED], DivergedError, "arm rr: diverged"),
        (StopSignal(), [], StudyStateError, LACKING),
    ):
        ended = mock.Mock(return_value=Summary(stop=stop))
        with mock.patch.object(Study, "at", return_value=SimpleNamespace(rows=rows)):
            with pytest.raises(error) as caught:
                train(training, ended)
        assert fault in str(caught.value)
