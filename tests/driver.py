"""A study's driver without an engine: a real ledger, and the test in the place of Ray."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from study.config import TrialConfig
from study.keys import Outcome, Tag
from study.models import rules
from study.spaces.optuna_space import make_sampler
from study.spaces.space import Space
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.trials import TrialRow
from study.tuning.conductor import Conductor
from study.tuning.progress import Progress
from study.tuning.proposals import Proposals
from tests.builders import report

EPOCHS = 3
"""Of a trial in full; the spaces that are driven fix it."""


class Driver:
    """One start of a driver in a folder, and what Ray would tell it; it reads the ledger anew."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        plan: StudyPlan,
        trials: int | None = None,
        **options: Any,
    ) -> None:
        self.folder, self.space = folder, space
        wanted = trials or space.n_trials
        plan = replace(plan, kind=space.kind, sampler=space.sampler, trials=wanted)
        self.url = f"sqlite:///{folder / 'study.db'}"
        self.storage = Storage.at(folder / "trials")
        self.ledger = Ledger(
            storage_url=self.url,
            name=plan.name,
            sampler=make_sampler(space.sampler, 0, space),
            epochs=EPOCHS,
            reduction_factor=2 if space.scheduler == "asha" else None,
        )
        self._screen = io.StringIO()
        self._name = plan.name
        self.conductor = Conductor(
            plan=plan,
            proposals=Proposals(space, seed=plan.study_seed),
            ledger=self.ledger,
            storage=self.storage,
            changed=self.opened(),
            progress=Progress(total=wanted, objective=plan.objective, stream=self._screen),
            **options,
        )
        self.objective = plan.objective
        self._numbers = itertools.count()
        self.configs: dict[str, TrialConfig] = {}

    def opened(self) -> Callable[[str], None]:
        """Do what follows the ledger in a start; return who hears of trials that changed."""
        self.ledger.reconcile()
        return lambda digest: None

    @property
    def lines(self) -> list[str]:
        return self._screen.getvalue().splitlines()

    def begin(self, key: str = "") -> str | None:
        """Ask for a trial and start it; return its key, None where nothing is left."""
        key = key or f"key{next(self._numbers)}"
        flat = self.conductor.propose(key)
        if flat is None:
            return None
        self.configs[key] = TrialConfig.from_flat(flat)
        self.conductor.started(key)
        return key

    def next_trial(self) -> str:
        """Start a trial, which there must be; return its key."""
        key = self.begin()
        assert key is not None
        return key

    def digest(self, key: str) -> str:
        return rules.digest(self.configs[key])

    def epoch(self, key: str, epoch: int, value: float) -> bool:
        """Report an epoch; tell the trial's end where it is decided. Return whether it was."""
        return self.report(key, epoch, {self.objective: value})

    def report(self, key: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report the metrics of an epoch; return whether the trial has ended there."""
        result = report(epoch, metrics)
        budget = self.configs[key].train.epochs if key in self.configs else EPOCHS
        if epoch == budget:
            full = budget == EPOCHS
            result[Tag.OUTCOME] = str(Outcome.COMPLETE if full else Outcome.SCREENED)
        # Ray ends a trial that says that it is done, whatever the conductor says.
        stop = self.conductor.reported(key, result) or epoch == budget
        if stop:
            self.conductor.completed(key, result)
        return stop

    def train(self, key: str, value: float, *, first: int = 1) -> None:
        """Report epochs of one value until the trial has ended."""
        for epoch in range(first, EPOCHS + 1):
            if self.epoch(key, epoch, value):
                return

    def fail(self, key: str, cause: str) -> None:
        """End a trial as its worker does when the training raises."""
        result = report(0, {}) | {Tag.OUTCOME: str(Outcome.FAILED), Tag.CAUSE: cause}
        self.conductor.reported(key, result)
        self.conductor.completed(key, result)

    def train_each(self, *values: float) -> None:
        for value in values:
            self.train(self.next_trial(), value)

    def run(self, value: float = 0.5) -> None:
        while (key := self.begin()) is not None:
            self.train(key, value)

    def rows(self) -> list[TrialRow]:
        return list(self.ledger.trials().rows)

    def outcomes(self) -> list[Outcome]:
        return [row.outcome for row in self.rows()]

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name=self._name, storage=self.url).trials

    def proposed(self) -> list[tuple[int, str]]:
        """Return index and digest of everything that was ever opened, by index."""
        attrs = [trial.user_attrs for trial in self.trials()]
        return sorted({(a["index"], a[Tag.DIGEST]) for a in attrs if a.get("index") is not None})
