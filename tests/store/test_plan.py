"""The plan of a study: written whole, read back, compared line by line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from study.errors import StudyStateError
from study.store.folder import PLAN_FILE, study_folder
from study.store.plan import FORM, StudyPlan
from tests.builders import refused


def refusal(folder: Path) -> str:
    where, fault = refused(StudyStateError, StudyPlan.load, folder).split(": ", 1)
    assert where == str(folder / PLAN_FILE)
    return fault


def test_a_saved_plan_is_read_back(plan: StudyPlan, tmp_path: Path) -> None:
    folder = study_folder(tmp_path, "tiny")
    assert StudyPlan.find(folder) is None
    plan.save(folder)
    assert StudyPlan.load(folder) == StudyPlan.find(folder) == plan
    assert [path.name for path in folder.iterdir()] == [PLAN_FILE], "no part is left"
    before = (folder / PLAN_FILE).stat()
    plan.save(folder)
    assert (folder / PLAN_FILE).stat() == before, "what is the same is not touched"
    assert json.loads((folder / PLAN_FILE).read_text()) == {**plan.identity(), "form": FORM}


def test_a_plan_without_the_version_of_pytorch_keeps_its_identity(plan: StudyPlan) -> None:
    """Plans of sealed tests hold the digest of the identity of an older study's plan."""
    now = replace(plan, torch="2.13.0")
    assert "torch" not in plan.identity() and now.identity()["torch"] == "2.13.0"
    assert now.differences(plan) == plan.differences(now) == {}


def test_a_plan_that_was_lost_is_named_and_not_taken_for_no_study(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "mine"
    (folder / "trials").mkdir(parents=True)
    for read in (StudyPlan.load, StudyPlan.find):
        with pytest.raises(StudyStateError, match=r"plan\.json: is missing, and the folder has"):
            read(folder)


def test_a_study_of_another_version_is_refused_by_name(plan: StudyPlan, tmp_path: Path) -> None:
    for form, said in (({}, "an earlier version of"), ({"form": 99}, "another version (form 99)")):
        (tmp_path / PLAN_FILE).write_text(json.dumps({**plan.identity(), **form}))
        told = refusal(tmp_path)
        assert told.startswith(f"study '{tmp_path.name}' was begun by {said}")
        assert told.endswith("or begin it again under another --name")


def test_differences_name_what_was_and_is_and_not_what_only_follows(plan: StudyPlan) -> None:
    assert replace(plan, study_seed=1, sampler="grid").differences(plan) == {
        "sampler": "sampler (--sampler): was 'tpe', now 'grid'",
        "study_seed": "study_seed (--seed): was 0, now 1",
    }
    changed = replace(plan, data_fingerprints={"a": "ff"}, fold_fingerprint="f" * 12)
    assert list(changed.differences(plan)) == ["data_fingerprints", "fold_fingerprint"]
    assert replace(changed, data_source="mitdb+svdb").differences(plan) == {
        "data_source": "data_source (--data, --records): was 'synthetic', now 'mitdb+svdb'"
    }
    changed = replace(plan, fold_fingerprint="f" * 12, space_digest="s" * 12)
    assert list(changed.differences(plan)) == ["fold_fingerprint", "space_digest"]
    other = replace(changed, n_seeds=3, folds="3-fold, partition seed 0", n_folds=3)
    assert list(other.differences(plan)) == ["folds", "n_seeds"]


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    for content, said in (
        ("{", "Expecting property name"),
        ("[]", "must be an object with the parts of a plan);"),
        (f'{{"form": {FORM}, "name": "tiny"}}', ""),
    ):
        (tmp_path / PLAN_FILE).write_text(content)
        assert refusal(tmp_path).startswith(f"is not a plan ({said}")
