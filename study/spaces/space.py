"""Search spaces: what a study varies, read from a TOML file and free of any engine.

A search space has parameters that a sampler proposes. A compare space has named arms, each run at
the same quasi-random draws of its nuisance parameters. Bounds are inclusive everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from study.config import PARAMETERS, TrialConfig, digest_of, value_faults
from study.errors import ConfigError, SpaceError, UsageError, listed, unknown
from study.models import rules
from study.spaces import checks, draws, toml_file
from study.spaces.draws import Exclusion, Point
from study.spaces.parameter import ArmSpec, Parameter, Value
from study.spaces.settings import SCREENING, SCREENING_EPOCHS, setting_faults

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
"""Where the spaces of this project lie."""

_DEFAULTS = TrialConfig().flat()
_DRAW_SEED = 0
_NOT_RUN = {"name", "path", "description", "text", "trials"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One trial of a compare space: an arm at a draw."""

    arm: str
    draw: int
    params: Point
    config: TrialConfig


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """A space as a list shows it; `fault` says why a file cannot be used."""

    name: str
    kind: str = ""
    description: str = ""
    n_configurations: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A search or compare space; `load_space` builds and checks it.

    Args:
        name: Stem of the file.
        path: The file.
        kind: `search` or `compare`.
        description: The question in one line.
        objective: Metric that is maximised, or compared first.
        folds: Number of folds, or `published` for the 17/5 hold-out.
        seeds: Members of each fold.
        sampler: Proposes configurations: tpe, gp, random, grid or qmc; `draws` if compare.
        trials: Configurations to run.
        scheduler: asha, screening or none.
        reduction_factor: One in how many trials is kept at each rung.
        draws: Quasi-random draws of each arm, if compare.
        reference: Arm that the table compares with, if compare.
        contrasts: Pairs of arms whose differences are tested, if compare.
        fixed: Values that every configuration has.
        params: What is searched or drawn, conditions first.
        arms: Arms, if compare.
        exclude: Combinations that are left out.
        text: The file as it was read.
    """

    name: str
    path: Path
    kind: str
    description: str
    objective: str
    folds: int | str
    seeds: int
    sampler: str
    trials: int
    scheduler: str
    reduction_factor: int
    draws: int = 0
    reference: str = ""
    contrasts: tuple[tuple[str, str], ...] = ()
    fixed: Mapping[str, Value] = field(default_factory=dict)
    params: tuple[Parameter, ...] = ()
    arms: tuple[ArmSpec, ...] = ()
    exclude: tuple[Exclusion, ...] = ()
    text: str = ""

    @property
    def digest(self) -> str:
        """Identity of what is run: equal for files that differ in comments or words only."""
        names = {item.name for item in fields(self)} - _NOT_RUN
        content = {name: getattr(self, name) for name in names}
        content["params"] = [[type(param).__name__, asdict(param)] for param in self.params]
        content["arms"] = [asdict(arm) for arm in self.arms]
        return digest_of(content)

    @property
    def n_trials(self) -> int:
        """How many trials a run of this space has, where none is left out."""
        return self.trials + self.n_finals

    @property
    def n_finals(self) -> int:
        """How many arms have their best configuration trained in full after a screening."""
        if self.scheduler != SCREENING:
            return 0
        return min(self.trials, len(self.defaults()))

    def context(self, arm: str | None = None) -> dict[str, Any]:
        """Return the values that every point has: defaults, fixed values and those of an arm.

        Raises:
            SpaceError: If the arm is unknown.
        """
        arms = {spec.name: spec.values for spec in self.arms}
        if arm is not None and arm not in arms:
            raise SpaceError(f"space {self.name}: {unknown('arm', arm, arms)}")
        searched = {param.name for param in self.params}
        values = {**_DEFAULTS, **self.fixed, **arms.get(arm or "", {})}
        return {name: value for name, value in values.items() if name not in searched}

    def configuration(self, params: Mapping[str, Any], *, arm: str | None = None) -> TrialConfig:
        """Build and check the configuration of a point.

        Args:
            params: Values of exactly the active parameters.
            arm: Name of the arm, if compare.

        Raises:
            ConfigError: If a value is outside, a parameter is missing or inactive, the point is
                excluded, or the combination is illegal.
        """
        faults = checks.point_faults(self, params, arm)
        if faults:
            raise ConfigError(listed(f"space {self.name}", faults))
        given = {p.name: p.snap(params[p.name]) for p in self.params if p.name in params}
        config = TrialConfig.from_flat({**self.context(arm), **given})
        rules.check_combination(config.signal, config.model)
        return config

    def screened(self, params: Mapping[str, Any]) -> TrialConfig:
        """Build the configuration that a point is screened by: the same for fewer epochs.

        Raises:
            ConfigError: As `configuration` does.
        """
        config = self.configuration(params)
        return replace(config, train=replace(config.train, epochs=SCREENING_EPOCHS))

    def active(self, values: Mapping[str, object], *, arm: str | None = None) -> tuple[str, ...]:
        """Return the names of the parameters that exist beside the given values.

        Args:
            values: Values of the conditioning parameters; others do not matter.
            arm: Name of the arm, if compare.
        """
        seen, names = self.context(arm), []
        for param in self.params:
            if draws.holds(param, seen):
                names.append(param.name)
                seen[param.name] = values.get(param.name)
        return tuple(names)

    def contains(self, params: Mapping[str, object], *, arm: str | None = None) -> bool:
        """Whether these are exactly the active parameters, each inside, and not left out."""
        return not checks.point_faults(self, params, arm)

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

    def defaults(self) -> list[Point]:
        """Return one point for each arm: its first trial, which is never pruned."""
        return self._first_by(lambda point: rules.arm(self.configuration(point)))

    def branches(self) -> list[Point]:
        """Return one point for each combination of conditions and arm parts, for a dry run."""
        deciding = {name for param in self.params for name in param.when} | {*checks.ARM_PARTS}
        return self._first_by(
            lambda point: digest_of({n: point[n] for n in point.keys() & deciding})
        )

    def comparisons(self) -> list[Comparison]:
        """Return every trial of a compare space, draw by draw: the same draws for every arm."""
        self._only("compare")
        sequence = draws.sobol(len(self.params), _DRAW_SEED)
        found = []
        for draw, u in enumerate(islice(sequence, self.draws)):
            for arm in self.arms:
                params = self.at(u, arm=arm.name)
                config = self.configuration(params, arm=arm.name)
                found.append(Comparison(arm=arm.name, draw=draw, params=params, config=config))
        return found

    def override(self, **settings: int | str | None) -> Space:
        """Return this space with settings of the command line; None leaves one as it is.

        Args:
            **settings: sampler, trials, scheduler, objective, folds, seeds, epochs and the like.

        Raises:
            UsageError: If a value is not allowed, or a setting means nothing in this kind.
        """
        given: dict[str, Any] = {n: value for n, value in settings.items() if value is not None}
        epochs = given.pop("epochs", None)
        faults = [] if epochs is None else value_faults("epochs", epochs, PARAMETERS["epochs"])
        faults += [fault for item in given.items() for fault in setting_faults(self.kind, *item)]
        changed = self
        if not faults:
            changed = replace(self, **given) if epochs is None else self._trained(epochs, given)
            if "trials" not in given:
                changed = _within_grid(changed, whole="sampler" in given)
            faults = checks.sampler_faults(changed)
        if faults:
            raise UsageError(listed(f"space {self.name}", faults))
        return changed

    def _trained(self, epochs: int, settings: Mapping[str, Any]) -> Space:
        own = [{n: v for n, v in arm.values.items() if n != "epochs"} for arm in self.arms]
        return replace(
            self,
            **settings,
            fixed={**self.fixed, "epochs": epochs},
            params=tuple(param for param in self.params if param.name != "epochs"),
            arms=tuple(replace(arm, values=v) for arm, v in zip(self.arms, own, strict=True)),
        )

    def _only(self, kind: str) -> None:
        if self.kind != kind:
            raise SpaceError(f"space {self.name}: is a {self.kind} space, not a {kind} space")

    def _first_by(self, key: Callable[[Point], str]) -> list[Point]:
        self._only("search")
        points: dict[str, Point] = {}
        for point in checks.structures(self):
            points.setdefault(key(point), point)
        return list(points.values())

    def _draw(self, sequence: Iterator[list[float]], index: int) -> Point:
        self._only("search")
        points = (self.at(u) for u in sequence)
        kept = (point for point in points if not draws.excluded(point, self.exclude))
        return next(islice(kept, index, None))


def load_space(name_or_path: str | Path, folder: Path = FOLDER) -> Space:
    """Read and check a space.

    Args:
        name_or_path: Name of a space in the folder, or a file that ends in .toml.
        folder: Where named spaces lie.

    Raises:
        SpaceError: If there is no such space, or its file breaks a rule; all faults together.
    """
    path, shown, text = toml_file.read(str(name_or_path), folder)
    parsed, faults = toml_file.parse(text)
    if not faults:
        space = Space(name=path.stem, path=path, text=text, **parsed)
        faults = checks.size_faults(space)
        faults = faults or (checks.combination_faults(space) + checks.sampler_faults(space))
    if faults:
        raise SpaceError(listed(shown, faults))
    return _within_grid(space, whole=not space.trials)


def list_spaces(folder: Path = FOLDER) -> list[SpaceSummary]:
    """Return every space of a folder by name, those that cannot be used included."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        try:
            space = load_space(path.stem, folder)
        except SpaceError as error:
            found.append(SpaceSummary(path.stem, fault=str(error)))
        else:
            found.append(SpaceSummary(path.stem, space.kind, space.description, space.trials))
    return found


def _within_grid(space: Space, *, whole: bool) -> Space:
    cells = space.grid_size() if space.sampler == "grid" else None
    if cells is None:
        return space
    return replace(space, trials=cells if whole else min(space.trials, cells))
