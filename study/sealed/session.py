"""What the command of the sealed test does for one plan: find records, train, track, show."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study.data.source import Source
from study.errors import StudyStateError, TrackingError
from study.sealed.bxb import bxb_table
from study.sealed.plan import SealedPlan
from study.sealed.records import Asked, Records, canonical, find_records
from study.sealed.result import TABLES, EvaluationFolder, openings_log
from study.sealed.to_mlflow import record_opening
from study.sealed.training import RunStudy, Training, set_up_training
from study.store.openings import DS2, Opening, OpeningsLog
from study.store.study import Places
from study.tracking.experiment import Experiment
from study.tuning.machine import Machine
from study.tuning.session import Options, Summary, run_study
from study.tuning.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of the command for a plan."""

    args: argparse.Namespace
    plan: SealedPlan
    workspace: Path

    @property
    def test_set(self) -> str:
        """Name of the test set."""
        if self.args.test is None:
            return DS2
        return canonical(self.args.test, self.args.split)

    @property
    def folder(self) -> EvaluationFolder:
        """Where models and results are."""
        rehearsal = self.args.synthetic
        return EvaluationFolder.of(
            self.workspace, self.plan, rehearsal=rehearsal, test_set=self.test_set
        )

    @property
    def log(self) -> OpeningsLog:
        """The openings of the test set."""
        return openings_log(self.workspace, self.test_set, rehearsal=self.args.synthetic)

    @property
    def machine(self) -> Machine:
        """Where models are trained."""
        return Machine.of(self.args, self.workspace)

    def records(self) -> Records:
        """Find what trains and the test set, or their synthetic stand-ins."""
        args = self.args
        own = (args.records, args.split) if args.test is not None and args.records else None
        asked = Asked(
            developments=tuple(self.plan.developments),
            test_set=self.test_set,
            data_dirs=args.data_dir,
            own=own,
            synthetic=args.synthetic,
            workspace=self.workspace,
        )
        return find_records(asked)

    def training(self) -> Training:
        """Find the records and set up training, without writing anything."""
        if self.plan.caution:
            print(f"warning: {self.plan.caution}")
        return set_up_training(
            self.plan,
            self.folder,
            self.records(),
            workspace=self.workspace,
            cache_dir=self.machine.cache_dir,
            device=self.machine.device,
            storage=self.args.storage or "",
        )

    def runner(self, training: Training) -> RunStudy:
        """Return a function that runs a study of the models; check its options before training."""
        args, machine = self.args, self.machine
        shared = bool(args.storage)
        machine.reach()
        for group in training.groups:
            machine.room_for(machine.demand(group.models, shared_storage=shared))
        if args.storage:
            training.groups[0].models.job.storage.probe()
        experiment = None
        if not args.no_track:
            experiment = self.experiment(training.records.kind)
            experiment.connect()

        def run(setup: Setup, places: Places) -> Summary:
            options = Options(
                places=places,
                resume=True,
                demand=machine.demand(setup, shared_storage=shared),
                address=args.address,
                quiet=args.quiet,
                began=time.monotonic(),
            )
            return run_study(setup, options, experiment)

        return run

    def track_opening(self, opening: Opening) -> None:
        """Track the result of an opening."""
        place, kind = self.folder.opening(opening), str(opening.content.get("records"))
        self.track(
            place,
            kind,
            lambda experiment: record_opening(experiment, self.plan, self.folder, opening),
        )

    def track(self, place: Path, kind: str, record: Callable[[Experiment], str]) -> None:
        """Track a result that is not in the tracker yet; `kind` is the kind of its records."""
        if self.args.no_track or self.folder.is_tracked(place):
            return
        try:
            experiment = self.experiment(kind)
            name = record(experiment)
        except TrackingError as error:
            print(f"warning: {error}; the result is kept, and the same command tries again")
            return
        self.folder.note_tracked(place)
        print(f"look further: {experiment.where(name)}")

    def experiment(self, kind: str) -> Experiment:
        """Return the MLflow experiment for results; `kind` is the kind of the records."""
        kind = "synthetic" if self.args.synthetic else kind
        return Experiment.of_records(kind, self.args.tracking_uri)

    def show(self, place: Path, source: Callable[[], Source]) -> None:
        """Print the result in a folder; `source` finds its records, which `--ec57 bxb` reads."""
        try:
            print((place / TABLES).read_text())
        except OSError as error:
            raise StudyStateError(
                f"{place / TABLES}: cannot be read ({error.strerror})"
            ) from error
        print(f"files: {place}")
        if self.args.ec57 == "bxb":
            print(f"{bxb_table(self.plan, place, source()).text()}\n")

    def say(self, text: str) -> None:
        """Print progress to stderr."""
        if not self.args.quiet:
            print(text, file=sys.stderr, flush=True)
