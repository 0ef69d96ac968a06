"""Search spaces: a study's parameters and arms, free of engines; `study.spaces.load` reads them.

A search space has parameters that a sampler proposes. A compare space has named arms, each run at
the same quasi-random draws of its nuisance parameters. Bounds are inclusive everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from study.config import ARM_PARTS, GROUPS, PARAMETERS, Cut, TrialConfig, digest_of
from study.errors import ConfigError, SpaceError, StudyStateError, listed, unknown
from study.spaces import draws
from study.spaces.draws import Exclusion, Point
from study.spaces.parameter import ArmSpec, Parameter, Value
from study.spaces.sealed_plan import SealedTest
from study.spaces.settings import REHEARSAL, SCREENING, SCREENING_EPOCHS

_DRAW_SEED = 0

_DIGESTED = (
    "kind",
    "objective",
    "folds",
    "seeds",
    "partitions",
    "sampler",
    "scheduler",
    "reduction_factor",
    "draws",
    "reference",
    "contrasts",
    "fixed",
    "exclude",
)
"""Settings that identify a space besides its parameters and arms.

`trials` is not among them: a resume may ask for more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePoint:
    """One trial of a compare space: an arm at a draw."""

    arm: str
    draw: int
    params: Point
    config: TrialConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A search or compare space."""

    name: str  # stem of the file
    path: Path  # the file
    kind: str  # `search` or `compare`
    description: str  # the question in one line
    objective: str  # metric that is maximised, or compared first
    # Number of folds, `published` for the 17/5 hold-out, or `all` of a sealed test
    folds: int | str
    seeds: int  # members of each fold; with several partitions, shared out over them
    sampler: str  # proposes configurations: tpe, gp, random, grid or qmc; `draws` if compare
    trials: int  # configurations to run, or to screen
    scheduler: str  # asha, screening or none
    reduction_factor: int  # one in how many trials is kept at each rung
    # Partitions into folds, if compare: seed s has the folds of partition s mod their number
    partitions: int = 1
    draws: int = 0  # quasi-random draws of each arm, if compare
    reference: str = ""  # arm that the table compares with, if compare
    # Pairs of arms whose differences are tested, if compare
    contrasts: tuple[tuple[str, str], ...] = ()
    fixed: Mapping[str, Value] = field(default_factory=dict)  # values that every configuration has
    params: tuple[Parameter, ...] = ()  # what is searched or drawn, conditions first
    arms: tuple[ArmSpec, ...] = ()  # arms, if compare
    exclude: tuple[Exclusion, ...] = ()  # combinations that are left out
    text: str = ""  # the file as it was read
    # Settings of the sealed test; None where only a study is run
    test: SealedTest | None = None

    @property
    def digest(self) -> str:
        """Identity of the runs: equal for files that differ only in comments or descriptions."""
        content = {name: getattr(self, name) for name in _DIGESTED}
        content["params"] = [[type(param).__name__, asdict(param)] for param in self.params]
        content["arms"] = [asdict(arm) for arm in self.arms]
        return digest_of(content)

    @property
    def rehearses(self) -> bool:
        """Whether it is a rehearsal by `--quick`, whose scores mean nothing."""
        return self.description.startswith(REHEARSAL)

    def refuse_rehearsal(self, study: str) -> None:
        """Refuse the study of this name, if it is a rehearsal, where its scores would be used.

        Raises:
            StudyStateError: If it is one.
        """
        if self.rehearses:
            raise StudyStateError(
                f"study '{study}': is a rehearsal (--quick), and its scores mean nothing; run its "
                "space without --quick, and name that study"
            )

    @property
    def n_trials(self) -> int:
        """How many trials a run of this space has, those in full after a screening included."""
        return self.n_proposed + self.n_finals

    @property
    def n_proposed(self) -> int:
        """How many configurations are proposed: `trials`, or all where there are fewer."""
        size = self.grid_size() if self.kind == "search" else None
        return self.trials if size is None else min(self.trials, size)

    @property
    def n_finals(self) -> int:
        """How many arms have their best configuration trained in full after a screening."""
        return min(self.trials, len(self.defaults())) if self.scheduler == SCREENING else 0

    def context(self, arm: str | None = None) -> dict[str, Any]:
        """Return the values that every point has: defaults, fixed values and those of an arm.

        Raises:
            SpaceError: If the arm is unknown.
        """
        arms = {spec.name: spec.values for spec in self.arms}
        if arm is not None and arm not in arms:
            raise SpaceError(f"space {self.name}: {unknown('arm', arm, arms)}")
        searched = {param.name for param in self.params}
        values = {**TrialConfig().flat(), **self.fixed, **arms.get(arm or "", {})}
        return {name: value for name, value in values.items() if name not in searched}

    def configuration(self, params: Mapping[str, Any], *, arm: str | None = None) -> TrialConfig:
        """Build and check the configuration of a point: values of exactly the active parameters.

        Raises:
            ConfigError: If a value is outside, a parameter is missing or inactive, the point is
                excluded, or the combination is illegal.
        """
        # Imported here: the rules bring PyTorch, which `--list` does without.
        from study.models import rules

        faults = self._point_faults(params, arm)
        if faults:
            raise ConfigError(listed(f"space {self.name}", faults))
        given = {p.name: p.snap(params[p.name]) for p in self.params if p.name in params}
        config = TrialConfig.from_flat({**self.context(arm), **given})
        rules.check_combination(config.signal, config.model)
        return config

    def screened(self, params: Mapping[str, Any]) -> TrialConfig:
        """Build the configuration that a point is screened by: the same for fewer epochs."""
        config = self.configuration(params)
        return replace(config, train=replace(config.train, epochs=SCREENING_EPOCHS))

    def active(self, values: Mapping[str, object], *, arm: str | None = None) -> tuple[str, ...]:
        """Return the names of the parameters that exist beside values of conditioning ones."""
        seen, names = self.context(arm), []
        for param in self.params:
            if draws.holds(param, seen):
                names.append(param.name)
                seen[param.name] = values.get(param.name)
        return tuple(names)

    def _point_faults(self, params: Mapping[str, object], arm: str | None) -> list[str]:
        known = {param.name: param for param in self.params}
        active = self.active(params, arm=arm)
        faults = [f"{name}: is missing" for name in active if name not in params]
        for name, value in params.items():
            if name not in known:
                faults.append(unknown("parameter", name, known))
            elif name not in active:
                faults.append(f"{name}: does not exist here: its condition does not hold")
            elif not known[name].contains(value):
                faults.append(f"{name}: {value!r} is outside of the space")
        if not faults and draws.excluded(params, self.exclude):
            faults.append("the combination is left out by [[exclude]]")
        return faults

    def at(self, u: Sequence[float], *, arm: str | None = None) -> Point:
        """Return the point at coordinates in [0, 1), one for each of `params`."""
        return draws.at(self.params, u, self.context(arm))

    def grid_size(self) -> int | None:
        """Return the number of points of the grid; None if a range is continuous."""
        self._only("search")
        return draws.count(self.params, self.exclude, self.context())

    def grid(self) -> Iterator[Point]:
        """Return every point once, in a stable order: the last parameter varies fastest."""
        self._only("search")
        choices = {param.name: param.points() for param in self.params}
        return draws.walk(self.params, choices, self.exclude, self.context())

    def random(self, seed: int, index: int) -> Point:
        """Return the `index`-th uniform point of a seed, whatever was drawn before."""
        return self._draw(draws.uniform(len(self.params), seed, index), 0)

    def qmc(self, seed: int, index: int) -> Point:
        """Return the `index`-th point of a scrambled Sobol sequence of a seed."""
        return self._draw(draws.sobol(len(self.params), seed), index)

    def _draw(self, sequence: Iterator[list[float]], index: int) -> Point:
        self._only("search")
        points = (self.at(u) for u in sequence)
        legal = (point for point in points if not draws.excluded(point, self.exclude))
        return next(islice(legal, index, None))

    def structures(self, arm: str | None = None, *, excluded: bool = False) -> Iterator[Point]:
        """Yield a point for each combination of the parameters that decide how a network is built.

        These are words, whole numbers of the model, and parameters in conditions and exclusions;
        others stay at their default. Of an arm's points, the one nearest to the defaults comes
        first. `excluded` also yields the combinations that [[exclude]] leaves out.
        """
        deciding = self._conditions()
        deciding.update(name for entry in self.exclude for name in entry)
        choices = {
            param.name: _choices(param, decides=param.name in deciding) for param in self.params
        }
        left_out = () if excluded else self.exclude
        return draws.walk(self.params, choices, left_out, self.context(arm))

    def _conditions(self) -> set[str]:
        return {name for param in self.params for name in param.when}

    def branches(self) -> list[Point]:
        """Return one point for each combination of conditions and arm parts, for a dry run."""
        self._only("search")
        deciding = self._conditions() | {*ARM_PARTS}
        points: dict[str, Point] = {}
        for point in self.structures():
            key = digest_of({name: point[name] for name in point.keys() & deciding})
            points.setdefault(key, point)
        return list(points.values())

    def defaults(self) -> list[Point]:
        """Return one point for each arm: its first trial, which is never pruned."""
        from study.models import rules

        points: dict[str, Point] = {}
        for point in self.branches():
            points.setdefault(rules.arm(self.configuration(point)), point)
        return list(points.values())

    def comparisons(self) -> list[ComparePoint]:
        """Return every trial of a compare space, draw by draw: the same draws for every arm."""
        self._only("compare")
        sequence = draws.sobol(len(self.params), _DRAW_SEED)
        points = []
        for draw, u in enumerate(islice(sequence, self.draws)):
            for arm in self.arms:
                params = self.at(u, arm=arm.name)
                config = self.configuration(params, arm=arm.name)
                points.append(ComparePoint(arm=arm.name, draw=draw, params=params, config=config))
        return points

    def configurations(self) -> list[TrialConfig]:
        """Return one configuration of every branch of a search, or all of a comparison."""
        if self.kind == "compare":
            return [point.config for point in self.comparisons()]
        return [self.configuration(params) for params in self.branches()]

    def arm_configurations(self) -> dict[str, TrialConfig]:
        """Return one configuration of each arm, by the arm's name."""
        from study.models import rules

        if self.kind == "compare":
            return {point.arm: point.config for point in self.comparisons() if point.draw == 0}
        return {rules.arm(config): config for config in map(self.configuration, self.defaults())}

    def largest(self, name: str) -> int:
        """Return the largest value of a parameter that a configuration can have."""
        values = [config.flat()[name] for config in self.configurations()]
        values += [v for param in self.params if param.name == name for v in param.points()]
        return max(map(int, values))

    def cuts(self) -> list[Cut]:
        """Return the segmentations, resampling methods and templates of the configurations."""
        methods = next((p.points() for p in self.params if p.name == "resampling"), None)
        return sorted(
            {
                replace(config.signal, resampling=str(method)).cut
                for config in self.configurations()
                for method in methods or (config.signal.resampling,)
            }
        )

    def with_epochs(self, epochs: int) -> Space:
        """Return this space with every configuration trained for as many epochs."""
        arms = [
            replace(arm, values={n: v for n, v in arm.values.items() if n != "epochs"})
            for arm in self.arms
        ]
        return replace(
            self,
            fixed={**self.fixed, "epochs": epochs},
            params=tuple(param for param in self.params if param.name != "epochs"),
            arms=tuple(arms),
        )

    def within_grid(self, *, whole: bool) -> Space:
        """Return this space with a trial for every cell of its grid, if grid is its sampler.

        Unless the `whole` grid is to be run, trials are only cut to the number of cells.
        """
        cells = self.grid_size() if self.sampler == "grid" else None
        if cells is None:
            return self
        return replace(self, trials=cells if whole else min(self.trials, cells))

    def _only(self, kind: str) -> None:
        if self.kind != kind:
            raise SpaceError(f"space {self.name}: is a {self.kind} space, not a {kind} space")


def _choices(param: Parameter, *, decides: bool) -> tuple[Value, ...]:
    """Return the values of a parameter that its structures go through, its default first."""
    type_ = PARAMETERS[param.name]
    of_training = param.name in GROUPS["train"].__annotations__
    if not (decides or type_ is str or (type_ is int and not of_training)):
        return (param.start,)
    if param.name in ARM_PARTS:
        return param.points()
    return (param.start, *(value for value in param.points() if value != param.start))
