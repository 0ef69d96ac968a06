"""Writes the plan of a sealed test from a study's results: its arms and contrasts.

By default it takes few arms: each arm scored on the test set is one more that could look best by
chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from study.config import ARM_PARTS, PLACEBO_SUFFIX, TrialConfig, cut_text
from study.errors import PlanError, UsageError, listed, unknown
from study.keys import BARE_ECG, FLOORS
from study.models import rules
from study.sealed.plan import Arm, SealedPlan, origin_of
from study.spaces.sealed_plan import DEFAULTS, MIN_SEEDS, SealedTest, canonical, name_on
from study.spaces.space import Space
from study.store.floors import highest_floor, stored_floors
from study.store.study import Study
from study.wording import score_text

ALL = "all"
"""`--arms all` takes every arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedTrial:
    """A trial of a study that a sealed test could include."""

    arm: str  # its arm's name in the plan
    draw: int  # its nuisance draw, 0 in a search
    config: TrialConfig  # the configuration that it trained
    score: float  # its objective in the study


@dataclass(frozen=True, slots=True)
class ProposedPlan:
    """A plan, and remarks on it."""

    plan: SealedPlan
    comments: str  # where it is from, for the head of its file
    lacks: tuple[str, ...]  # what its result would lack for a reader


def propose(
    workspace: Path,
    name: str,
    *,
    arms: Sequence[str] = (),
    train_on: Sequence[str] = (),
    storage_url: str | None = None,
) -> ProposedPlan:
    """Return the plan that tests arms of a study.

    Of a comparison all arms get the same nuisance draw: the one with the best mean objective of
    them. Of a search each arm gets its best configuration.

    Args:
        workspace: Folder with `studies/`.
        name: Name of the study.
        arms: Which arms, or `all`. None named: of a comparison its reference, the best arm that
            uses RR, that arm's placebo and the bare ECG; of a search the best configuration and
            its placebo.
        train_on: What arms train on; with several, each arm trains on each, as an arm of its own.
            None named: what the study had.
        storage_url: Optuna storage of the study; None is the one in its folder.

    Raises:
        PlanError: If the study has no trial that a test could include, or no arm's beats are among
            those of the study.
        StudyStateError: If the study is a rehearsal.
        UsageError: If there is no such study, or an arm is unknown.
    """
    study = Study.open(workspace, name, study_storage=storage_url).readable()
    study.space.refuse_rehearsal(name)
    stored = study.plan
    trials = _ranked_trials(study)
    if not trials:
        raise PlanError(
            f"study '{name}': has no complete trial with a finite {stored.objective}; "
            "nothing of it can be tested"
        )
    known = list(dict.fromkeys(trial.arm for trial in trials))
    wanted = known if list(arms) == [ALL] else list(dict.fromkeys(arms))
    faults = [unknown("arm", arm, known) for arm in wanted if arm not in known]
    if faults:
        raise UsageError(listed("--arms", faults))
    choose = partial(_of_comparison, study.space) if stored.kind == "compare" else _of_search
    chosen, contrasts, comments = choose(trials, wanted)
    if study.unfinished:
        settled = f"{len(study.rows)} of its {stored.trials} trials are settled"
        comments = f"The study is UNFINISHED: {settled}. {comments}"
    floor, of_floors, lacking = _floor(study)
    comments = f"{comments} {of_floors}"
    cuts, origin = {cut_text(arm.cut) for arm in chosen}, origin_of(stored, name)
    data = {cut: digest for cut, digest in origin.data.items() if cut in cuts}
    if not data:
        raise PlanError(
            f"study '{name}': none of {', '.join(arm.name for arm in chosen)} has beats that it "
            "saw (an arm without ECG has none of its own), so that nothing in a plan could show "
            "that its records are still the same; name an arm with an ECG too, by --arms"
        )
    # Synthetic records stand for those of MIT-BIH, in a rehearsal.
    development = "mitdb" if stored.data_source == "synthetic" else stored.data_source
    first, *rest = list(dict.fromkeys(canonical(name) for name in train_on or [development]))
    others = {arm.name: first for arm in chosen if first != development}
    twins = {name_on(arm.name, other): (arm, other) for other in rest for arm in chosen}
    others |= {name: other for name, (_, other) in twins.items() if other != development}
    contrasts = [*contrasts, *((chosen[0].name, name_on(chosen[0].name, other)) for other in rest)]
    chosen = [*chosen, *(replace(arm, name=name) for name, (arm, _) in twins.items())]
    test = SealedTest(
        name=name,
        metrics=_metrics(stored.objective),
        contrasts=tuple(contrasts),
        floor=floor,
        development=development,
        developments=others,
        study_seed=stored.study_seed,
        resamples=DEFAULTS["resamples"],
        permutations=DEFAULTS["permutations"],
        precision=stored.precision,
        origin=replace(origin, data=data),
    )
    plan = SealedPlan(test=test, seeds=MIN_SEEDS, arms=tuple(chosen))
    return ProposedPlan(plan, comments, (*_lacks(plan), *lacking))


def _floor(study: Study) -> tuple[str, str, list[str]]:
    """Return the highest floor of a study, a sentence on all that it scored, and what it lacks."""
    floors, objective = stored_floors(study.folder), study.objective
    scores = {
        floor.name: score
        for floor in floors
        if math.isfinite(score := floor.metrics.get(objective, math.nan))
    }
    missing = ", ".join(name for name in FLOORS if name not in scores)
    lacking = (
        [f"no score of {missing} in the study: a higher floor may not be known"] if missing else []
    )
    highest = highest_floor(floors, objective)
    if highest is None:
        return DEFAULTS["floor"], "", lacking
    shown = ", ".join(f"{name} {score_text(score)}" for name, score in scores.items())
    return highest.name, f"Floors: {shown}.", lacking


def _lacks(plan: SealedPlan) -> Iterator[str]:
    """Yield the comparisons that the first arm, the one of interest, lacks."""
    arm = plan.arms[0]
    configs = [other.config for other in plan.arms]
    if not plan.test.contrasts:
        yield "no contrast: an opening with this plan tests nothing; name more --arms"
    if not rules.rr_routes(arm.config).inputs or arm.config.signal.rr != "real":
        return
    placebo = rules.digest(arm.config.with_placebo())
    if not any(rules.digest(config) == placebo for config in configs):
        yield f"no placebo of {arm.name}: nothing shows that its score rests on rhythm"
    if not any(_is_bare(config) for config in configs):
        yield f"no bare ECG: nothing shows what RR adds to it in {arm.name}"


def _metrics(objective: str) -> tuple[str, ...]:
    """Return the objective, and V separately: nearly all S beats of DS2 are in one record, 232."""
    primary = objective.removeprefix("val_")
    testable = f"{primary.partition('_')[0]}_V"
    return tuple(dict.fromkeys([primary, testable, *DEFAULTS["metrics"]]))


def _ranked_trials(study: Study) -> list[RankedTrial]:
    """Return all comparable trials, best first."""
    ranked = [row for row in study.rows if row.ranks(study.objective)]
    configs = {row.number: study.configs[row.number] for row in ranked}
    names, compares = _names(list(configs.values())), study.plan.kind == "compare"
    trials = [
        RankedTrial(
            arm=row.arm if compares else names[rules.arm(configs[row.number])],
            draw=row.draw or 0,
            config=configs[row.number],
            score=row.metric(study.objective),
        )
        for row in ranked
    ]
    return sorted(trials, key=lambda trial: -trial.score)


def _names(configs: Sequence[TrialConfig]) -> dict[str, str]:
    """Return a short name of each arm of a search: the parts that distinguish it."""
    factors = {
        rules.arm(config): {
            name: str(value)
            for name, value in rules.active_parameters(config).items()
            if name in ARM_PARTS
        }
        for config in configs
    }
    telling = [
        name
        for name in ARM_PARTS
        if len({values[name] for values in factors.values() if name in values}) > 1
    ]
    return {
        arm: "-".join(values[name] for name in telling or ("input", "fusion") if name in values)
        for arm, values in factors.items()
    }


def _of_search(
    trials: Sequence[RankedTrial], wanted: Sequence[str]
) -> tuple[list[Arm], list[tuple[str, str]], str]:
    best: dict[str, RankedTrial] = {}
    for trial in trials:
        best.setdefault(trial.arm, trial)
    names = wanted or [trials[0].arm]
    arms = [Arm(name=name, config=best[name].config) for name in names]
    if not wanted and rules.rr_routes(arms[0].config).inputs:
        placebo = arms[0].config.with_placebo()
        arms.append(Arm(name=names[0] + PLACEBO_SUFFIX, config=placebo))
    contrasts = [(arms[0].name, arm.name) for arm in arms[1:]]
    shown = ", ".join(f"{name} {score_text(best[name].score)}" for name in names)
    return (
        arms,
        contrasts,
        (
            f"The best configuration of each arm, by its cross-validated score: {shown}. "
            "It was the best of several tries, so that this score is optimistic."
        ),
    )


def _of_comparison(
    space: Space, trials: Sequence[RankedTrial], wanted: Sequence[str]
) -> tuple[list[Arm], list[tuple[str, str]], str]:
    by_arm: dict[str, dict[int, RankedTrial]] = {}
    for trial in trials:
        by_arm.setdefault(trial.arm, {})[trial.draw] = trial
    names = list(wanted) or _compact(by_arm, space.reference)
    draws = set.intersection(*(set(by_arm[name]) for name in names))
    if not draws:
        raise PlanError(f"arms {', '.join(names)}: have no draw of which all are complete")

    def mean(draw: int) -> float:
        return fmean(by_arm[name][draw].score for name in names)

    draw = max(sorted(draws), key=mean)
    arms = [Arm(name=name, config=by_arm[name][draw].config) for name in names]
    contrasts = [pair for pair in space.contrasts if set(pair) <= set(names)]
    against_first = [(names[0], name) for name in names[1:]]
    if not wanted or not contrasts:
        contrasts += [pair for pair in against_first if pair not in contrasts]
    shown = ", ".join(f"{name} {score_text(by_arm[name][draw].score)}" for name in names)
    return (
        arms,
        contrasts,
        (
            f"Draw {draw} of the nuisance parameters, whose mean score over these arms is highest "
            f"of {len(draws)}. Cross-validated scores: {shown}."
        ),
    )


def _compact(by_arm: Mapping[str, Mapping[int, RankedTrial]], reference: str) -> list[str]:
    """Return the best arm that uses RR, its placebo, the reference and the bare ECG.

    The best arm is chosen on draws that all arms have: a draw may favour every arm, and must not
    rank them.
    """
    shared = set.intersection(*(set(draws) for draws in by_arm.values()))
    if not shared:
        raise PlanError(
            f"arms {', '.join(by_arm)}: have no draw of which all are complete; name the arms to "
            "be tested by --arms"
        )
    means = {name: fmean(draws[draw].score for draw in shared) for name, draws in by_arm.items()}
    arms = {
        name: Arm(name=name, config=next(iter(draws.values())).config)
        for name, draws in by_arm.items()
    }
    uses_rr = [
        name
        for name, arm in arms.items()
        if rules.rr_routes(arm.config).inputs and arm.config.signal.rr == "real"
    ]
    best = max(uses_rr or list(means), key=lambda name: means[name])
    placebos = [name for name in arms if _is_placebo_of(by_arm[name], by_arm[best])]
    has_window = "segmentation" in rules.active_parameters(arms[best].config)
    window = arms[best].config.signal.window
    bare = [
        name
        for name, arm in arms.items()
        if _is_bare(arm.config) and (arm.config.signal.window == window or not has_window)
    ]
    references = [reference] if reference in arms else []
    return list(dict.fromkeys([best, *placebos, *references, *bare]))


def _is_bare(config: TrialConfig) -> bool:
    return (config.signal.input, config.model.fusion) == BARE_ECG


def _is_placebo_of(draws: Mapping[int, RankedTrial], of: Mapping[int, RankedTrial]) -> bool:
    return any(
        rules.digest(draws[draw].config) == rules.digest(of[draw].config.with_placebo())
        for draw in draws.keys() & of.keys()
    )
