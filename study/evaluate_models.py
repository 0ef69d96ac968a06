"""What the sealed test's command line does with a plan's models: train, register, test elsewhere.

`--records` and `--register` of `python -m study.evaluate` are here; DS2 is not read for either.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import StudyStateError, TrackingError
from study.keys import EXPERIMENTS

if TYPE_CHECKING:
    from study.data.source import External
    from study.sealed.external import ExternalSet
    from study.sealed.folder import EvaluationFolder
    from study.sealed.plan import SealedPlan
    from study.sealed.preparation import Prepared
    from study.sealed.records import Records
    from study.sealed.retrain import Job
    from study.store.storage import Storage
    from study.tracking.experiment import Experiment
    from study.tracking.openings import Opening


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that a plan's models are trained from.

    Args:
        plan: The plan.
        folder: Where its models go.
        records: DS1, and what the files of DS2 are.
        study: Folder of the study that the plan comes from.
        storage: Where that study's trials keep their files.
        job: What the models are trained with.
        cache_dir: Folder of prepared beats.
    """

    plan: SealedPlan
    folder: EvaluationFolder
    records: Records
    study: Path | None
    storage: Storage | None
    job: Job
    cache_dir: Path

    def text(self) -> str:
        """Say what would be trained."""
        from study.sealed.dry_run import describe

        return describe(self.plan, self.job, self.records, self.study, self.storage)

    def prepare(self, args: argparse.Namespace) -> Prepared:
        """Train what is not trained; the folder must be locked."""
        from study.sealed.preparation import prepare_models

        self.folder.write("plan.toml", self.plan.text())
        return prepare_models(
            self.plan,
            self.job,
            self.folder,
            study=self.study,
            storage=self.storage,
            at_once=_at_once(args, self.job.device),
            say=progress(args),
        )


def training_of(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, workspace: Path
) -> Training:
    """Find the records of a plan and what its models are trained with; nothing is written."""
    from study.data.beat_set import default_cache_dir
    from study.models.build_kernels import FOLDER_VARIABLE
    from study.sealed.preparation import check_origin, make_job
    from study.sealed.records import mitdb_records, synthetic_records
    from study.store.plan import git_commit
    from study.training.device import resolve_device

    find = synthetic_records if args.synthetic else mitdb_records
    records = find(args.data_dir, workspace)
    study, storage = check_origin(plan, records, workspace), _storage(args, plan)
    cache_dir = default_cache_dir(workspace)
    os.environ.setdefault(FOLDER_VARIABLE, str(cache_dir / "kernels"))
    device = resolve_device(args.device).type
    job = make_job(plan, records, folder, cache_dir=cache_dir, device=device, commit=git_commit())
    return Training(
        plan=plan,
        folder=folder,
        records=records,
        study=study,
        storage=storage,
        job=job,
        cache_dir=cache_dir,
    )


def on_records(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, workspace: Path
) -> None:
    """Test a plan's models on the records of `--records`, and show the result."""
    from study.data.source import find_external
    from study.sealed import external as sealed

    # All that can be wrong with the records comes before an hour of training.
    external: External = find_external(args.records, leads=args.lead, split_file=args.split)
    training = training_of(args, plan, folder, workspace)
    found = sealed.prepare_external(external, plan, cache_dir=training.cache_dir)
    sealed.check_place(found, folder)
    place = folder.external(found.name)
    if args.dry_run:
        print(f"{training.text()}\ninstead of DS2, which stays closed:\n{found.text()}")
        print(f"the result would go to {place}")
        return
    kind = external.source.kind
    if not args.no_track:
        experiment_of(args, kind).connect()  # a store that cannot be used must not cost an hour
    with folder.locked():
        prepared = training.prepare(args)
        identity = sealed.identity_of(found, prepared)
        if sealed.has_result(folder, found.name, identity):
            print(f"plan {plan.title} has a result on {found.name}: shown as it is")
        else:
            sealed.evaluate_external(plan, prepared, found, folder, say=progress(args))
        _track(args, plan, folder, found)
    show(place)
    if args.synthetic or kind == "synthetic":
        print("these records are SYNTHETIC: the figures say nothing about patients")
    print("DS2 was not opened.")


def register(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, opening: Opening | None
) -> None:
    """Put an arm's seed ensemble into the model registry.

    Args:
        args: The command line.
        plan: The plan.
        folder: Where its models are.
        opening: The last opening that left a result; None if none has.
    """
    from study.models import rules
    from study.sealed.champion import DS2_RESULT, ensemble_of
    from study.tracking import registry

    registry.check_name(args.register)
    ensemble = ensemble_of(plan, args.plan, folder, args.arm, opening)
    about = ensemble.about
    print(f"plan {plan.title}, arm {about['plan_arm']}: {rules.arm(ensemble.config)}")
    print(f"  {len(ensemble.models)} networks, trained on {about['trained_on']}")
    print(f"  result on DS2: {about[DS2_RESULT]}")
    if args.dry_run:
        print(f"would be registered as {args.register}@{registry.CHAMPION}; nothing was")
        return
    registered = registry.register(
        ensemble,
        args.register,
        experiment=EXPERIMENTS["synthetic" if args.synthetic else "mitdb"],
        workspace=Path.cwd(),
        tracking_uri=args.tracking_uri,
    )
    print(registered)
    if args.synthetic:
        print("it was trained on SYNTHETIC records: its classes say nothing about patients")
    print(f"use it: python -m study.predict --model {args.register}@champion --record PATH")


def experiment_of(args: argparse.Namespace, kind: str) -> Experiment:
    """Return where MLflow shows results; `kind` is that of the records."""
    from study.tracking.experiment import Experiment

    # What was learnt on synthetic records never stands among real results.
    name = EXPERIMENTS["synthetic" if args.synthetic else kind]
    return Experiment(tracking_uri=args.tracking_uri, name=name, workspace=Path.cwd())


def track(
    args: argparse.Namespace,
    folder: EvaluationFolder,
    place: Path,
    kind: str,
    record: Callable[[Experiment], str],
) -> None:
    """Record a result that is not in the tracker yet.

    Args:
        args: The command line.
        folder: Of the plan.
        place: Folder of the result.
        kind: That of its records.
        record: Writes it there, and returns its name.
    """
    if args.no_track or folder.is_tracked(place):
        return
    try:
        experiment = experiment_of(args, kind)
        name = record(experiment)
    except TrackingError as error:
        print(f"warning: {error}; the result is kept, and the same command tries again")
        return
    folder.note_tracked(place)
    print(f"look further: {experiment.where(name)}")


def show(place: Path) -> None:
    """Print the tables of a result.

    Raises:
        StudyStateError: If they cannot be read.
    """
    from study.sealed.folder import TABLES

    try:
        print((place / TABLES).read_text())
    except OSError as error:
        raise StudyStateError(f"{place / TABLES}: cannot be read ({error.strerror})") from error
    print(f"files: {place}")


def progress(args: argparse.Namespace) -> Callable[[str], None]:
    """Return what tells the user about progress, on stderr."""
    if args.quiet:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr, flush=True)


def _track(
    args: argparse.Namespace, plan: SealedPlan, folder: EvaluationFolder, found: ExternalSet
) -> None:
    from study.sealed.record import record_external

    track(
        args,
        folder,
        folder.external(found.name),
        found.external.source.kind,
        lambda experiment: record_external(experiment, plan, folder, found.name),
    )


def _storage(args: argparse.Namespace, plan: SealedPlan) -> Storage | None:
    from study.store.storage import Storage

    if not args.storage or plan.origin is None:
        return None
    return Storage.at(args.storage).folder(plan.origin.name)


def _at_once(args: argparse.Namespace, device: str) -> int:
    from study.tuning.resources import Demand, plan_resources

    if device == "cpu":
        return plan_resources(Demand(concurrency=args.concurrency)).concurrency
    return args.concurrency or 1
