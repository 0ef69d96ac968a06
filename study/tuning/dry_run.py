"""The dry run: shows a study's plan, builds every branch of its space, estimates the time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from study.config import TrialConfig
from study.data.catalogue import CATALOGUE
from study.data.folds import folds_table
from study.models import rules
from study.models.classifier import build_model
from study.models.plugins.contract import Case, faults
from study.models.plugins.plugin import used_by
from study.reporting.arms import reference_text
from study.spaces.optuna_space import notes_on
from study.spaces.space import Space
from study.store.study import Study
from study.store.trials import Trials
from study.training.device import DeviceBeats, resolve_device
from study.tuning.estimate import (
    epoch_seconds,
    floor_seconds,
    placed_beats,
    train_on,
    trial_seconds,
)
from study.tuning.header import content_lines, time_text, trials_line
from study.tuning.progress import duration
from study.tuning.setup import Setup
from study.wording import plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a space, as it was built."""

    arm: str
    factors: str  # what the arm is made of
    differing: str  # values that tell it from branches made of the same; empty without these
    parameters: int  # weights of one member
    routes: str  # how RR can reach its output
    reference: str  # what it takes from which template; empty without one


def branches(space: Space) -> list[tuple[str, TrialConfig]]:
    """Return every branch of a search, or every arm of a comparison, with its arm's name."""
    if space.kind == "compare":
        return list(space.arm_configurations().items())
    return [(rules.arm(config), config) for config in space.configurations()]


def build_branches(setup: Setup, *, run: bool) -> Iterator[Branch]:
    """Build each branch.

    Raises:
        ConfigError: If a branch cannot be built.
    """
    device = resolve_device(setup.job.device)
    on_device: dict[int, DeviceBeats] = {}
    every = branches(setup.space)
    for name, config in every:
        model = build_model(config.signal, config.model, seed=(0, 0, 0)).to(device)
        if run:
            placed = placed_beats(setup.job.beats_of(config), device, on_device)
            index = torch.arange(min(32, len(placed.label)), device=device)
            train_on(model, placed.inputs(config.signal).take(index), placed.label[index])
        yield Branch(
            arm=name,
            factors=rules.arm(config),
            differing=_differing(config, [other for _, other in every]),
            parameters=sum(p.numel() for p in model.parameters()),
            routes=rules.rr_routes(config).text(),
            reference=reference_text(config),
        )


def _differing(config: TrialConfig, every: list[TrialConfig]) -> str:
    """Name the values by which a configuration differs from others of the same arm."""
    alike = [rules.active_parameters(c) for c in every if rules.arm(c) == rules.arm(config)]
    values = rules.active_parameters(config).items()
    return ", ".join(
        f"{name} = {value}"
        for name, value in values
        if any(name not in other or other[name] != value for other in alike)
    )


def broken_routes(space: Space) -> Iterator[str]:
    """Yield where a plug-in uses RR otherwise than it declares, as its branch's routes say."""
    models = [(config.signal.input, config.model) for _, config in branches(space)]
    cases = [
        Case(input=input_, fusion=model.fusion, backbone=model.backbone)
        for input_, model in models
        if used_by(model)
    ]
    for case in dict.fromkeys(cases):
        yield from dict.fromkeys(faults("uses of rr", case))


def plan_lines(
    setup: Setup, concurrency: int, existing: Study | None = None, *, run_branches: bool
) -> Iterator[str]:
    """Yield a description of what a study would do, line by line."""
    plan, space = setup.plan, setup.space
    built = list(build_branches(setup, run=run_branches))
    arms = len({branch.arm for branch in built})
    yield from content_lines(space, plan.name)
    yield f"records: {setup.source.description}"
    for name in plan.databases:
        if missing := CATALOGUE[name].unknown:
            yield f"note: {name}: {missing}"
    yield trials_line(space, arms)
    if plan.kind == "search":
        size = space.grid_size()
        yield (
            f"sampler: {plan.sampler}, scheduler: {plan.scheduler}, "
            f"objective: {plan.objective}, grid: {'continuous' if size is None else size}"
        )
        if space.n_proposed < arms:
            yield f"note: {plural(space.n_proposed, 'trial')} cannot reach all {arms} arms once"
        yield from (f"note: {note}" for note in notes_on(plan.sampler, space, concurrency))
    yield f"arithmetic: {plan.engine}"
    yield folds_table(setup.job.folds, setup.beats)
    yield f"branches, each built{' and run once' if run_branches else ''}:"
    width, references = max(len(branch.arm) for branch in built), {b.reference for b in built}
    one_reference = references.pop() if len(built) > len(references) == 1 else ""
    for branch in built:
        yield f"  {branch.arm:<{width}} {branch.parameters:>8,} parameters  {branch.routes}"
        if branch.factors != branch.arm:
            yield f"    {branch.factors}"
        if branch.differing:
            yield f"    {branch.differing}"
        if branch.reference and not one_reference:
            yield f"    {branch.reference}"
    if one_reference:
        yield f"  all of them: {one_reference}"
    for fault in broken_routes(space):
        yield f"warning: a plug-in's routes are not as it declares: {fault}"
        yield "  `python -m study.check_plugin FILE.py` runs all checks"
    if existing:
        yield f"so far: {existing.state}"
        for line in plan.differences(existing.plan).values():
            yield f"note: it has another plan: {line}"
    yield _time_line(setup, concurrency, existing)


def _time_line(setup: Setup, concurrency: int, existing: Study | None) -> str:
    trials = existing.trials if existing else Trials()
    epoch_s = epoch_seconds(setup, trials)
    if math.isnan(epoch_s):  # a header leaves the time out; a dry run must give it
        epoch_s = trial_seconds(setup) / setup.plan.epochs
    line = time_text(setup, concurrency, epoch_s, trials)
    floors_s = floor_seconds(setup, existing)
    return f"{line}; and {duration(floors_s)} for the floors" if floors_s else line
