"""Confirms a search: `python -m study.run --confirm STUDY`.

The best configuration of each of the best arms, and the simplest arm within one standard error of
the best, are compared on fresh seeds and on several fresh fold partitions, with one study for each
partition. With `--epochs` they train for another number of epochs than in the search.
"""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from study.errors import UsageError, listed
from study.files import write_whole
from study.wording import plural

if TYPE_CHECKING:
    from study.data.source import Source
    from study.reporting.confirmation import Confirmed
    from study.store.study import Study
    from study.tuning.confirmation import Pick, Search

Run = Callable[[Namespace, float], int]
"""Runs the study of a command line; the number is its start by `time.monotonic()`."""

_OF_THE_SEARCH = ("space", "trials", "folds", "sampler", "scheduler", "objective")
_CHOSEN_FRESH = ("seed", "partition_seed")
_OF_ALL_STUDIES = ("confirm", "seeds", "epochs", "partitions", "top")
"""Options of the confirmation itself, which its studies do not get."""
_SHORTEST_S = 0.1


def confirm(args: Namespace, began: float, run: Run, *, go_on: Sequence[int]) -> int:
    """Run a confirmation, or its dry run; return the exit code.

    `began` is `time.monotonic()` at its start. After a study that ends with a code of `go_on` the
    next partition runs; any other ends the confirmation.

    Raises:
        UsageError: If options do not go together.
        StudyStateError: If there is nothing to confirm, or another confirmation of that name.
    """
    from study.spaces.load import load_space
    from study.store.folder import study_folder
    from study.store.plan import StudyPlan
    from study.store.scratch import scratch
    from study.tuning.confirmation import (
        MIN_PARTITIONS,
        MIN_SEEDS,
        TOP,
        admit_space,
        fresh_partitions,
        pick,
        space_text,
    )

    _check(args, min_seeds=MIN_SEEDS, min_partitions=MIN_PARTITIONS)
    search = _search(args)
    picks = pick(search, args.top or TOP)
    text = space_text(search, picks, seeds=args.seeds or MIN_SEEDS, epochs=args.epochs)
    name = args.name or f"{args.confirm}-confirm"
    folder = study_folder(Path.cwd(), name)
    numbers = range(1, (args.partitions or MIN_PARTITIONS) + 1)
    studies = [study_folder(Path.cwd(), f"{name}-p{number}") for number in numbers]
    begun = [StudyPlan.find(study) is not None for study in studies]
    space = folder / f"{name.replace('.', '_')}.toml"
    if any(begun):
        admit_space(space, text)
    elif args.resume:
        StudyPlan.load(studies[0])  # raises: there is no such study
    with scratch() as aside:
        # A dry run leaves no files behind.
        path = aside / space.name if args.dry_run else space
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
        partitions = fresh_partitions(
            search.study.beats,
            _source(args, search),
            search.study.plan.fold_fingerprint,
            n_folds=int(load_space(path).folds),
            n=len(studies),
        )
        _announce(search, picks, partitions, args.epochs)
        codes = []
        for study, partition, is_begun in zip(studies, partitions, begun, strict=True):
            now = time.monotonic()
            options = Namespace(**vars(args))
            vars(options).update(dict.fromkeys(_OF_ALL_STUDIES))
            options.space, options.name, options.partition_seed = str(path), study.name, partition
            options.seed = search.study.plan.study_seed + 1
            options.resume = args.resume and is_begun
            options.time_limit = _left(args.time_limit, now - began)
            print(f"\npartition seed {partition}: study '{study.name}'")
            codes.append(run(options, now))
            if args.dry_run:
                print(f"and so for each of {plural(len(studies), 'partition')}")
                return codes[0]
            if codes[-1] not in go_on:
                return codes[-1]
    print("\n" + _table(args, search, picks, studies))
    return max(codes)


def _left(limit_s: float | None, used_s: float) -> float | None:
    """Return the rest of a time limit; a study that begins gets at least a moment."""
    return max(_SHORTEST_S, limit_s - used_s) if limit_s else limit_s


def _check(args: Namespace, *, min_seeds: int, min_partitions: int) -> None:
    from study.config import PARAMETERS, value_faults

    given = [name for name in _OF_THE_SEARCH if getattr(args, name) is not None]
    given += [name for name in _CHOSEN_FRESH if getattr(args, name)]
    option = {name: f"--{name.replace('_', '-')}" for name in given}
    faults = [
        f"{option[name]}: does not go with --confirm, which "
        + ("takes it from the search" if name in _OF_THE_SEARCH else "takes one that is fresh")
        for name in given
    ]
    for name, least in (("seeds", min_seeds), ("partitions", min_partitions), ("top", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            faults.append(f"--{name}: a confirmation needs {least} or more, got {value}")
    if args.epochs is not None:
        faults += value_faults("epochs", args.epochs, PARAMETERS["epochs"])
    if faults:
        raise UsageError(listed(f"--confirm {args.confirm}", faults))


def _search(args: Namespace) -> Search:
    from study.tuning.confirmation import read_search

    study = _open(args, args.confirm)
    search = read_search(study)
    if study.unfinished:
        print(
            f"warning: '{study.name}' is unfinished ({len(study.rows)} of {study.plan.trials} "
            "trials settled): the complete search may find better ones"
        )
    return search


def _open(args: Namespace, name: str) -> Study:
    from study.store.study import Study

    return Study.open(
        Path.cwd(), name, study_storage=args.study_storage, storage=args.storage
    ).readable()


def _source(args: Namespace, search: Search) -> Source:
    from study.data.source import source_asked

    source = source_asked(args)
    kind = search.study.plan.data_source
    if source.kind != kind:
        raise UsageError(
            f"--confirm {search.study.name}: it ran on records of '{kind}', but these are of "
            f"'{source.kind}' (--data)"
        )
    return source


def _announce(
    search: Search, picks: Sequence[Pick], partitions: Sequence[int], epochs: int | None
) -> None:
    study, seeds = search.study, ", ".join(map(str, partitions))
    print(
        f"confirming '{study.name}': {plural(len(picks), 'configuration')} on partition seeds "
        f"{seeds} and study seed {study.plan.study_seed + 1}"
        + (f", epochs: {epochs}" if epochs else "")
    )
    for chosen in picks:
        rule = " (simplest within one standard error of the best)" if chosen.simplest else ""
        print(f"  trial {chosen.row.number:>3}  {chosen.row.arm}{rule}")


def _table(args: Namespace, search: Search, picks: Sequence[Pick], studies: Sequence[Path]) -> str:
    from study.reporting.confirmation import Confirmed, confirmation_text

    objective = search.study.objective
    scored = [_open(args, study.name).arm_scores for study in studies]
    arms = [
        Confirmed(
            arm=chosen.name,
            searched=chosen.row.metric(objective),
            values=tuple(scores.get(chosen.name, math.nan) for scores in scored),
        )
        for chosen in picks
    ]
    workspace = studies[0].parent
    return confirmation_text(
        arms,
        _floor([workspace / args.confirm, *studies], objective),
        search=search.study.name,
        objective=objective,
        reference=next(chosen.name for chosen in picks if chosen.simplest),
        epochs=_epochs(picks, args.epochs),
    )


def _epochs(picks: Sequence[Pick], asked: int | None) -> str:
    """Name the epochs of the search and of the confirmation, if they differ."""
    searched = sorted({chosen.config.train.epochs for chosen in picks})
    if asked is None or searched == [asked]:
        return ""
    return f"{' and '.join(map(str, searched))}, here {asked}"


def _floor(folders: Sequence[Path], objective: str) -> Confirmed | None:
    """Return the floor with the highest mean score over a search and its confirmations, or None.

    The search counts as one of them, so that the change of the floor comes from the folds alone.
    """
    from study.reporting.confirmation import Confirmed
    from study.store.floors import stored_floors

    scores = [
        {floor.label: floor.metrics.get(objective, math.nan) for floor in stored_floors(folder)}
        for folder in folders
    ]
    floors = []
    for label in scores[-1]:
        searched, *confirmed = (of_study.get(label, math.nan) for of_study in scores)
        if all(map(math.isfinite, confirmed)):
            floors.append(Confirmed(arm=label, searched=searched, values=tuple(confirmed)))
    return max(floors, key=_mean_of_all, default=None)


def _mean_of_all(floor: Confirmed) -> float:
    return fmean(filter(math.isfinite, (floor.searched, *floor.values)))
