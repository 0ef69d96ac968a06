"""From a search to what confirms it: which configurations, as which space, on which folds.

A confirmation is one compare study for each fold partition: arms and seeds are the same in all.
Each is a study like any other, that is paired, resumed, recorded and compared by itself.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.addresses import shown
from study.config import TrialConfig
from study.data.folds import make_folds
from study.errors import StudyStateError, UsageError
from study.models.rules import active_parameters
from study.reporting.stored import read_beats
from study.statistics.choice import Candidate, simplest_of_search
from study.store.ledger import Ledger
from study.store.plan import load_plan
from study.store.storage import Storage
from study.store.trial_files import SCORES
from study.store.trials import EXHAUSTED, TrialRow
from study.wording import plural

MIN_SEEDS, MIN_PARTITIONS, TOP = 5, 3, 4
DEFAULT_FOLDS = 5
"""Folds where the search had a single one, the published hold-out."""

_MOST_PARTITION_SEEDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search as its folder has it.

    Args:
        name: Name of the study.
        plan: Its plan.
        best: Best trial of each arm that may be confirmed and its configuration, best first.
        candidates: The same, with scores by fold.
        settled: Trials that have ended.
        exhausted: Whether nothing was left to propose.
    """

    name: str
    plan: Mapping[str, Any]
    best: tuple[tuple[TrialRow, TrialConfig], ...]
    candidates: tuple[Candidate, ...]
    settled: int
    exhausted: bool = False

    @property
    def unfinished(self) -> bool:
        """Whether it still owes trials."""
        return not self.exhausted and self.settled < int(self.plan["trials"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A configuration that is to be confirmed.

    Args:
        name: Name of its arm in the comparison.
        row: Its trial in the search.
        config: The configuration.
        simplest: Whether the one-standard-error rule picks it.
    """

    name: str
    row: TrialRow
    config: TrialConfig
    simplest: bool


def read_search(folder: Path, *, storage_url: str, storage: Storage) -> Search:
    """Read the best trials of a search; placebos are controls and left out.

    Args:
        folder: The study's folder.
        storage_url: Its Optuna storage.
        storage: Where its trials' files are.

    Raises:
        StudyStateError: If there is no such study, it is no search, or has no complete trial.
    """
    plan = load_plan(folder)
    if plan is None:
        raise StudyStateError(
            f"--confirm {folder.name}: there is no such study in {folder.parent}"
        )
    if plan["kind"] != "search":
        raise StudyStateError(
            f"--confirm {folder.name}: is a {plan['kind']} study; a search is what needs to be "
            "confirmed"
        )
    ledger = Ledger(storage_url=storage_url, name=plan["name"], epochs=plan["epochs"])
    pairs = ledger.trials().proposals
    ranked = [
        (row, proposal.config)
        for row, proposal in pairs
        if row.ranks(plan["objective"]) and proposal.config.signal.rr == "real"
    ]
    best: dict[str, tuple[TrialRow, TrialConfig]] = {}
    for row, config in sorted(
        ranked, key=lambda pair: (-pair[0].metric(plan["objective"]), pair[0].number)
    ):
        best.setdefault(row.arm, (row, config))
    if not best:
        raise StudyStateError(
            f"--confirm {folder.name}: none of its {len(pairs)} settled trials is complete"
        )
    return Search(
        name=folder.name,
        plan=plan,
        best=tuple(best.values()),
        candidates=tuple(_candidate(*pair, plan["objective"], storage) for pair in best.values()),
        settled=len(pairs),
        exhausted=bool(ledger.noted(EXHAUSTED)),
    )


def _candidate(row: TrialRow, config: TrialConfig, objective: str, storage: Storage) -> Candidate:
    content = storage.folder(row.digest).read(SCORES)
    if content is None:
        raise StudyStateError(
            f"trial {row.number}, {row.arm}: {shown(storage.root)}/{row.digest} has no {SCORES}; "
            "a study started with --storage keeps its files there"
        )
    return Candidate(
        name=row.arm,
        input=config.signal.input,
        fusion=config.model.fusion,
        score=row.metric(objective),
        per_fold=json.loads(content)["per_fold"],
    )


def pick(search: Search, top: int) -> list[Pick]:
    """Return the best configuration of each of the best arms, and the one-standard-error pick."""
    simplest = simplest_of_search(search.candidates, search.plan["objective"]).name
    return [
        Pick(
            name=row.arm.replace(" / ", "_"), row=row, config=config, simplest=row.arm == simplest
        )
        for place, (row, config) in enumerate(search.best)
        if place < top or row.arm == simplest
    ]


def space_text(
    search: Search, picks: Sequence[Pick], *, seeds: int, epochs: int | None = None
) -> str:
    """Return the space that compares the picked configurations, as TOML.

    What all of them share is under [fixed]; the one-standard-error pick is the reference.

    Args:
        search: The search.
        picks: What is to be confirmed of it.
        seeds: Seeds for each fold.
        epochs: Epochs of each trial; None keeps those of the search.
    """
    own = {} if epochs is None else {"epochs": epochs}
    values = {p.name: active_parameters(p.config) | own for p in picks}
    first = next(iter(values.values()))
    fixed = {
        name: value
        for name, value in first.items()
        if all(name in mine and mine[name] == value for mine in values.values())
    }
    reference = next(p.name for p in picks if p.simplest)
    others = [p.name for p in picks if p.name != reference]
    folds = search.plan["n_folds"] if search.plan["n_folds"] > 1 else DEFAULT_FOLDS
    lines = [
        f"# The best configurations of '{search.name}' after {search.settled} trials, to be",
        "# confirmed on seeds and folds that it did not use. Reference: the simplest arm within",
        "# one standard error of the best.",
        f'description = "Do the candidates of {search.name} stay what they were?"',
        "",
        "[compare]",
        "draws = 1",
        f"seeds = {seeds}",
        f"folds = {folds}",
        f"objective = {json.dumps(search.plan['objective'])}",
        f"reference = {json.dumps(reference)}",
        f"contrasts = {json.dumps([[name, reference] for name in others])}",
        "",
        "[fixed]",
        *_assignments(fixed),
    ]
    for p in picks:
        own = {name: v for name, v in values[p.name].items() if name not in fixed}
        lines += ["", f"# Trial {p.row.number}.", "[[arms]]", f"name = {json.dumps(p.name)}"]
        lines += _assignments(own)
    return "\n".join(lines) + "\n"


def _assignments(values: Mapping[str, Any]) -> list[str]:
    # What JSON writes of text and finite numbers is TOML.
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def admit_space(path: Path, text: str) -> None:
    """Refuse another space than the one that a confirmation has begun with.

    Args:
        path: The file that it was kept in.
        text: The space that this command makes.

    Raises:
        StudyStateError: If they differ: the search has gone on since, or other options were given.
    """
    if path.exists() and (kept := path.read_text()) != text:
        raise StudyStateError(
            f"{path}: the confirmation has begun with other {_differing(kept, text)} than this "
            "command makes; give the options that it was started with, or another --name"
        )


def _differing(kept: str, text: str) -> str:
    try:
        there, here = tomllib.loads(kept), tomllib.loads(text)
        pairs = {
            name: (there.get(table, {}).get(name), here[table].get(name))
            for table, name in (("fixed", "epochs"), ("compare", "seeds"))
        }
    except (tomllib.TOMLDecodeError, AttributeError):
        return "content"
    found = [f"{name} ({was}, here {now})" for name, (was, now) in pairs.items() if was != now]
    return " and ".join(found) or "configurations"


def scores_of_arms(folder: Path, storage_url: str, objective: str) -> dict[str, float]:
    """Return the objective of each arm that a comparison of one draw has scored."""
    ledger = Ledger(storage_url=storage_url, name=folder.name)
    return {row.arm: row.metric(objective) for row in ledger.trials().rows if row.ranks(objective)}


def fresh_partitions(
    beats_file: Path, patients: Mapping[str, str], used: str, *, n_folds: int, n: int
) -> list[int]:
    """Return partition seeds whose folds differ from the search's and from each other.

    Args:
        beats_file: The search's `beats.npz`.
        patients: Patient of each record.
        used: Fingerprint of the search's folds.
        n_folds: Folds of each partition.
        n: Partitions.

    Raises:
        StudyStateError: If the file is gone or damaged.
        UsageError: If the records do not allow as many.
    """
    beats = read_beats(beats_file)
    names, counts = beats.record_names, beats.counts
    seen, seeds = {used}, list[int]()
    for seed in range(1, _MOST_PARTITION_SEEDS):
        fingerprint = make_folds(names, counts, n_folds, seed, patients).fingerprint
        if fingerprint not in seen:
            seen.add(fingerprint)
            seeds.append(seed)
        if len(seeds) == n:
            return seeds
    raise UsageError(
        f"--partitions {n}: these {len(names)} records allow "
        f"{plural(len(seeds), 'partition')} into {n_folds} folds besides the search's"
    )
