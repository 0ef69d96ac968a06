"""Reads a study in any state, for the console and for its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from study.errors import ComparisonError, StudyError, StudyStateError
from study.files import write_whole
from study.reporting.alarms import Alarm
from study.reporting.arm_runs import arm_runs, floor_runs
from study.reporting.arms import arm_configs, costs_of, explanations_of, facts_of, machine
from study.reporting.comparison_tables import pairs_csv, records_csv
from study.reporting.importance import importance
from study.reporting.prediction_alarms import study_alarms
from study.reporting.results import Explanation, StudyResults
from study.statistics.comparison import compare
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns
from study.store.beats_file import EXCLUSIONS, read_exclusions, read_template_means
from study.store.floors import StudyFloor, stored_floors
from study.store.folder import BEATS, PAIRS, RECORDS, has_trials
from study.store.study import Study

Say = Callable[[str], None]


def load(
    study: Study, say: Say, *, comparing: bool = True, progress: Say | None = None
) -> StudyResults:
    """Return the results of a study's trials: rows, comparison, floors and alarms.

    `say` is called with a message before each step, `progress` with that of a comparison.

    Raises:
        StudyStateError: If its storage, its space or its beats cannot be read.
    """
    if has_trials(study.folder):
        study.readable()
    gaps: dict[str, str] = {}
    has_beats = (study.folder / BEATS).exists()
    if not has_beats:
        gaps["beats"] = f"{BEATS} is missing: its records were not prepared yet"
    floors = stored_floors(study.folder)
    runs: list[ArmRuns] = []
    comparison = None
    if comparing and has_beats and study.arm_trials:
        say("comparing arms")
        runs, comparison = _compared(study, floors, gaps, progress)
    elif comparing:
        gaps["comparison"] = "no trial is complete yet"
    alarms: list[Alarm] = []
    if study.rows and has_beats:
        say("looking for what is wrong")
        alarms = study_alarms(study, comparison=comparison, floors=floors)
    return StudyResults(
        study=study,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        arms=facts_of(arm_configs(study)),
        beats=study.beats if has_beats else None,
        runs=runs,
        comparison=comparison,
        alarms=alarms,
        floors=floors,
        gaps=gaps,
    )


def _compared(
    study: Study, floors: Sequence[StudyFloor], gaps: dict[str, str], progress: Say | None
) -> tuple[list[ArmRuns], Comparison | None]:
    try:
        runs, notes = arm_runs(study)
        floor = floor_runs(study, floors, runs)
    except StudyError as error:
        gaps["comparison"] = str(error)
        return [], None
    try:
        return runs, compare_arms(study, runs, notes, progress, floor=floor)
    except StudyError as error:
        gaps["comparison"] = str(error)
        return runs, None


def compare_arms(
    study: Study,
    runs: list[ArmRuns],
    notes: list[str],
    progress: Say | None = None,
    *,
    floor: ArmRuns | None = None,
) -> Comparison:
    """Compare arms by the study's own objective and contrasts, and with a floor in pairs.

    Raises:
        ComparisonError: If there are fewer than two in a comparison, or they cannot be compared.
    """
    names = {run.name for run in runs}
    searches = study.plan.kind == "search"
    if len(names) < 2 and not searches:
        needed = f"two arms with complete trials are needed, got {len(names)}"
        raise ComparisonError("; ".join([needed, *notes]))
    return compare(
        study.beats,
        runs,
        floor=floor,
        contrasts=[pair for pair in study.space.contrasts if names.issuperset(pair)],
        objective=study.objective,
        choosing=not searches,
        notes=notes,
        progress=progress,
    )


def keep_comparison(study: Study, comparison: Comparison) -> None:
    """Write tables of all pairs and records of a comparison into the study's folder."""
    write_whole(study.folder / PAIRS, pairs_csv(comparison))
    write_whole(study.folder / RECORDS, records_csv(comparison))


def for_page(results: StudyResults, say: Say) -> StudyResults:
    """Add results that only the page shows: exclusions, costs, importance, measurements inside."""
    study, gaps = results.study, dict(results.gaps)
    shares = importance(study.rows, study.objective, study.space, gaps)
    if not study.arm_trials:
        reason = "no trial is complete yet"
        gaps |= {"dropped": reason, "explanations": reason, "floors": reason}
        return replace(results, importance=shares, gaps=gaps)
    dropped = read_exclusions(study.folder)
    if dropped is None:
        gaps["dropped"] = f"{EXCLUSIONS} is missing: the study's next start writes it"
    if not results.floors:
        gaps["floors"] = "they are not computed yet"
    explanations: dict[str, Explanation] = {}
    if results.beats is not None:
        explanations, reason = explanations_of(study)
        if reason:
            gaps["explanations"] = reason
    try:
        templates = read_template_means(study.folder)
    except StudyStateError as error:
        templates, gaps["templates"] = [], str(error)
    say("measuring what networks cost")
    return replace(
        results,
        importance=shares,
        gaps=gaps,
        dropped=dropped or {},
        explanations=explanations,
        templates=templates,
        costs=costs_of(arm_configs(study)),
        timed_on=machine(),
    )
