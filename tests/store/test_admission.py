"""Which starts a study admits, and what they leave before their first trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest

from study import __version__
from study.config import TrialConfig
from study.errors import StudyStateError, UsageError
from study.store.admission import admit, begin
from study.store.folder import PLAN_FILE
from study.store.ledger import Ledger
from study.store.lock import Owner, here
from study.store.plan import StudyPlan
from study.store.study import PLACES, Places
from study.store.trials import CLOSED, EXHAUSTED, PLACE, PLAN
from tests.builders import optuna_trial, refused, trial_row


def stored(plan: StudyPlan, places: Places, settled: int, attrs: Any = None) -> None:
    """Leave a study: its plan, and so many complete trials in its storage."""
    plan.save(places.folder)
    study = optuna.create_study(
        study_name=plan.name, storage=places.url, direction="maximize", load_if_exists=True
    )
    config = TrialConfig.from_flat({"fusion": "film"})
    for number in range(settled):
        study.add_trial(optuna_trial(trial_row(number, metrics={"val_auprc_sv": 0.5}), config))
    for name, value in (attrs or {}).items():
        study.set_user_attr(name, value)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of(tmp_path, "tiny")


def test_earlier_words_go_on_unless_they_are_searched(plan: StudyPlan, places: Places) -> None:
    now = replace(plan, space="published_arms")
    stored(now, places, 0)
    text = (places.folder / PLAN_FILE).read_text()
    (places.folder / PLAN_FILE).write_text(text.replace("published_arms", "seed_experiments"))
    study = optuna.load_study(study_name=plan.name, storage=places.url)
    for number, params in enumerate(({}, {"late_rr": "seed7"})):
        scored = {"metrics": {"val_auprc_sv": 0.5}, "params": params}
        row = trial_row(number, "opt1 / daeac / film / seed7 / real", **scored)
        study.add_trial(optuna_trial(row, TrialConfig()))
        if not params:
            admitted = admit(now, places, resume=True)
            assert admitted is not None
            assert admitted.study.rows[0].arm == "opt1 / daeac / film / published7 / real"
    said = "study 'tiny' searches over seed7, now called published7: continue it with the"
    assert refusal(now, places).startswith(said)


def of_two_workspaces(folder: Path, **changes: Any) -> list[Places]:
    return [Places(folder=folder / name / "tiny", **changes) for name in ("one", "two")]


def refusal(plan: StudyPlan, places: Places, *, resume: bool = True) -> str:
    return refused(StudyStateError, admit, plan, places, resume=resume)


def test_a_new_study_and_an_exhausted_one_are_admitted(plan: StudyPlan, places: Places) -> None:
    assert admit(plan, places, resume=False) is None
    assert not places.folder.exists(), "nothing is written"
    stored(plan, places, 1, {EXHAUSTED: True})
    assert admit(plan, places, resume=False) is not None


def test_an_unfinished_study_is_resumed_and_a_finished_one_may_start_again(
    plan: StudyPlan, tmp_path: Path
) -> None:
    for kind, trials, resume, settled in (
        ("search", 3, True, 1),
        ("search", 5, True, 3),
        ("compare", 3, False, 3),
    ):
        places = Places.of(tmp_path / f"{kind}{trials}", "tiny")
        before = replace(plan, kind=kind, trials=3)
        stored(before, places, settled)
        now = replace(before, trials=trials)
        admitted = admit(now, places, resume=resume)
        assert admitted is not None and len(admitted.study.rows) == settled
        begin(now, places, Ledger(storage_url=places.url, name="tiny"), admitted)
        assert StudyPlan.load(places.folder) == now, "the plan that runs is the plan on disk"


MORE = "\n  - trials (--trials): was 3, now 5\n"
SAME = "give this one another --name, or start it with the same options as before"


def test_a_start_that_does_not_fit_changes_nothing(plan: StudyPlan, tmp_path: Path) -> None:
    unfinished = "(1 of 3 trials settled): add --resume to continue it"
    cases: list[tuple[str, dict[str, Any], bool, str, str]] = [
        ("search", {}, False, unfinished, "--name"),
        ("search", {"trials": 5}, False, MORE, "; with --resume a search goes on to more trials"),
        ("search", {"trials": 2}, True, "\n  - trials (--trials): was 3, now 2\n", SAME),
        ("compare", {"trials": 5}, True, MORE, SAME),
        ("search", {"version": "9"}, True, f"version: was '{__version__}', now '9'", "--name"),
        ("search", {"torch": "9"}, True, "torch: was '2.13.0', now '9'", "with any version"),
    ]
    for number, (kind, changes, resume, differs, end) in enumerate(cases):
        places = Places.of(tmp_path / str(number), "tiny")
        before = replace(plan, kind=kind, torch="2.13.0")
        stored(before, places, 1)
        said = refusal(replace(before, **changes), places, resume=resume)
        assert differs in said and said.endswith(end)
        assert StudyPlan.load(places.folder) == before


def test_results_of_a_namesake_are_not_overwritten(plan: StudyPlan, tmp_path: Path) -> None:
    """Two workspaces may share a --storage; what is in it is found by name and configuration."""
    one, other = of_two_workspaces(tmp_path, storage=str(tmp_path / "shared"))
    one.folder.mkdir(parents=True)
    begin(plan, one, Ledger(storage_url=one.url, name="tiny"), admit(plan, one, resume=False))
    assert admit(plan, one, resume=True) is not None
    said = refusal(plan, other, resume=False)
    assert f"{tmp_path}/shared/tiny has the results of another study of this name" in said
    assert not other.folder.exists()


def test_a_copy_of_a_folder_does_not_run_the_study_that_the_other_runs(
    plan: StudyPlan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both have the plan, and the storage is neither's."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one, other = of_two_workspaces(tmp_path, study_storage=url)
    plan.save(other.folder)
    stored(plan, one, 1, {PLACE: here(one.folder), CLOSED: False})
    assert admit(plan, one, resume=True) is not None, "its lock was ours: the start before ended"
    assert refusal(plan, other) == (
        f"study 'tiny': {Owner.current()} runs it in {one.folder}, with this Optuna storage: wait "
        "for it, stop it, or give this one another --name"
    )
    caplog.clear()
    with mock.patch("socket.gethostname", return_value="node7"):
        admit(plan, other, resume=True)
    end = "did not close it; if that process still runs, stop one of the two"
    assert caplog.messages[0].endswith(f"in {one.folder}, {end}")
    Ledger(storage_url=url, name="tiny").note(CLOSED, True)
    caplog.clear()
    admit(plan, other, resume=True)
    assert not any("did not close it" in said for said in caplog.messages), "it was closed"


def test_a_storage_of_another_workspace_is_refused(plan: StudyPlan, tmp_path: Path) -> None:
    one, other = of_two_workspaces(tmp_path, study_storage=f"sqlite:///{tmp_path / 'shared.db'}")
    stored(plan, one, 0, {PLAN: plan.identity()})
    said = refusal(plan, other, resume=False)
    assert "holds a study 'tiny' that is not of this works" in said


def test_a_mistyped_storage_is_refused_and_not_made(
    plan: StudyPlan, places: Places, tmp_path: Path
) -> None:
    stored(plan, places, 1)
    (places.folder / "beats.npz").write_bytes(b"")
    mistyped = replace(places, study_storage=f"sqlite:///{tmp_path / 'stdy.db'}", by_option=True)
    assert "stdy.db does not exist; give the --study-storage" in refusal(plan, mistyped)
    assert not (tmp_path / "stdy.db").exists()


def test_a_start_notes_its_places_without_credentials(plan: StudyPlan, tmp_path: Path) -> None:
    """So that nobody has to name it again to read the study."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    places = Places.of(tmp_path, "tiny", study_storage=url, storage=str(tmp_path / "files"))
    stored(plan, places, 1)
    begin(plan, places, Ledger(storage_url=url, name="tiny"), None)
    assert Places.of(tmp_path, "tiny") == replace(places, by_option=False)

    secret = "postgresql://study:hush@host/optuna"
    replace(places, study_storage=secret).note()
    assert "hush" not in (places.folder / PLACES).read_text()
    with pytest.raises(UsageError, match="--study-storage postgresql://host/optuna, whose creden"):
        Places.of(tmp_path, "tiny")
    assert Places.of(tmp_path, "tiny", study_storage=secret).url == secret
