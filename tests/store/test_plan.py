"""The plan of a study: written whole, read back, compared line by line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study import __version__
from study.errors import StudyStateError
from study.store import plan as plan_module
from study.store.plan import PLAN_FILE, StudyPlan, load_plan, provenance


def test_a_saved_plan_is_read_back_without_a_difference(plan: StudyPlan, tmp_path: Path) -> None:
    plan.save(tmp_path / "new")
    stored = load_plan(tmp_path / "new")
    assert stored is not None
    assert plan.differences(stored) == {}
    assert stored["version"] == __version__
    assert [path.name for path in (tmp_path / "new").iterdir()] == [PLAN_FILE], "no part is left"
    before = (tmp_path / "new" / PLAN_FILE).stat()
    plan.save(tmp_path / "new")
    assert (tmp_path / "new" / PLAN_FILE).stat() == before, "what is the same is not touched"


def test_a_folder_without_a_plan_has_none(tmp_path: Path) -> None:
    assert load_plan(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"trials": 5}, ["trials (--trials): was 3, now 5"]),
        (
            {"study_seed": 1, "sampler": "grid"},
            ["sampler (--sampler): was 'tpe', now 'grid'", "study_seed (--seed): was 0, now 1"],
        ),
        (
            {"data_fingerprints": {"daeac/linear": "ff"}},
            [
                "data_fingerprints: was {'daeac/linear': '222222222222'}, "
                "now {'daeac/linear': 'ff'}"
            ],
        ),
    ],
)
def test_differences_name_what_was_and_what_is(
    plan: StudyPlan, tmp_path: Path, changes: dict[str, Any], lines: list[str]
) -> None:
    plan.save(tmp_path)
    stored = load_plan(tmp_path)
    assert stored is not None
    differing = replace(plan, **changes).differences(stored)
    assert list(differing.values()) == lines


def test_a_key_that_only_one_plan_has_is_a_difference(plan: StudyPlan, tmp_path: Path) -> None:
    plan.save(tmp_path)
    stored = load_plan(tmp_path)
    assert stored is not None
    assert plan.differences({**stored, "extra": 1}) == {"extra": "extra: was 1, now None"}
    del stored["epochs"]
    assert plan.differences(stored) == {"epochs": "epochs (--epochs): was None, now 6"}


def test_what_only_follows_from_a_difference_is_not_named_beside_it(plan: StudyPlan) -> None:
    now: dict[str, Any] = {"n_seeds": 3, "folds": "3-fold, partition seed 0", "n_folds": 3}
    digests: dict[str, Any] = {"fold_fingerprint": "f" * 12, "space_digest": "s" * 12}
    other = replace(plan, **now, **digests)
    assert list(other.differences(plan.identity())) == ["folds", "n_seeds"]
    changed = replace(plan, **digests)
    assert list(changed.differences(plan.identity())) == ["fold_fingerprint", "space_digest"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not a plan (Expecting property name"),
        (b"\xff\xfe{", "is not a plan ('utf-8' codec"),
        (b"[1, 2]", "is not a plan; move the folder away"),
    ],
    ids=["half", "binary", "list"],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / PLAN_FILE).write_bytes(content)
    with pytest.raises(StudyStateError) as caught:
        load_plan(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / PLAN_FILE}: {said}")


def test_members_are_folds_times_seeds(plan: StudyPlan) -> None:
    assert replace(plan, n_folds=5, n_seeds=3).members == 15


def test_provenance_names_commit_device_and_versions() -> None:
    found = provenance("cpu")
    assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?|unknown", found["git_commit"])
    assert found["device"] == "cpu"
    assert found["version_study"] == __version__
    versions = [name for name in found if name.startswith("version_")]
    assert {"version_torch", "version_ray", "version_optuna", "version_mlflow"} <= set(versions)


def test_outside_of_a_checkout_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "__file__", str(tmp_path / "plan.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance("cpu")["git_commit"] == "unknown"
