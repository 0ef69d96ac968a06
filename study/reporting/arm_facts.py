"""What each arm of a space is made of, and what it knows of the time after the beat."""

from __future__ import annotations

from collections.abc import Mapping

from study.config import SignalSpec, TrialConfig
from study.data.rr import FEATURES, Causality
from study.models import rules
from study.models.fusion import FUSIONS
from study.reporting.page.results import ArmFacts
from study.spaces.space import Space

_PLACEBO = "_placebo"


def facts_of(space: Space, configs: Mapping[str, TrialConfig]) -> dict[str, ArmFacts]:
    """Return the facts of arms.

    Args:
        space: Where they come from.
        configs: A configuration of each.
    """
    return {
        name: ArmFacts(
            input=config.signal.input,
            segmentation=config.signal.segmentation,
            fusion=config.model.fusion,
            late_rr=config.signal.late_rr if config.signal.option.late_rr else "",
            rr=config.signal.rr,
            routes=rules.rr_routes(config).text(),
            look_ahead=_look_ahead(config),
            stand_in=_stand_in(name, config, configs),
        )
        for name, config in configs.items()
    }


def _look_ahead(config: TrialConfig) -> str:
    signal = config.signal
    sets = [f"ratio2_{signal.ratio_mean}"] if signal.option.early_rr else []
    if signal.option.late_rr and FUSIONS[config.model.fusion].takes_late_rr:
        sets.append(_late_set(signal))
    found = {feature.causality for name in sets for feature in FEATURES[name]}
    ahead = [str(kind) for kind in Causality if kind in found and kind is not Causality.CAUSAL]
    window = "its window ends 1 s after R" if signal.segmentation == "centred" else ""
    return "; ".join([*ahead, *([window] if window else [])]) or "none"


def _late_set(signal: SignalSpec) -> str:
    return f"ratio2_{signal.ratio_mean}" if signal.late_rr == "ratio2" else signal.late_rr


def _stand_in(name: str, config: TrialConfig, configs: Mapping[str, TrialConfig]) -> str:
    """Return the name of an arm's placebo."""
    if config.signal.rr != "real":
        return ""
    if name + _PLACEBO in configs:
        return name + _PLACEBO
    # In a search an arm's name says what it is made of.
    other = name.removesuffix(" / real") + " / placebo"
    return other if other in configs else ""
