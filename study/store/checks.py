"""Finds faults in a study's records, and mends them.

Optuna's storage is the truth, and files are compared with it. This is the one list of checks:
`--status` lists the faults, a start makes the mends that a start may make, and `--repair` makes
all mends without running trials. `study.tracking` checks the tracker, and returns the same kind of
faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from study.addresses import redact, shown
from study.errors import StudyStateError
from study.files import write_whole
from study.keys import Outcome
from study.store.folder import BEATS, CLAIM, PLAN_FILE, SPACE_COPY, TRIALS, has_trials, leftovers
from study.store.history import METRICS
from study.store.plan import GROWS, StudyPlan
from study.store.trial_files import CHECKPOINT, RESULTS, SCORES, file_fault
from study.store.trials import PLAN, trials_csv
from study.wording import first_few

if TYPE_CHECKING:
    from study.store.ledger import Ledger
    from study.store.storage import Storage
    from study.store.study import Study
    from study.store.trials import TrialRow

LOST_RESULTS = "lost results"
"""Kind of the fault of a complete trial whose files are missing or damaged."""

SHOWN = 5
"""How many trials or files a message names before it says "and N more"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mend:
    """Mends all faults of one kind."""

    says: Callable[[Sequence[Fault]], str]  # what will be done about these faults, in words
    # Mends them; returns a remark on the outcome, or an empty string
    do: Callable[[Study, Ledger, Sequence[Fault]], str]
    at_start: bool = False  # whether a start does it too; otherwise `--repair` alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong with a study's records."""

    kind: str  # its name among the kinds of faults
    found: str  # what is wrong, in words that follow the trial's name
    trial: int | None = None  # its trial's number; None where it is about the study
    digest: str = ""  # digest of its trial or floor; empty where it is about the study
    target: str = ""  # what the mend deletes: a file in the trial's folder, a path, or a run
    # How it is mended; None where only the user can, and `found` says how
    mend: Mend | None = None
    refused: bool = False  # whether it forbids every start


def faults(study: Study, *, deep: bool = True) -> list[Fault]:
    """Return what is wrong with a study's storage and files, in the order of its mends.

    `deep` also reads and verifies results; a start only checks that they exist.
    """
    claims = other_claim(study.files, study.study_id)
    if study.unreadable:
        return list(_storage_away(study)) or list(claims)
    checks = (_interrupted, _unclosed, _other_plan, _space_copy, _beats)
    listed = [fault for check in checks for fault in check(study)] + list(claims)
    listed += _results(study, deep=deep)
    return listed + [f for check in (_checkpoints, _leftovers, _table) for f in check(study)]


def steps(faults: Sequence[Fault]) -> list[tuple[Mend, list[Fault]]]:
    """Return each mend with the faults that it ends, in the order of the faults."""
    by_mend: dict[Mend, list[Fault]] = {}
    for fault in faults:
        if fault.mend is not None:
            by_mend.setdefault(fault.mend, []).append(fault)
    return list(by_mend.items())


def refuse(name: str, faults: Sequence[Fault]) -> None:
    """Refuse a start over faults that only the user can mend.

    Raises:
        StudyStateError: If there are such faults.
    """
    for fault in faults:
        if fault.refused:
            raise StudyStateError(f"study '{name}': {fault.found}")


def trials_of(faults: Sequence[Fault]) -> str:
    """Name the trials that have these faults."""
    numbers = sorted({fault.trial for fault in faults if fault.trial is not None})
    if not numbers:
        return "the study"
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _storage_away(study: Study) -> Iterator[Fault]:
    # A plan without a storage: the start ended before it proposed anything.
    if has_trials(study.folder):
        yield Fault(
            kind="storage away",
            found=f"the Optuna storage: {study.unreadable}; give the --study-storage that the "
            "study was started with, or bring the file back from a copy",
            refused=True,
        )


def _reconcile(study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
    return f"{len(ledger.reconcile())} to run again"


_SETTLE = Mend(
    says=lambda faults: f"end {trials_of(faults)} in Optuna: interrupted ones will run again",
    do=_reconcile,
    at_start=True,
)


def _interrupted(study: Study) -> Iterator[Fault]:
    """Look for trials that are open in Optuna, while no process runs them."""
    for trial in study.trials.all:
        if study.held or trial.state.is_finished():
            continue
        finding = "is RUNNING in Optuna, and no process runs it"
        if trial.state is TrialState.WAITING:
            finding = "waits in Optuna, and nothing will ask for it"
        yield Fault(kind="interrupted", found=finding, trial=trial.number, mend=_SETTLE)


def _end_start(study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
    ledger.end_start(Outcome.STOPPED, {})
    return ""


_END = Mend(says=lambda faults: "write down that the last start was stopped", do=_end_start)


def _unclosed(study: Study) -> Iterator[Fault]:
    if not study.held and study.starts and study.starts[-1].ended_s is None:
        yield Fault(
            kind="unclosed start", found="the last start did not say how it ended", mend=_END
        )


def _other_plan(study: Study) -> Iterator[Fault]:
    in_storage = study.trials.attrs.get(PLAN)
    if in_storage is None:
        return
    for key, line in study.plan.differences(StudyPlan(**in_storage)).items():
        # A start killed between the two writes leaves its new budget in only one of them.
        if key != GROWS:
            yield Fault(
                kind="other plan",
                found=f"{PLAN_FILE} differs from the plan in the Optuna storage: {line}; bring "
                "the file back from a copy",
                refused=True,
            )


def other_claim(files: Storage, study_id: str) -> Iterator[Fault]:
    """Check that the results belong to this study: name and configuration alone locate them.

    Before a study's first start it has no identity, and no results are its own.
    """
    claimed = files.read(CLAIM)
    if claimed is not None and claimed.decode(errors="replace") != study_id:
        yield Fault(
            kind="other study's results",
            found=f"{shown(files.root)} has the results of another study of this name; give the "
            "--storage that this one was started with, or another --name",
            refused=True,
        )


_AGAIN = "the study's own command with --resume writes it again"


def _space_copy(study: Study) -> Iterator[Fault]:
    if study.rows and not (study.folder / SPACE_COPY).exists():
        yield Fault(kind="no space", found=f"{SPACE_COPY} is missing; {_AGAIN}")


def _beats(study: Study) -> Iterator[Fault]:
    path = study.folder / BEATS
    fault = file_fault(BEATS, path.read_bytes() if path.exists() else None)
    if study.rows and fault:
        finding = f"{BEATS}, which all predictions refer to, {fault}; {_AGAIN}"
        yield Fault(kind="no beats", found=finding)


def _withdraw(study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
    for fault in faults:
        if fault.trial is not None:
            ledger.withdraw(fault.trial, fault.found)
    return ""


def _say_withdrawn(faults: Sequence[Fault]) -> str:
    reason = f", whose {faults[0].found}" if len(faults) == 1 else ", whose results are lost"
    again = "it" if len(faults) == 1 else "them"
    return f"withdraw the outcome of {trials_of(faults)}{reason}: --resume runs {again} again"


_WITHDRAW = Mend(says=_say_withdrawn, do=_withdraw)


def _results(study: Study, *, deep: bool) -> Iterator[Fault]:
    complete = [row for row in study.rows if row.outcome is Outcome.COMPLETE]
    files = [(row, study.files.folder(row.digest)) for row in complete]
    if files and not any(folder.holds(name) for _, folder in files for name in RESULTS):
        # A wrong --storage is likelier than the loss of all results: nothing is withdrawn.
        yield Fault(
            kind="no results at all",
            found=f"{shown(study.files.root)} has no file of any complete trial; give the "
            "--storage that the study was started with, or bring the folder back from a copy",
        )
        return
    for row, folder in files:
        yield from _results_of(row, folder, deep=deep)


def _results_of(row: TrialRow, folder: Storage, *, deep: bool) -> Iterator[Fault]:
    try:
        if deep:
            wrong = {name: file_fault(name, folder.read(name)) for name in RESULTS}
            if not any(wrong.values()):
                wrong[SCORES] = _other_scores(row, folder)
        else:
            wrong = {name: "" if folder.holds(name) else "is missing" for name in RESULTS}
    except OSError as error:
        finding = f"its files cannot be read ({redact(error, folder.root)})"
        yield Fault(kind="unreadable results", found=finding, trial=row.number, digest=row.digest)
        return
    if finding := "; ".join(f"{name} {fault}" for name, fault in wrong.items() if fault):
        yield Fault(
            kind=LOST_RESULTS, found=finding, trial=row.number, digest=row.digest, mend=_WITHDRAW
        )


def _other_scores(row: TrialRow, folder: Storage) -> str:
    """Say where a trial's file of scores differs from the storage."""
    scores = json.loads(folder.read(SCORES) or b"{}")
    in_file = scores.get(METRICS, {}) if isinstance(scores, dict) else {}
    for name, value in row.metrics.items():
        # The storage also has metrics logged during training, such as the last epoch's loss.
        if name in in_file and in_file[name] != value:
            return f"has {name} {in_file[name]}, the Optuna storage has {value}"
    return ""


def _delete(study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
    for fault in faults:
        if fault.digest:
            study.files.folder(fault.digest).delete(fault.target)
        else:
            Path(fault.target).unlink(missing_ok=True)
    return ""


def _say_deleted(faults: Sequence[Fault]) -> str:
    names = (f"{f.target} of trial {f.trial}" if f.digest else f.target for f in faults)
    return f"delete {first_few(names, SHOWN)}"


_DELETE = Mend(says=_say_deleted, do=_delete, at_start=True)


def _checkpoints(study: Study) -> Iterator[Fault]:
    if study.held:  # the driver deletes one just after it has settled the trial
        return
    for row in study.rows:
        if study.files.folder(row.digest).holds(CHECKPOINT):
            yield Fault(
                kind="checkpoint of a settled trial",
                found=f"is {row.outcome}, and its {CHECKPOINT} is still there",
                trial=row.number,
                digest=row.digest,
                target=CHECKPOINT,
                mend=_DELETE,
            )


def _leftovers(study: Study) -> Iterator[Fault]:
    if study.held:
        return
    for path in leftovers(study.folder, study.files.root):
        inside = path.is_relative_to(study.folder)
        name = path.relative_to(study.folder) if inside else path
        yield Fault(
            kind="half a file",
            found=f"{name} was left half written; nothing reads it",
            target=str(path),
            mend=_DELETE,
        )


def _write_table(study: Study, ledger: Ledger, faults: Sequence[Fault]) -> str:
    write_whole(study.folder / TRIALS, trials_csv(ledger.trials().rows))
    return ""


_TABLE = Mend(
    says=lambda faults: f"write {TRIALS} again from the storage", do=_write_table, at_start=True
)


def _table(study: Study) -> Iterator[Fault]:
    """Compare `trials.csv`, which every start writes as it ends, with the storage."""
    if study.held or not study.rows:
        return
    path = study.folder / TRIALS
    if not path.exists():
        yield Fault(kind="no table", found=f"{TRIALS} is missing", mend=_TABLE)
    elif path.read_text() != trials_csv(study.rows):
        yield Fault(kind="other table", found=f"{TRIALS} differs from the storage", mend=_TABLE)
