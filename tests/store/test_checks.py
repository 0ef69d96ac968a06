"""Each kind of fault of a study's storage and files: injected, found, and mended or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from study.errors import StudyStateError
from study.store.checks import Fault, faults, refuse, steps
from study.store.folder import CLAIM
from study.store.ledger import Ledger
from study.store.study import Study
from study.store.trials import PLAN
from tests.tuning.small_study import NAME, change

Inject = Callable[[Study], object]


def read(workspace: Path) -> Study:
    return Study.open(workspace, NAME, locked_here=True)


def ledger_of(study: Study) -> Ledger:
    return Ledger(storage_url=study.places.url, name=NAME, epochs=study.plan.epochs)


def file_of(study: Study, row: int, name: str) -> Path:
    return study.folder / "trials" / study.rows[row].digest / name


def executed(statement: str) -> Inject:
    return lambda study: change(study.folder / "study.db", statement)


def written(name: str, content: str) -> Inject:
    return lambda study: file_of(study, 0, name).write_text(content)


def lost(name: str) -> Inject:
    return lambda study: (study.folder / name).unlink()


def damage_weights(study: Study) -> None:
    path = file_of(study, 0, "weights.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_predictions(study: Study) -> None:
    file_of(study, 0, "predictions.npz").unlink()


def leave_a_checkpoint(study: Study) -> None:
    (owed,) = study.trials.owed
    path = file_of(study, 2, "checkpoint.pt")
    path.parent.mkdir(exist_ok=True)
    shutil.copy(study.folder / "trials" / owed.user_attrs["digest"] / path.name, path)


def enqueue_a_trial(study: Study) -> None:
    optuna.load_study(study_name=NAME, storage=study.places.url).enqueue_trial({})


def cut_the_table(study: Study) -> None:
    path = study.folder / "trials.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def change_the_plan_of_the_storage(study: Study) -> None:
    ledger = ledger_of(study)
    ledger.note(PLAN, {**study.plan.identity(), "objective": "val_auprc_macro"})
    ledger.release()


HALF_A_FILE = written("scores.json.77.part", "{")
LOSE_THE_END = executed("delete from study_user_attributes where key like 'end:%'")

MENDED: list[tuple[Inject, str, int | None, bool]] = [
    (executed("update trials set state = 'RUNNING' where number = 0"), "interrupted", 0, True),
    (enqueue_a_trial, "interrupted", 5, True),
    (leave_a_checkpoint, "checkpoint of a settled trial", 2, True),
    (HALF_A_FILE, "half a file", None, True),
    (lost("trials.csv"), "no table", None, True),
    (cut_the_table, "other table", None, True),
    (lose_predictions, "lost results", 0, False),
    (damage_weights, "lost results", 0, False),
    (written("scores.json", '{"metrics": {"val_auprc_sv": 0.99}}'), "lost results", 0, False),
    (LOSE_THE_END, "unclosed start", None, False),
]
"""The last is whether a start mends it too; what costs a result is left to a repair."""

MENDED_BY_THE_USER: list[tuple[Inject, str, bool]] = [
    (lambda study: shutil.rmtree(study.folder / "trials"), "no results at all", False),
    (lost("space.toml"), "no space", False),
    (lambda study: (study.folder / "beats.npz").write_bytes(b"no archive"), "no beats", False),
    (
        lambda study: (study.folder / "trials" / CLAIM).write_text("another"),
        "other study's results",
        True,
    ),
    (change_the_plan_of_the_storage, "other plan", True),
    (lost("study.db"), "storage away", True),
]
"""The last is whether no start may run over it."""


def injected(workspace: Path, inject: Inject, kind: str, trial: int | None) -> Fault:
    """Return the fault that was not there before."""
    assert faults(read(workspace)) == []
    inject(read(workspace))
    fault = next(fault for fault in faults(read(workspace)) if fault.kind == kind)
    assert fault.trial == trial
    assert fault.found
    return fault


def mend(workspace: Path, *, at_start: bool) -> None:
    """Do what a repair does, or of it what a start does; mends may show what else is to be."""
    for _ in range(3):
        study = read(workspace)
        ledger = ledger_of(study)
        for way, ended in steps(faults(study)):
            if way.at_start or not at_start:
                assert way.says(ended)
                way.do(study, ledger, ended)
        ledger.release()


@pytest.mark.parametrize(("inject", "kind", "trial", "at_start"), MENDED)
def test_what_is_mended_is_found_and_gone_after_it(
    workspace: Path, inject: Inject, kind: str, trial: int | None, at_start: bool
) -> None:
    injected(workspace, inject, kind, trial)
    mend(workspace, at_start=True)
    assert (kind not in [fault.kind for fault in faults(read(workspace))]) == at_start
    mend(workspace, at_start=False)
    assert faults(read(workspace)) == []


@pytest.mark.parametrize(("inject", "kind", "refused"), MENDED_BY_THE_USER)
def test_what_only_the_user_mends_is_named_and_may_refuse_a_start(
    workspace: Path, inject: Inject, kind: str, refused: bool
) -> None:
    fault = injected(workspace, inject, kind, None)
    assert fault.mend is None
    said = ""
    try:
        refuse(NAME, faults(read(workspace), deep=False))
    except StudyStateError as error:
        said = str(error)
    assert said == (f"study '{NAME}': {fault.found}" if refused else "")


def test_a_start_looks_only_whether_results_are_there(workspace: Path) -> None:
    """A study of 300 trials in an object store is not read whole at every start."""
    damage_weights(read(workspace))
    assert faults(read(workspace), deep=False) == []
    lose_predictions(read(workspace))
    (fault,) = faults(read(workspace), deep=False)
    assert (fault.kind, fault.found) == ("lost results", "predictions.npz is missing")


def test_a_study_that_runs_has_nothing_open(workspace: Path) -> None:
    for inject in (enqueue_a_trial, leave_a_checkpoint, HALF_A_FILE, lost("trials.csv")):
        inject(read(workspace))
    study = read(workspace)
    running = Study(places=study.places, plan=study.plan, held=True, trials=study.trials)
    assert faults(running) == []
