"""The parts of each arm, its look-ahead, measurements inside its network, and its cost."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from study.config import N_SAMPLES, PLACEBO_SUFFIX, SignalSpec, TrialConfig
from study.data.reference.templates import TEMPLATES, template_text
from study.data.rr import FEATURES
from study.data.windows import SEGMENTATIONS, Causality
from study.errors import StudyStateError
from study.models import rules
from study.models.classifier import Classifier, build_model
from study.models.fusion import FUSIONS
from study.reporting.results import ArmFacts, Cost, Explanation
from study.store.study import Study
from study.store.trial_files import PREDICTIONS, inspection_of

BATCH = 256

_ALONE, _BATCHES = 15, 3


def arm_configs(study: Study) -> dict[str, TrialConfig]:
    """Return the configuration that represents each arm, in the order of the space.

    Parameters that do not apply to an arm have the values that the space fixes: `rr_only` belongs
    to the window of its space, although it sees none. Configurations of trials lack them.
    """
    if study.plan.kind == "compare":
        first = [point for point in study.space.comparisons() if point.draw == 0]
        return {point.arm: point.config for point in first}
    rows = {row.arm: row for row in study.rows} | study.arm_trials
    fixed = study.space.context()
    return {
        arm: TrialConfig.from_flat(fixed | rules.active_parameters(study.configs[row.number]))
        for arm, row in rows.items()
    }


def facts_of(configs: Mapping[str, TrialConfig]) -> dict[str, ArmFacts]:
    """Return the facts of arms, each of which has a configuration."""
    routes = {name: rules.rr_routes(config) for name, config in configs.items()}
    return {
        name: ArmFacts(
            input=config.signal.input,
            segmentation=config.signal.segmentation,
            window=config.signal.window,
            fusion=config.model.fusion,
            late_rr=_late_text(config.signal),
            rr=config.signal.rr,
            can_use_rr=routes[name].inputs or routes[name].window,
            routes=routes[name].text(),
            look_ahead=look_ahead(config),
            reference=reference_text(config),
            placebo=_placebo(name, config, configs),
        )
        for name, config in configs.items()
    }


def _late_text(signal: SignalSpec) -> str:
    """Name the parts of a late vector; empty without one."""
    shape = [signal.late_shape] if signal.n_shape else []
    return " + ".join([signal.late_rr, *shape]) if signal.option.late_rr else ""


def reference_text(config: TrialConfig) -> str:
    """Say what a legal configuration takes from a template; empty where it uses none."""
    if not rules.uses_template(config):
        return ""
    signal = config.signal
    seen = list(signal.windows) if rules.sees_deviation(config) else []
    seen += ["distances"] if signal.n_shape else []
    return f"{', '.join(seen)} from the template {template_text(signal.template)}"


def look_ahead(config: TrialConfig) -> str:
    """Say what a legal configuration needs from after the beat, or `none`."""
    signal = config.signal
    sets = [name for name in (signal.early_set, signal.late_set) if name is not None]
    causalities = {feature.causality for name in sets for feature in FEATURES[name]}
    if rules.uses_template(config):
        causalities.add(TEMPLATES[signal.template].causality)
    ahead = [
        str(kind) for kind in Causality if kind in causalities and kind is not Causality.CAUSAL
    ]
    stop_s = SEGMENTATIONS[signal.segmentation].stop_s
    soonest_s = min(cut.stop_s for cut in SEGMENTATIONS.values())
    if stop_s > soonest_s and FUSIONS[config.model.fusion].uses_ecg:
        ahead.append(f"its window ends {stop_s:g} s after R")
    return "; ".join(ahead) or "none"


def _placebo(name: str, config: TrialConfig, configs: Mapping[str, TrialConfig]) -> str:
    """Return the name of an arm's placebo; empty where the study has none."""
    if config.signal.rr != "real":
        return ""
    if name + PLACEBO_SUFFIX in configs:
        return name + PLACEBO_SUFFIX
    # In a search an arm's name states its parts; without RR, the name stays the same.
    other = rules.arm(config.with_placebo())
    return other if other != name and other in configs else ""


def explanations_of(study: Study) -> tuple[dict[str, Explanation], str]:
    """Return measurements inside the networks, by arm, and the reason for missing ones.

    Only arms that attend over time or have a gated branch are measured. The reason is empty where
    none is missing.
    """
    explanations: dict[str, Explanation] = {}
    without: dict[str, list[str]] = {}  # numbers of trials by reason
    for arm, row in study.arm_trials.items():
        fusion = FUSIONS[study.configs[row.number].model.fusion]
        if not (fusion.over_time or "gate" in fusion.options):
            continue
        reason, inspection = f"its {PREDICTIONS} has no measurement", None
        try:
            arrays = study.predictions(row)
            inspection = inspection_of(arrays)
        except StudyStateError as error:
            reason = str(error)
        if inspection is None:
            without.setdefault(reason, []).append(str(row.number))
        else:
            explanations[arm] = Explanation(
                trial=row.number, inspection=inspection, gates=arrays.get("gates")
            )
    reasons = [f"trials {', '.join(numbers)}: {reason}" for reason, numbers in without.items()]
    return explanations, "; ".join(reasons)


def machine() -> str:
    """Describe the machine on which times were measured."""
    return f"{platform.machine()} CPU, one thread, torch {torch.__version__}"


def costs_of(configs: Mapping[str, TrialConfig]) -> dict[str, Cost]:
    """Build one network of each arm and run it; arms with the same network share its cost."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    models = {
        arm: build_model(config.signal, config.model, seed=(0,)).eval()
        for arm, config in configs.items()
    }
    # A placebo, or another late set as wide, changes what a network sees, not the network.
    networks = {
        arm: (configs[arm].model, model.windows, model.early, model.n_rr, model.n_shape)
        for arm, model in models.items()
    }
    distinct = {networks[arm]: model for arm, model in models.items()}
    try:
        costs = {network: _cost(model) for network, model in distinct.items()}
    finally:
        torch.set_num_threads(threads)
    return {arm: costs[network] for arm, network in networks.items()}


@torch.inference_mode()
def _cost(model: Classifier) -> Cost:
    counter = FlopCounterMode(display=False)
    with counter:
        model(*_inputs(model, 1))
    return Cost(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        operations=int(counter.get_total_flops()),
        milliseconds_one=_milliseconds(model, 1, _ALONE),
        milliseconds_batch=_milliseconds(model, BATCH, _BATCHES) / BATCH,
    )


def _inputs(model: Classifier, n: int) -> tuple[Any, ...]:
    return (
        torch.zeros(n, *(2,) * (model.windows > 1), N_SAMPLES),
        torch.ones(n, 2) if model.early else None,
        torch.zeros(n, model.n_rr) if model.n_rr else None,
        *(None, None),  # nothing is hidden, and the backbone runs
        torch.zeros(n, model.n_shape) if model.n_shape else None,
    )


def _milliseconds(model: Classifier, n: int, times: int) -> float:
    """Return the median time of a pass over n beats, ms."""
    inputs = _inputs(model, n)
    model(*inputs)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        model(*inputs)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)
