"""Turns a search into its confirmation: picks configurations, writes a space, and chooses folds.

A confirmation is one compare study for each fold partition, all with the same arms and seeds. Each
is an ordinary study: it is paired, resumed, recorded and compared by itself.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from study.addresses import shown
from study.config import TrialConfig
from study.data.folds import different_folds
from study.data.source import Source
from study.errors import StudyStateError, UsageError
from study.models.rules import active_parameters, shapes_seen
from study.spaces.toml_text import toml_text_of
from study.statistics.choice import BestOfArm, simplest_of_search
from study.statistics.predictions import Beats
from study.store.study import Study
from study.store.trial_files import SCORES
from study.store.trials import TrialRow
from study.wording import plural

MIN_SEEDS, MIN_PARTITIONS, TOP = 5, 3, 4
DEFAULT_FOLDS = 5
"""Number of folds if the search had only one, the published hold-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search to confirm."""

    study: Study  # the search as it was read
    # Best trial of each arm that may be confirmed, with its configuration, best first
    best: tuple[tuple[TrialRow, TrialConfig], ...]
    scored: tuple[BestOfArm, ...]  # the same, with scores by fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A configuration to confirm."""

    name: str
    row: TrialRow  # its trial in the search
    config: TrialConfig
    simplest: bool  # whether the one-standard-error rule picks it


def read_search(study: Study) -> Search:
    """Return the best trials of a search, without placebos, which are controls.

    Raises:
        StudyStateError: If it is no search, has no complete trial, or a trial's scores are gone.
    """
    if study.plan.kind != "search":
        raise StudyStateError(
            f"--confirm {study.name}: is a {study.plan.kind} study; only a search can be confirmed"
        )
    ranked = (study.arm_trials[arm] for arm in study.arm_scores)
    pairs = [(row, study.configs[row.number]) for row in ranked]
    best = tuple((row, config) for row, config in pairs if config.signal.rr == "real")
    if not best:
        raise StudyStateError(
            f"--confirm {study.name}: none of its {len(study.rows)} settled trials is complete"
        )
    return Search(
        study=study,
        best=best,
        scored=tuple(_scored(study, *pair) for pair in best),
    )


def _scored(study: Study, row: TrialRow, config: TrialConfig) -> BestOfArm:
    content = study.files.folder(row.digest).read(SCORES)
    if content is None:
        raise StudyStateError(
            f"trial {row.number}, {row.arm}: {shown(study.files.root)}/{row.digest} has no "
            f"{SCORES}; a study started with --storage keeps its files there"
        )
    shapes, template = shapes_seen(config)
    return BestOfArm(
        name=row.arm,
        input=config.signal.input,
        fusion=config.model.fusion,
        score=row.metric(study.objective),
        per_fold=json.loads(content)["per_fold"],
        shapes=shapes,
        template=template,
    )


def pick(search: Search, top: int) -> list[Pick]:
    """Return the best arms' best configurations, and the pick of the one-standard-error rule."""
    simplest = simplest_of_search(search.scored, search.study.objective).name
    return [
        Pick(
            name=row.arm.replace(" / ", "_"), row=row, config=config, simplest=row.arm == simplest
        )
        for rank, (row, config) in enumerate(search.best)
        if rank < top or row.arm == simplest
    ]


def space_text(
    search: Search, picks: Sequence[Pick], *, seeds: int, epochs: int | None = None
) -> str:
    """Return the space that compares the picked configurations, as TOML.

    Settings that all share are under [fixed]; the one-standard-error pick is the reference.

    `seeds` are those of each fold; without `epochs` trials keep those of the search.
    """
    study = search.study
    changed = {} if epochs is None else {"epochs": epochs}
    values = {p.name: active_parameters(p.config) | changed for p in picks}
    first = next(iter(values.values()))
    fixed = {
        name: value
        for name, value in first.items()
        if all(name in arm_values and arm_values[name] == value for arm_values in values.values())
    }
    reference = next(p.name for p in picks if p.simplest)
    others = [p.name for p in picks if p.name != reference]
    folds = study.plan.n_folds if study.plan.n_folds > 1 else DEFAULT_FOLDS
    tables = {
        "description": f"Do the candidates of {study.name} stay what they were?",
        "compare": {
            "draws": 1,
            "seeds": seeds,
            "folds": folds,
            "objective": study.plan.objective,
            "reference": reference,
            "contrasts": [[name, reference] for name in others],
        },
        "fixed": fixed,
        "arms": [
            {"name": arm, **{name: v for name, v in of_arm.items() if name not in fixed}}
            for arm, of_arm in values.items()
        ],
    }
    comments = (
        f"The best configurations of '{study.name}' after {len(study.rows)} trials, to be\n"
        "confirmed on seeds and folds that it did not use. Reference: the simplest arm within\n"
        "one standard error of the best."
    )
    remarks = {p.name: f"Trial {p.row.number}." for p in picks}
    return toml_text_of(tables, comments=comments, remarks=remarks)


def admit_space(path: Path, text: str) -> None:
    """Refuse a space other than the one that the confirmation began with.

    Raises:
        StudyStateError: If it is another: the search has continued, or other options were given.
    """
    if path.exists() and (begun := path.read_text()) != text:
        raise StudyStateError(
            f"{path}: the confirmation began with other {_differing(begun, text)} than this "
            "command gives; give the options that it was started with, or another --name"
        )


def _differing(begun: str, text: str) -> str:
    try:
        there, here = tomllib.loads(begun), tomllib.loads(text)
        pairs = {
            name: (there.get(table, {}).get(name), here[table].get(name))
            for table, name in (("fixed", "epochs"), ("compare", "seeds"))
        }
    except (tomllib.TOMLDecodeError, AttributeError):
        return "content"
    changes = [f"{name} ({was}, here {now})" for name, (was, now) in pairs.items() if was != now]
    return " and ".join(changes) or "configurations"


def fresh_partitions(
    beats: Beats, source: Source, used: str, *, n_folds: int, n: int
) -> list[int]:
    """Return partition seeds whose folds differ from the search's and from each other.

    Raises:
        UsageError: If the records do not allow that many.
    """
    names = beats.record_names
    different = different_folds(names, beats.counts, n_folds, 1, source.patients, source.databases)
    fresh = (seed for seed, folds in different if folds.fingerprint != used)
    seeds = list(islice(fresh, n))
    if len(seeds) == n:
        return seeds
    raise UsageError(
        f"--partitions {n}: these {len(names)} records allow "
        f"{plural(len(seeds), 'partition')} into {n_folds} folds besides the search's"
    )
