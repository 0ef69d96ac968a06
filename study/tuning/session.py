"""One start of a study's driver: opens what it needs, runs the trials, closes what it opened."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial

from study.addresses import shown
from study.data.prepare import draw_templates
from study.errors import StudyStateError
from study.files import write_whole
from study.keys import UNRANKED, Outcome
from study.spaces.optuna_space import make_sampler
from study.spaces.settings import SAMPLED
from study.store.admission import Before, admit, begin
from study.store.beats_file import (
    TEMPLATE_MEANS,
    write_beats,
    write_exclusions,
    write_template_means,
)
from study.store.floors import study_floors
from study.store.folder import BEATS, COMMAND, PLUGINS, SPACE_COPY, TRIALS
from study.store.ledger import Ledger
from study.store.optuna_storage import storage_fault
from study.store.scratch import sweep
from study.store.study import Places, Study
from study.store.trials import CLOSED, EXHAUSTED, TRACKER, TrialRow, trials_csv
from study.tracking.experiment import Experiment
from study.tracking.mirror import PATIENCE_S, Mirror, Mirrored
from study.tuning.conductor import Conductor
from study.tuning.estimate import epochs_left
from study.tuning.machine import provenance
from study.tuning.progress import Progress
from study.tuning.proposals import Proposals
from study.tuning.ray_session import place_of, ray_session
from study.tuning.ray_tune import StopSignal, catching_signals, run_trials
from study.tuning.resources import Demand
from study.tuning.setup import Setup
from study.wording import plural

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a study runs; none of this shapes its results."""

    places: Places  # where the study's records are
    resume: bool  # whether an unfinished study is continued
    retry_failed: bool = False  # whether failed trials are tried again
    demand: Demand  # resources that each trial should get
    address: str | None  # Ray cluster to attach to; None starts a local one
    deadline_s: float | None = None  # seconds from `began` after which it stops; None is no limit
    trial_limit_s: float | None = None  # seconds that a trial may take; None is no limit
    quiet: bool  # whether no progress is printed
    earlier: Sequence[FrozenTrial] = ()  # trials of another study that inform the sampler
    command: str = ""  # the command line, which the folder keeps; empty keeps an earlier one
    at_once: int = 1  # trials that will run at once
    epoch_s: float = math.nan  # estimated seconds of an epoch of a trial; NaN if unknown
    began: float  # `time.monotonic()` at which the command started


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a start ended. The study's own content is read from the study."""

    stop: StopSignal = field(default_factory=StopSignal)  # why it ended before the study was done
    repeated: bool = False  # whether the study was already done, so that this start ran nothing
    # Share of the wall time that was neither training nor evaluation; NaN if unknown
    overhead: float = math.nan
    tracking: Mirrored = Mirrored()  # what MLflow got, and what it may still lack


def open_ledger(setup: Setup, places: Places, before: Before | None) -> Ledger:
    """Open the study's ledger with the sampler and pruner of its plan."""
    plan = setup.plan
    places.folder.mkdir(parents=True, exist_ok=True)
    # Each start has another seed: a resumed sampler must not repeat its first random draws.
    seed = plan.study_seed + (len(before.study.trials.all) if before else 0)
    sampler = make_sampler(plan.sampler if plan.kind == "search" else "random", seed, setup.space)
    return Ledger(
        storage_url=places.url,
        name=plan.name,
        sampler=sampler,
        epochs=plan.epochs,
        objective=plan.objective,
        reduction_factor=plan.reduction_factor if plan.scheduler == "asha" else None,
    )


def run_study(setup: Setup, options: Options, experiment: Experiment | None) -> Summary:
    """Run a study's remaining trials; with `--no-track` there is no experiment.

    Raises:
        StudyStateError: If the folder's study does not allow this start, or its Optuna storage
            rejects a write.
        TrackingError: If the tracking store cannot be used.
        DiskError: If a file of the study cannot be written.
    """
    sweep()
    url = options.places.url
    try:
        before = admit(
            setup.plan, options.places, resume=options.resume, space_text=setup.space.text
        )
        ledger = open_ledger(setup, options.places, before)
        try:
            begin(setup.plan, options.places, ledger, before)
            if options.command:
                write_whole(options.places.folder / COMMAND, options.command + "\n")
            if options.earlier:
                ledger.inform(options.earlier)
            return _run_study(setup, options, experiment, ledger)
        finally:
            ledger.release()
            # Processes of a killed start may still have written while this start began.
            sweep()
    except UpdateFinishedTrialError as error:
        raise StudyStateError(
            f"study '{setup.plan.name}': another process ended a trial that ran here ({error}); "
            "let only one process run the study, then continue it by the same command with "
            "--resume"
        ) from None
    except StorageInternalError as error:
        raise StudyStateError(
            f"{shown(url)}: the Optuna storage rejected a write ({storage_fault(error, url)}); "
            "earlier records are kept: mend this, then the same command with --resume continues"
        ) from None


def _run_study(
    setup: Setup, options: Options, experiment: Experiment | None, ledger: Ledger
) -> Summary:
    plan, folder = setup.plan, options.places.folder
    if options.retry_failed:
        for row in ledger.trials().rows:
            if row.outcome is Outcome.FAILED:
                ledger.withdraw(row.number, f"--retry-failed, after: {row.cause}")
    trials = ledger.trials()
    _write_files(setup, folder)
    done = len(trials.counted) >= plan.trials or trials.exhausted
    progress = Progress(
        total=plan.trials,
        done=len(trials.counted),
        objective=plan.objective,
        epochs=epochs_left(setup.space, plan, trials),
        epoch_s=options.epoch_s,
        slots=options.at_once,
        arms=setup.space.arm_configurations(),
        place=place_of,
        quiet=options.quiet,
    )
    if done and ledger.noted(CLOSED):
        _floors(setup, folder, progress)
        progress.close()
        mirror = _mirror(setup, options, experiment, ledger)
        return Summary(repeated=True, tracking=mirror.finish() if mirror else Mirrored())
    ledger.note(CLOSED, False)
    ledger.begin_start(provenance(setup.job.device))
    mirror = _mirror(setup, options, experiment, ledger)
    conductor = Conductor(
        plan=plan,
        proposals=Proposals(setup.space, seed=plan.study_seed),
        ledger=ledger,
        progress=progress,
        storage=setup.job.storage,
        changed=mirror.trial_changed if mirror else lambda digest: None,
        trial_limit_s=options.trial_limit_s,
    )
    _announce(setup, progress, settled=len(trials.rows), owed=conductor.owed)
    stop, concurrency, floors_s, tracking = StopSignal(), 0, 0.0, Mirrored()
    progress.open()
    try:
        # Before the trials, so that the page of a running study has them. Not in a thread beside
        # them: Ray forks as it starts its processes, and a fork while BLAS computes hangs.
        floors_s = _floors(setup, folder, progress)
        if not done:
            progress.phase("starting Ray")
            concurrency = _run_trials(conductor, setup, options, stop)
    except BaseException as error:
        stop.cause = stop.cause or f"{type(error).__name__}: {error}"
        raise
    finally:
        progress.close()
        overhead = _overhead(conductor, concurrency, options.began + floors_s)
        _close(setup, folder, ledger, conductor, stop, overhead)
        if mirror is not None:
            tracking = mirror.finish(0.0 if stop.at_once else PATIENCE_S)
    return Summary(stop=stop, overhead=overhead, tracking=tracking)


def _write_files(setup: Setup, folder: Path) -> None:
    """Write beats, space and the like: even a complete study's start restores lost ones."""
    write_beats(folder / BEATS, setup.beats, setup.job.folds, setup.source.patients)
    write_exclusions(folder, setup.beats)
    if not (folder / TEMPLATE_MEANS).exists():
        if means := draw_templates(setup.source, setup.job.beats):
            write_template_means(folder, means)
    write_whole(folder / SPACE_COPY, setup.space.text)
    for plugin in setup.job.plugins:
        write_whole(folder / PLUGINS / plugin.file, plugin.text)


def _announce(setup: Setup, progress: Progress, *, settled: int, owed: int) -> None:
    """Say what earlier starts have settled."""
    plan = setup.plan
    if not (settled or owed):
        return
    progress.line(
        f"resuming '{plan.name}': {settled} of {plural(plan.trials, 'trial')} settled, "
        f"{owed} interrupted"
    )
    if plan.sampler in SAMPLED and plan.kind == "search":
        progress.line(
            f"{plan.sampler} may now propose other points than it would have without "
            "the interruption"
        )


def _close(
    setup: Setup,
    folder: Path,
    ledger: Ledger,
    conductor: Conductor,
    stop: StopSignal,
    overhead: float,
) -> None:
    """Record how a start ended."""
    trials = ledger.trials()
    rows = trials.rows
    if not (stop.cause or conductor.exhausted or len(trials.counted) >= setup.plan.trials):
        stop.cause, stop.faulty = "Ray ended the run early", True
    write_whole(folder / TRIALS, trials_csv(rows))
    ledger.end_start(
        Outcome.STOPPED if stop.cause else Outcome.COMPLETE,
        _study_metrics(rows, setup.plan.objective) | {"orchestration_share": overhead},
    )
    # Known only now: a trial that was running when the space ran out may have been interrupted.
    ledger.note(EXHAUSTED, conductor.exhausted and not stop.cause)
    ledger.note(CLOSED, True)


def _mirror(
    setup: Setup, options: Options, experiment: Experiment | None, ledger: Ledger
) -> Mirror | None:
    """Return the mirror that keeps MLflow equal to the study; None where nothing is tracked."""
    if experiment is None:
        return None
    earlier_store, name = ledger.noted(TRACKER), experiment.store.name
    if earlier_store != name:
        if earlier_store:
            _logger.warning(
                "tracking: %s has the study so far; %s gets all of it, from the beginning",
                earlier_store,
                name,
            )
        ledger.note(TRACKER, name)
    places, plan = options.places, setup.plan

    def read() -> Study:
        try:
            return Study(places=places, plan=plan, held=True, trials=ledger.trials())
        except StorageInternalError as error:
            # The driver meets the same fault, and ends the study.
            fault = storage_fault(error, places.url)
            raise StudyStateError(f"{shown(places.url)}: {fault}") from None

    return Mirror(experiment, read)


def _run_trials(conductor: Conductor, setup: Setup, options: Options, stop: StopSignal) -> int:
    """Run the trials; return how many ran at once."""
    size = setup.job.nbytes
    deadline = options.began + options.deadline_s if options.deadline_s else None
    with catching_signals(stop):
        try:
            with ray_session(options.demand, options.address, size) as resources:
                run_trials(
                    conductor,
                    setup.job,
                    resources,
                    stop=stop,
                    deadline=deadline,
                    demand=options.demand if options.address else None,
                )
                return resources.concurrency
        except KeyboardInterrupt as interrupt:
            stop.interrupted = True
            stop.cause = stop.cause or f"{interrupt or 'interrupt'} received"
    return 0


def _floors(setup: Setup, folder: Path, progress: Progress) -> float:
    """Compute the floors that the folder lacks, and print notes; return the seconds it took."""
    if setup.plan.objective == UNRANKED:  # nothing is ranked against them
        return 0.0
    beats, folds = setup.floor_beats, setup.job.folds
    floors = study_floors(beats, folds, folder, setup.cache_dir, progress.phase)
    for floor in floors:
        if floor.missing:
            progress.line(f"note: no {floor.label}: {floor.missing}")
    took_s = sum(floor.seconds for floor in floors)
    if took_s:
        progress.line(f"floors: fitted in {took_s:.1f} s")
    return took_s


def _overhead(conductor: Conductor, concurrency: int, began: float) -> float:
    """Return the share of slot time that was neither training nor evaluation.

    Slots that are idle while the last trials run do not count.
    """
    now = time.monotonic()
    slots = min(concurrency, conductor.begun)
    last = conductor.ended_at[-slots:] if slots else []
    if not last:
        return float("nan")
    idle = sum(max(last) - moment for moment in last)
    slot_seconds = slots * (now - began) - idle
    return max(0.0, 1.0 - conductor.busy_s / slot_seconds)


def _study_metrics(rows: Sequence[TrialRow], objective: str) -> dict[str, float]:
    outcomes = [row.outcome for row in rows]
    counts = {f"trials_{name}": float(outcomes.count(name)) for name in Outcome}
    values = [row.metric(objective) for row in rows if row.ranks(objective)]
    ranked = values and objective != UNRANKED
    return counts | ({f"best_{objective}": max(values)} if ranked else {})
