"""Makes a study's proposals: owed trials, then each arm's defaults, then those of the sampler.

A screening trains every configuration for a short budget of its own, whose learning rate falls to
zero; then the best of each arm is trained in full. The screening chooses within an arm; arms are
compared by trials in full alone.

Grid, random and quasi-random proposals are enumerated by index, so that earlier outcomes do not
change them; a compare study is enumerated entirely. Only tpe and gp use outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from study.errors import StudyStateError
from study.keys import Outcome, Tag
from study.models import rules
from study.spaces.optuna_space import distributions, suggest
from study.spaces.settings import SAMPLED, SCREENING, SCREENING_EPOCHS
from study.spaces.space import Space
from study.store.ledger import Ledger
from study.store.trials import (
    CONFIG,
    DRAW,
    INDEX,
    OBJECTIVE,
    PROTECTED,
    Proposal,
    TrialRow,
    best_screened,
)

ARM = "arm"
"""Parameter of a compare study in Optuna: its arm's name."""


class Proposals:
    """Yields the proposals of one study."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._screens = space.scheduler == SCREENING
        self._first = list(self._first_proposals())
        self._cells: list[Proposal] | None = None

    def _first_proposals(self) -> Iterator[Proposal]:
        """Yield the first proposals: all of a comparison, or each arm's defaults in a search."""
        if self._space.kind == "search":
            for index, params in enumerate(self._space.defaults()):
                yield self._searched(params, index=index, protected=True)
            return
        names = CategoricalDistribution([arm.name for arm in self._space.arms])
        for index, point in enumerate(self._space.comparisons()):
            yield Proposal(
                config=point.config,
                digest=rules.digest(point.config),
                arm=point.arm,
                params={ARM: point.arm, **point.params},
                distributions={ARM: names, **distributions(self._space, point.params)},
                index=index,
                draw=point.draw,
                protected=True,
            )

    @property
    def n_screened(self) -> int:
        """Number of configurations to screen before any is trained in full."""
        return self._space.n_proposed if self._screens else 0

    def screens(self, proposal: Proposal) -> bool:
        """Say whether a proposal is trained for the short budget of a screening."""
        return self._screens and proposal.config.train.epochs == SCREENING_EPOCHS

    def finals(self, settled: Iterable[tuple[TrialRow, Proposal]]) -> list[Proposal]:
        """Return each arm's best screened configuration not yet settled in full, best first.

        Of equally good configurations, the first counts.
        """
        pairs = list(settled)
        best = best_screened(row for row, _ in pairs).values()
        ranked = sorted(best, key=lambda row: -row.metric(OBJECTIVE))
        finals = [self._searched(row.params, full=True) for row in ranked]
        known = {proposal.digest for _, proposal in pairs}
        return [proposal for proposal in finals if proposal.digest not in known]

    def _searched(
        self,
        params: Mapping[str, Any],
        *,
        index: int | None = None,
        protected: bool = False,
        full: bool = False,
    ) -> Proposal:
        screened = self._screens and not full
        config = (self._space.screened if screened else self._space.configuration)(params)
        return Proposal(
            config=config,
            digest=rules.digest(config),
            arm=rules.arm(config),
            params=dict(params),
            distributions=distributions(self._space, params),
            index=index,
            protected=protected,
        )

    def enumerated(self, index: int) -> Proposal | None:
        """Return the proposal of an index; None where the sampler decides, or at the end."""
        if index < len(self._first):
            return self._first[index]
        if self._space.kind == "compare" or self._space.sampler in SAMPLED:
            return None
        position = index - len(self._first)
        if self._space.sampler == "grid":
            cells = self._grid()
            if position >= len(cells):
                return None
            return replace(cells[position], index=index)
        draw = self._space.qmc if self._space.sampler == "qmc" else self._space.random
        return self._searched(draw(self._seed, position), index=index)

    def _grid(self) -> list[Proposal]:
        if self._cells is None:
            done = {proposal.digest for proposal in self._first}
            cells = [self._searched(params) for params in self._space.grid()]
            self._cells = [cell for cell in cells if cell.digest not in done]
        return self._cells

    def sampled(self, ledger: Ledger) -> tuple[optuna.Trial, Proposal]:
        """Return the sampler's choice."""
        trial = ledger.ask()
        return trial, self._searched(suggest(self._space, trial))

    def again(self, owed: FrozenTrial) -> Proposal:
        """Rebuild an interrupted or withdrawn trial's proposal, as its next attempt.

        Raises:
            StudyStateError: If its parameters no longer match its digest.
        """
        attrs = owed.user_attrs
        # A trial that was complete had passed its rungs; later trials may have raised them.
        protected = attrs[PROTECTED] or attrs[Tag.OUTCOME] == Outcome.COMPLETE
        if self._space.kind == "compare":
            proposal: Proposal = self._first[attrs[INDEX]]
        else:
            # A screened and a full trial of a configuration differ only in their epochs.
            full = attrs[CONFIG]["epochs"] != SCREENING_EPOCHS
            proposal = self._searched(
                owed.params, index=attrs[INDEX], protected=protected, full=full
            )
        if proposal.digest != attrs[Tag.DIGEST]:
            raise StudyStateError(
                f"trial {owed.number} of the Optuna storage: was configuration "
                f"{attrs[Tag.DIGEST]}, and its parameters are those of {proposal.digest}: it was "
                "altered; bring the storage back from a copy, or start under another --name"
            )
        return replace(
            proposal, attempt=attrs[Tag.ATTEMPT] + 1, follows=owed.number, draw=attrs[DRAW]
        )
