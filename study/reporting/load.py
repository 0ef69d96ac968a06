"""A study in any state read back for its page: trials, curves, predictions, floors and alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from study.config import TrialConfig
from study.errors import StudyError, StudyStateError, UsageError
from study.reporting import exclusions
from study.reporting.arms import costs_of, facts_of, machine
from study.reporting.explanations import read_explanations
from study.reporting.importance import importance
from study.reporting.results import Explanation, StudyResults
from study.reporting.stored import gather_arms, read_beats
from study.reporting.study_alarms import study_alarms
from study.spaces.load import load_space, override
from study.spaces.space import Space
from study.statistics.comparison import compare
from study.statistics.predictions import ArmRuns, Beats
from study.store.floors import FLOORS
from study.store.folder import BEATS, SPACE_COPY, holder, studies
from study.store.history import starts_of
from study.store.ledger import Ledger
from study.store.plan import load_plan
from study.store.storage import Storage
from study.store.study_floors import StudyFloor, stored_metrics
from study.store.trial_files import PREDICTIONS, read_predictions
from study.store.trials import EXHAUSTED, TrialRow
from study.wording import plural

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class ReadStudy:
    """What the files of a study hold.

    Args:
        folder: The study's folder.
        plan: Its plan.
        space: Its space, with the plan's epochs and seeds.
        storage: Where its trials' files are.
        rows: Settled trials.
        configs: Configuration of each arm's first trial, or of the trial that stands for it.
        beats: What trials predict; None before the first start has prepared them.
        shown: The trial that stands for each arm: its first draw, or the best of a search.
        gaps: Why something is not there.
        study_id: Its identity in trackers; empty before its first start.
        about: Commit, versions and device of its last start.
    """

    folder: Path
    plan: Mapping[str, Any]
    space: Space
    storage: Storage
    rows: tuple[TrialRow, ...] = ()
    configs: dict[str, TrialConfig] = field(default_factory=dict)
    shown: dict[str, TrialRow] = field(default_factory=dict)
    beats: Beats | None = None
    gaps: dict[str, str] = field(default_factory=dict)
    study_id: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


def read_results(
    folder: Path,
    *,
    storage_url: str,
    storage: Storage,
    say: Say,
) -> tuple[ReadStudy, StudyResults]:
    """Read a study and compute what its page shows.

    Args:
        folder: The study's folder.
        storage_url: SQLAlchemy URL of its Optuna storage.
        storage: Where its trials' files are.
        say: Told what is being done.

    Raises:
        UsageError: If there is no such study.
        StudyStateError: If its plan or its storage cannot be read.
    """
    study = _open(folder, storage)
    ledger = _ledger(study, storage_url)
    curves: Mapping[int, Mapping[int, float]] = {}
    rungs, owed, exhausted = None, int(study.plan["trials"]), False
    if ledger is not None:
        study.study_id = ledger.study_id
        for start in starts_of(ledger.trials().attrs):
            study.about = start.about
        settled = ledger.trials().proposals
        study.rows = tuple(row for row, _ in settled)
        configs = {row.number: proposal.config for row, proposal in settled}
        _choose(study, configs)
        curves = ledger.trials().curves
        exhausted = bool(ledger.noted(EXHAUSTED))
        owed = 0 if exhausted else max(0, int(study.plan["trials"]) - len(study.rows))
        rungs = ledger.trials().rung_correlation() if study.plan["scheduler"] == "asha" else None
    _, running = holder(folder)
    plan = study.plan
    results = StudyResults(
        name=str(plan["name"]),
        description=study.space.description,
        plan=plan,
        state="running" if running else "unfinished" if owed else "complete",
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=study.rows,
        owed=owed,
        curves=curves,
        arms=facts_of(study.configs),
        reference=study.space.reference,
        beats=study.beats,
        gaps=study.gaps,
    )
    if study.shown:
        results = with_measurements(study, results, say)
    else:
        reason = "no trial is complete yet"
        study.gaps |= {"dropped": reason, "explanations": reason, "floors": reason}
    return study, _computed(study, results, rungs, say)


def with_measurements(study: ReadStudy, results: StudyResults, say: Say) -> StudyResults:
    """Return the results with exclusions, costs, and what trials measured inside networks."""
    dropped = exclusions.stored(study.folder)
    if dropped is None:
        study.gaps["dropped"] = f"{exclusions.FILE} is not there: the study's next start writes it"
    if not _floors(study):
        study.gaps["floors"] = "they are not computed yet"
    explanations: dict[str, Explanation] = {}
    if study.beats is not None:
        explanations, absent = read_explanations(
            study.shown, study.configs, study.storage, n_beats=len(study.beats.label)
        )
        if absent:
            reasons = [f"{arm}: {reason}" for arm, reason in absent.items()]
            study.gaps["explanations"] = "; ".join(reasons)
    say("measuring what networks cost")
    return replace(
        results,
        dropped=dropped or {},
        explanations=explanations,
        costs=costs_of(study.configs),
        timed_on=machine(),
    )


def _floors(study: ReadStudy) -> list[StudyFloor]:
    floors = [
        StudyFloor(name=name, digest="", metrics=stored_metrics(study.folder, name))
        for name in FLOORS
    ]
    return [floor for floor in floors if floor.metrics]


def _computed(
    study: ReadStudy, results: StudyResults, rungs: tuple[float, int] | None, say: Say
) -> StudyResults:
    floors = _floors(study)
    runs, notes = _runs(study)
    comparison = None
    if runs and study.beats is not None:
        say(f"comparing {plural(len(runs), 'arm')}")
        try:
            comparison = compare(
                study.beats,
                runs,
                contrasts=[
                    pair
                    for pair in study.space.contrasts
                    if {run.name for run in runs}.issuperset(pair)
                ],
                objective=results.objective,
                choosing=not results.searches,
                notes=notes,
            )
        except StudyError as error:
            study.gaps["comparison"] = str(error)
    intervals = None
    if comparison is not None and not results.searches:
        quantity = results.objective.rsplit("_", 1)[1]
        intervals = {
            arm.name: (arm.estimates[quantity].low, arm.estimates[quantity].high)
            for arm in comparison.arms
            if np.isfinite(arm.estimates[quantity].low)
        } or None
    alarms: Sequence[Any] = ()
    if study.rows and study.beats is not None:
        say("looking for what is wrong")
        alarms = study_alarms(
            study.space,
            study.rows,
            study.storage,
            study.beats.fold,
            floors=floors,
            rungs=rungs,
            intervals=intervals,
        )
    return replace(
        results,
        runs=runs,
        comparison=comparison,
        alarms=alarms,
        floors={floor.label: floor.metrics for floor in floors},
        importance=importance(study.rows, results.objective, study.space, study.gaps),
    )


def _open(folder: Path, storage: Storage) -> ReadStudy:
    plan = load_plan(folder)
    if plan is None:
        there = ", ".join(str(found["name"]) for found in studies(folder.parent.parent))
        raise UsageError(
            f"--study: there is no study '{folder.name}' in {folder.parent}; "
            f"there is: {there or 'none'}"
        )
    if not (folder / SPACE_COPY).exists():
        raise StudyStateError(f"{folder}: has no {SPACE_COPY}; its study never got to a trial")
    # All that the command line may have changed and that epochs must go with.
    searches = {"sampler": plan["sampler"], "scheduler": plan["scheduler"]}
    space = override(
        load_space(folder / SPACE_COPY),
        epochs=plan["epochs"],
        seeds=plan["n_seeds"],
        **(searches if plan["kind"] == "search" else {}),
    )
    study = ReadStudy(folder=folder, plan=plan, space=space, storage=storage)
    if (folder / BEATS).exists():
        study.beats = read_beats(folder / BEATS)
    else:
        study.gaps["beats"] = f"{BEATS} is not there: its records were not prepared yet"
    return study


def _ledger(study: ReadStudy, storage_url: str) -> Ledger | None:
    """Return the ledger, None where the study has none yet: reading must not make one."""
    place = storage_url.removeprefix("sqlite:///")
    if place != storage_url and not Path(place).exists():
        return None
    plan = study.plan
    return Ledger(
        storage_url=storage_url,
        name=str(plan["name"]),
        epochs=int(plan["epochs"]),
        reduction_factor=plan["reduction_factor"] if plan["scheduler"] == "asha" else None,
    )


def _choose(study: ReadStudy, configs: Mapping[int, TrialConfig]) -> None:
    """Take the trial that stands for each arm: the first draw, or the best of a search."""
    objective = str(study.plan["objective"])
    if study.plan["kind"] == "compare":
        for point in study.space.comparisons():
            study.configs.setdefault(point.arm, point.config)
    for row in study.rows:
        study.configs.setdefault(row.arm, configs[row.number])
        if not row.ranks(objective):
            continue
        best = study.shown.get(row.arm)
        if study.plan["kind"] == "compare":
            better = best is None or (row.draw or 0) < (best.draw or 0)
        else:
            better = best is None or row.metric(objective) > best.metric(objective)
        if better:
            study.shown[row.arm] = row
            study.configs[row.arm] = configs[row.number]


def _runs(study: ReadStudy) -> tuple[list[ArmRuns], list[str]]:
    """Return the predictions that stand for arms, and what a reader has to know of them."""
    if study.beats is None or not study.shown:
        study.gaps.setdefault("comparison", "no trial is complete yet")
        return [], []
    try:
        if study.plan["kind"] == "compare":
            return gather_arms(study.space, study.plan, study.rows, study.beats, study.storage)
        runs = [
            _best_run(study, arm, row, len(study.beats.label)) for arm, row in study.shown.items()
        ]
    except StudyError as error:
        study.gaps["comparison"] = str(error)
        return [], []
    return runs, ["each arm stands by its best trial, which is optimistic: a search has chosen it"]


def _best_run(study: ReadStudy, arm: str, row: TrialRow, n_beats: int) -> ArmRuns:
    arrays = read_predictions(study.storage, row.digest, n_beats=n_beats)
    if arrays is None:
        raise StudyStateError(f"trial {row.number}, {arm}: its {PREDICTIONS} is gone")
    log_probs = arrays["log_probs"]
    config = study.configs[arm]
    return ArmRuns(
        name=arm,
        log_probs=log_probs,
        draw=np.zeros(len(log_probs), dtype=np.int64),
        seed=np.arange(len(log_probs)),
        input=config.signal.input,
        segmentation=config.signal.segmentation,
        fusion=config.model.fusion,
        rr=config.signal.rr,
    )
