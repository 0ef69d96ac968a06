"""Checks a study before a start writes anything, then makes the start's first writes."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.errors import StudyStateError
from study.keys import current_word
from study.store.checks import LOST_RESULTS, SHOWN, Fault, faults, other_claim, refuse, steps
from study.store.folder import CLAIM, SPACE_COPY
from study.store.ledger import Ledger
from study.store.lock import here
from study.store.optuna_storage import read_optuna
from study.store.plan import GROWS, StudyPlan
from study.store.study import Places, Study
from study.store.trials import EXHAUSTED, PLACE, PLAN
from study.wording import first_few

_logger = logging.getLogger(__name__)

_HEADERS = ("---", "+++")
"""Beginnings of the two first lines of a diff, which name its files."""


@dataclass(frozen=True, slots=True)
class Before:
    """A study before a start, and what is wrong with its records."""

    study: Study
    faults: Sequence[Fault]


def admit(plan: StudyPlan, places: Places, *, resume: bool, space_text: str = "") -> Before | None:
    """Refuse a start that does not fit what is there, and write nothing.

    Args:
        plan: What this start would do.
        places: Where the study's records are, or will be.
        resume: Whether `--resume` was given.
        space_text: The space file's text now, to show what changed since the study began.

    Returns:
        The study before this start; None where it is new.

    Raises:
        StudyStateError: If the study exists with another plan, is unfinished and `--resume` was
            not given, runs from a copy of its folder, or has a fault that forbids every start; if
            it is new, but its storage or files belong to another study of the same name.
    """
    if StudyPlan.find(places.folder) is None:
        _, attrs, _ = read_optuna(places.url, plan.name)
        if PLAN in attrs:
            raise StudyStateError(
                f"the Optuna storage holds a study '{plan.name}' that is not of this workspace; "
                "give this one another --name, or start it where it was started"
            )
        refuse(plan.name, list(other_claim(places.files, study_id="")))
        return None
    study = Study.at(places, locked_here=True)
    _admit_plan(plan, study, resume=resume, space_text=space_text)
    _refuse_copy(study)
    _refuse_earlier_words(study)
    study_faults = faults(study, deep=False)
    refuse(study.name, study_faults)
    _name_lost_results(study, study_faults)
    return Before(study, study_faults)


def _admit_plan(plan: StudyPlan, study: Study, *, resume: bool, space_text: str) -> None:
    stored = study.plan
    differing = plan.differences(stored)
    grows = plan.kind == "search" and plan.trials >= stored.trials
    refused = [line for key, line in differing.items() if not (grows and resume and key == GROWS)]
    if refused:
        if "space_digest" in differing:
            refused += _space_changes(study.folder, space_text)
        listing = "\n".join(f"  - {line}" for line in refused)
        hint = ""
        if grows and list(differing) == [GROWS]:
            hint = "; with --resume a search goes on to more trials"
        remedy = f"give this one another --name, or start it with the same options as before{hint}"
        if "version" in differing:
            remedy = (
                f"it was begun by version {stored.version}: continue it with that version, or "
                "give this one another --name"
            )
        elif "torch" in differing:
            remedy = (
                f"it was begun with PyTorch {stored.torch}, and its arms would no longer be "
                f"trained alike: continue it with that (`pip install torch=={stored.torch}`), or "
                "give this one another --name; its report can be written with any version"
            )
        raise StudyStateError(
            f"study '{plan.name}' exists with another plan:\n{listing}\n{remedy}"
        )
    settled = len(study.trials.counted)
    if settled < plan.trials and not (resume or study.trials.exhausted):
        raise StudyStateError(
            f"study '{plan.name}' is unfinished ({settled} of {plan.trials} trials settled): "
            "add --resume to continue it, or give another --name"
        )


def _space_changes(folder: Path, now: str) -> list[str]:
    """Return the lines in which the space differs from that of the study's first start."""
    stored = folder / SPACE_COPY
    if not stored.exists():
        return []
    lines = difflib.unified_diff(stored.read_text().splitlines(), now.splitlines(), n=0)
    return [f"space {line}" for line in lines if line[:1] in "+-" and line[:3] not in _HEADERS]


def _refuse_earlier_words(study: Study) -> None:
    """Refuse to continue a search one of whose values was renamed: Optuna cannot."""
    searched = {value for trial in study.trials.all for value in trial.params.values()}
    if words := sorted(str(word) for word in searched if current_word(word) != word):
        raise StudyStateError(
            f"study '{study.name}' searches over {', '.join(words)}, now called "
            f"{', '.join(map(current_word, words))}: continue it with the version that began it, "
            "or begin it again under another --name; its report can be written with any version"
        )


def _refuse_copy(study: Study) -> None:
    """Refuse a study that a process runs from a copy of this folder.

    A lock guards one folder, but two folders can share a storage elsewhere, such as PostgreSQL.
    """
    if study.copy is None:
        return
    owner, folder = study.copy
    if study.held:
        raise StudyStateError(
            f"study '{study.name}': {owner} runs it in {folder}, with this Optuna storage: wait "
            "for it, stop it, or give this one another --name"
        )
    if owner.runs() is None:
        _logger.warning(
            "study '%s': its last start, %s in %s, did not close it; if that process still "
            "runs, stop one of the two",
            *(study.name, owner, folder),
        )


def _name_lost_results(study: Study, faults: Sequence[Fault]) -> None:
    """Warn of complete trials whose results are gone: tables would leave them out."""
    lost = [
        f"trial {fault.trial}: {fault.found}" for fault in faults if fault.kind == LOST_RESULTS
    ]
    lost += [fault.found for fault in faults if fault.kind == "no results at all"]
    if lost:
        _logger.warning(
            "results are missing (%s); `--status %s` says more, and after `--repair %s` these "
            "trials are run again",
            *(first_few(lost, SHOWN), study.name, study.name),
        )


def begin(plan: StudyPlan, places: Places, ledger: Ledger, before: Before | None) -> None:
    """Record this start's folder and process, and mend what a start may mend."""
    if before is not None and not before.study.plan.torch:
        # A plan of a sealed test may name this older plan by its digest: leave it unchanged.
        plan = replace(plan, torch="")
    plan.save(places.folder)
    places.note()
    ledger.note(PLACE, here(places.folder))
    ledger.note(PLAN, plan.identity())
    if places.files.read(CLAIM) is None:
        places.files.write(CLAIM, ledger.study_id.encode())
    if before is None:
        return
    if plan.trials > before.study.plan.trials:
        # A space that was exhausted may have more for a search that grows.
        ledger.note(EXHAUSTED, False)
    for mend, ended in steps(before.faults):
        if mend.at_start:
            mend.do(before.study, ledger, ended)
