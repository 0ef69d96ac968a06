"""Replays of searches on recorded curves: the tool's own driver, with a table instead of training.

The conductor, the ledger, the proposals and the pruning rule are those of a study; Optuna keeps
its trials in memory. Two slots train side by side, an epoch takes each the same time, and events
come in the order in which they would. What is counted is beats trained.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage

from benchmarks.recording import Recording
from study.config import TrialConfig
from study.keys import EPOCH, Outcome, Tag
from study.models import rules
from study.spaces.load import override
from study.spaces.optuna_space import make_sampler
from study.spaces.settings import SAMPLED, SCREENING
from study.spaces.space import Space
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.trials import PROTECTED, Proposal
from study.tuning.conductor import Conductor
from study.tuning.progress import Progress
from study.tuning.proposals import Proposals
from study.tuning.trial import BUSY_SECONDS, METRICS, NOTE

CLOSE = 0.01
"""How near to the best known AUPRC is good enough."""

BUDGET = 30
"""Configurations after which a winner is named: the trials of `fusion_grid`."""

SLOTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to search.

    Args:
        name: What the table calls it.
        sampler: One of the tool's.
        optuna: Makes another sampler of Optuna from a seed, in place of the tool's.
        reduction_factor: Of the tool's asha; None prunes nothing.
        pruner: One of Optuna, in place of the tool's.
        defaults_first: Whether each arm is first tried at the defaults and not pruned, as in a
            study.
        screening: Whether `BUDGET` configurations are screened and the best of each arm is then
            trained in full, as the tool does it.
        epochs: Of a trial in full; None takes the longest that is recorded.
        keep: How many of `BUDGET` configurations, screened at a horizon of one epoch, are then
            trained in full; None trains all in full at once.
    """

    name: str
    sampler: str = "tpe"
    optuna: Callable[[int], BaseSampler] | None = None
    reduction_factor: int | None = None
    pruner: Callable[[], BasePruner] | None = None
    defaults_first: bool = True
    screening: bool = False
    epochs: int | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An epoch that a search has trained.

    Args:
        epochs: Trained so far, by all slots.
        settled: Configurations of the search's full budget that are settled so far.
        cell: The cell that is now complete; None where the epoch completed none.
        value: Its score, as the search sees it.
    """

    epochs: int
    settled: int
    cell: int | None = None
    value: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one replay came to.

    Args:
        beats: Trained until the incumbent's confirmed AUPRC was close to the best; infinite where
            it never was.
        configurations: Settled until then.
        winner: Confirmed AUPRC of the incumbent after `BUDGET` configurations.
        winner_beats: Trained until then.
    """

    beats: float
    configurations: float
    winner: float
    winner_beats: float


class Replays:
    """Replays searches of one space on its recording.

    Args:
        recording: The curves of every cell of the space.
        space: The space.
    """

    def __init__(self, recording: Recording, space: Space) -> None:
        self._recording = recording
        self._spaces = {horizon: override(space, epochs=horizon) for horizon in recording.curves}
        self._cell_of = {
            rules.digest(of_horizon.configuration(params)): index
            for of_horizon in self._spaces.values()
            for index, params in enumerate(recording.cells)
        }
        self._confirmed = recording.confirmed()

    def run(self, method: Method, seed: int) -> Result:
        """Replay one search.

        Args:
            method: How it searches.
            seed: Of the search; it also chooses which recorded seed is seen.
        """
        target = self._confirmed.max() - CLOSE
        events = self.screened(method, seed) if method.keep else self.search(method, seed)
        best, winner, last = -math.inf, math.nan, 0
        hit: Event | None = None
        named: tuple[float, int] | None = None
        for event in events:
            last = event.epochs
            if event.cell is not None and event.value > best:
                best, winner = event.value, float(self._confirmed[event.cell])
                if hit is None and winner >= target:
                    hit = event
            if named is None and event.settled >= BUDGET:
                named = winner, event.epochs
            if hit is not None and named is not None:
                break
        value, epochs = named or (winner, last)
        beats = self._recording.beats_per_epoch
        return Result(
            beats=hit.epochs * beats if hit else math.inf,
            configurations=hit.settled if hit else math.inf,
            winner=value,
            winner_beats=epochs * beats,
        )

    def screened(self, method: Method, seed: int) -> Iterator[Event]:
        """Yield the events of rounds: screen for one epoch, then train the best in full.

        The configurations of a round are settled when it is over.
        """
        horizon = self._recording.horizon
        full = self._recording.seen(horizon, seed)
        screening = self.search(method, seed, horizon=1)
        epochs = before = 0
        while taken := list(itertools.islice(screening, BUDGET)):
            epochs += len(taken)
            ranked = sorted(taken, key=lambda event: -event.value)[: method.keep]
            for place, event in enumerate(ranked, start=1):
                assert event.cell is not None  # of one epoch all are complete
                epochs += horizon
                yield Event(
                    epochs=epochs,
                    settled=before + (len(taken) if place == len(ranked) else place - 1),
                    cell=event.cell,
                    value=float(full[event.cell, -1]),
                )
            before += len(taken)

    def search(self, method: Method, seed: int, *, horizon: int | None = None) -> Iterator[Event]:
        """Yield the events of one search over trials of one horizon, until nothing is left."""
        horizon = horizon or method.epochs or self._recording.horizon
        n_cells = len(self._recording.cells)
        # As many trials as a study would have: the sampler's random start is a third of them.
        trials = min(BUDGET, n_cells)
        space = override(
            self._spaces[horizon],
            sampler=method.sampler,
            trials=trials,
            scheduler=SCREENING if method.screening else None,
        )
        total = space.n_trials if method.screening else n_cells
        conductor = _conductor(method, space, seed, trials=total, horizon=horizon)
        # Hour of the next report, order of its asking, key, cell and epochs so far of each trial.
        running: list[tuple[int, int, str, int, int]] = []
        horizons: dict[str, int] = {}
        order = itertools.count()
        epochs = settled = now = 0
        while True:
            while len(running) < SLOTS:
                key = f"replay-{next(order)}"
                flat = conductor.propose(key)
                if flat is None:
                    break
                conductor.started(key)
                config = TrialConfig.from_flat(flat)
                horizons[key] = config.train.epochs
                cell = self._cell_of[rules.digest(config)]
                heapq.heappush(running, (now + 1, next(order), key, cell, 0))
            if not running:
                return
            now, _, key, cell, epoch = heapq.heappop(running)
            epochs, epoch = epochs + 1, epoch + 1
            mine = horizons[key]
            value = float(self._recording.seen(mine, seed)[cell, epoch - 1])
            last, full = epoch == mine, epoch == horizon
            outcome = Outcome.COMPLETE if mine == horizon else Outcome.SCREENED
            metrics = {space.objective: value}
            if _report(conductor, key, epoch, metrics, outcome=outcome if last else None):
                settled += mine == horizon
            else:
                heapq.heappush(running, (now + 1, next(order), key, cell, epoch))
            yield Event(
                epochs=epochs,
                settled=settled,
                cell=cell if full else None,
                value=value if full else math.nan,
            )


def _report(
    conductor: Conductor,
    key: str,
    epoch: int,
    metrics: dict[str, float],
    *,
    outcome: Outcome | None,
) -> bool:
    """Report an epoch as a worker's trial does, the last with how it ended; return whether it has.

    A trial may also be stopped by the search.
    """
    result = {
        EPOCH: epoch,
        METRICS: metrics,
        NOTE: "",
        BUSY_SECONDS: 0.0,
        Tag.OUTCOME: str(outcome or ""),
        Tag.CAUSE: "",
    }
    ended = conductor.reported(key, result) or outcome is not None
    if ended:
        conductor.completed(key, result)
    return ended


def _conductor(method: Method, space: Space, seed: int, *, trials: int, horizon: int) -> Conductor:
    """Return the driver's heart, with its trials in memory."""
    adaptive = method.optuna is not None or method.sampler in SAMPLED
    plan = StudyPlan(
        name="replay",
        space=space.name,
        space_digest=space.digest,
        kind="search",
        objective=space.objective,
        sampler=SAMPLED[0] if adaptive else method.sampler,
        scheduler="asha",
        reduction_factor=method.reduction_factor or 0,
        trials=trials,
        epochs=horizon,
        folds="",
        fold_fingerprint="",
        n_folds=1,
        n_seeds=1,
        study_seed=seed,
        engine="",
        data_source="recording",
        data_fingerprints={},
    )
    make = method.optuna or (lambda seed: make_sampler(method.sampler, seed, space))
    proposals = Proposals if method.defaults_first else _NoDefaults
    return Conductor(
        plan=plan,
        proposals=proposals(space, seed=seed),
        ledger=_Ledger(method, sampler=make(seed), epochs=horizon),
        progress=Progress(total=trials, objective=space.objective, quiet=True),
    )


class _NoDefaults(Proposals):
    """A textbook search: nothing comes before what the sampler proposes."""

    def _first_proposals(self) -> Iterator[Proposal]:
        return iter(())


class _Ledger(Ledger):
    """The study's ledger in memory; one of Optuna's pruners may decide in its place."""

    def __init__(self, method: Method, *, sampler: BaseSampler, epochs: int) -> None:
        super().__init__(
            storage_url=InMemoryStorage(),
            name="replay",
            sampler=sampler,
            epochs=epochs,
            reduction_factor=method.reduction_factor,
        )
        self._by_optuna = method.pruner is not None
        if method.pruner is not None:
            self._study.pruner = method.pruner()

    def record(
        self, number: int, epoch: int, objective: float, metrics: Mapping[str, float]
    ) -> bool:
        """Write an epoch down; return whether the trial should be pruned."""
        pruned = super().record(number, epoch, objective, metrics)
        trial = self._live[number]
        if self._by_optuna and not trial.user_attrs[PROTECTED]:
            return trial.should_prune()
        return pruned
