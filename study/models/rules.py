"""Rules on legal configurations, active parameters, and paths of RR to the output.

They follow from `study.config.INPUTS` and what each class of FUSIONS declares; no network is
built.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

from study.config import (
    ARM_PARTS,
    CHOICES,
    INPUTS,
    LIMITS,
    OWN_OPTIONS,
    PARAMETERS,
    ModelConfig,
    SignalSpec,
    TrialConfig,
    digest_of,
)
from study.errors import ConfigError, listed, unknown
from study.models.backbone import BACKBONES, FEATURES
from study.models.declared import SHARED, names_of
from study.models.fusion import FUSIONS
from study.models.fusion_base import Fusion
from study.models.plugins.plugin import used_by

_PUBLISHED_BACKBONE = "macnn_se"
_LATER = {name: OWN_OPTIONS[name] for name in ("backbone_width", "backbone_dropout", "rr_loss")}
_LATER["augment"] = 0.0
"""Parameters that the first studies did not have, and their values that mean off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RRRoutes:
    """The paths by which rhythm can reach a configuration's output."""

    early: bool  # through the channels of RR ratios
    late: bool  # through the late RR vector
    window: bool  # through the cut: a daeac window starts at the previous beat
    remark: str = ""  # remark beyond the flags, for `text`

    @property
    def inputs(self) -> bool:
        """Whether RR given as a number can change the output: what a placebo permutes."""
        return self.early or self.late

    def text(self) -> str:
        """Return these paths in a line for plans and tables."""
        names = {"early channels": self.early, "late vector": self.late, "window": self.window}
        open_ = [name for name, is_open in names.items() if is_open]
        line = f"RR reaches the output by: {', '.join(open_)}" if open_ else "RR cannot be used"
        return f"{line} ({self.remark})" if self.remark else line


def check_combination(signal: SignalSpec, model: ModelConfig) -> None:
    """Refuse an impossible configuration, and a second way to write a possible one.

    Raises:
        ConfigError: If fusion or backbone is unknown, the fusion does not go with the input or is
            a synonym with it, heads do not divide the embedding, a backbone cannot have that width
            or the fusion not take it, a placebo has no RR to permute, or a template is missing or
            not used; all faults together.
    """
    if model.fusion not in FUSIONS:
        raise ConfigError(f"configuration: fusion: {unknown('value', model.fusion, FUSIONS)}")
    if model.backbone not in BACKBONES:
        known = unknown("value", model.backbone, BACKBONES)
        raise ConfigError(f"configuration: backbone: {known}")
    fusion = FUSIONS[model.fusion]
    pair = _pair_fault(signal, model.fusion)
    faults = _template_faults(signal) + ([pair] if pair else _placebo_faults(signal, model))
    if "heads" in names_of(fusion) and model.embed_dim % model.heads:
        most = min(model.embed_dim, int(LIMITS["heads"][1]))
        divisors = [str(h) for h in range(1, most + 1) if model.embed_dim % h == 0]
        faults.append(
            f"heads: must divide embed_dim, got heads={model.heads} and "
            f"embed_dim={model.embed_dim}; allowed: {', '.join(divisors)}"
        )
    has_width = "backbone_width" in names_of(BACKBONES[model.backbone])
    width = model.option("backbone_width") if has_width else FEATURES
    if width % 64:
        faults.append(
            f"backbone_width: must be a multiple of 64, got {width}; allowed: 64, 128, 192, 256"
        )
    elif width != FEATURES and fusion.uses_ecg and "features" not in signature(fusion).parameters:
        faults.append(
            f"backbone_width: fusion '{model.fusion}' takes maps of {FEATURES} channels only"
        )
    if faults:
        raise ConfigError(listed("configuration", faults))


def fusions_for(input_: str) -> tuple[str, ...]:
    """Return the fusions that an input goes with, in the order of FUSIONS."""
    return tuple(name for name in FUSIONS if input_ in inputs_for(name))


def inputs_for(fusion: str) -> tuple[str, ...]:
    """Return the inputs that a fusion goes with, in the order of INPUTS."""
    class_ = FUSIONS[fusion]
    return tuple(
        name
        for name, option in INPUTS.items()
        if option.late_rr == class_.takes_late_rr and (class_.uses_ecg or option.channels == 1)
    )


def _pair_fault(signal: SignalSpec, fusion: str) -> str | None:
    if signal.input in inputs_for(fusion):
        return None
    class_, option = FUSIONS[fusion], signal.option
    if class_.takes_late_rr and not option.late_rr:
        return (
            f"fusion: '{fusion}' takes a late RR vector, and input '{signal.input}' has none; "
            f"inputs for '{fusion}': {', '.join(inputs_for(fusion))}; "
            f"fusions for '{signal.input}': {', '.join(fusions_for(signal.input))}"
        )
    unused = "late RR vector" if option.late_rr and not class_.takes_late_rr else "early channels"
    early = option.early_rr and class_.uses_ecg
    same = next(n for n in inputs_for(fusion) if INPUTS[n].early_rr == early)
    return (
        f"input: fusion '{fusion}' does not use the {unused} of input '{signal.input}'; "
        f'write input = "{same}"'
    )


def _template_faults(signal: SignalSpec) -> list[str]:
    using = {}
    if signal.morphology != "beat":
        using["morphology"] = signal.morphology
    if signal.n_shape:
        using["late_shape"] = signal.late_shape
    if signal.template == "none":
        known = ", ".join(name for name in CHOICES["template"] if name != "none")
        return [
            f"{name}: '{value}' is from a template, and template is 'none'; templates: {known}"
            for name, value in using.items()
        ]
    if using:
        return []
    unused = "late_shape 'none'"
    if signal.late_shape != "none":
        unused = f"input '{signal.input}', which has no late vector for late_shape to follow"
    return [
        f"template: '{signal.template}' is the same as 'none' with morphology 'beat' and "
        f'{unused}; write template = "none"'
    ]


def _placebo_faults(signal: SignalSpec, model: ModelConfig) -> list[str]:
    option = signal.option
    if signal.rr == "real" or option.early_rr or FUSIONS[model.fusion].uses_rr:
        return []
    if not option.late_rr:
        with_rr = [name for name, o in INPUTS.items() if o.early_rr or o.late_rr]
        return [
            f"rr: 'placebo' permutes RR, and input '{signal.input}' has none; "
            f"inputs with RR: {', '.join(with_rr)}"
        ]
    return [
        f"rr: 'placebo' is the same as 'real' with input '{signal.input}' and fusion "
        f"'{model.fusion}', which cannot use the late RR vector; write rr = \"real\""
    ]


def rr_routes(config: TrialConfig) -> RRRoutes:
    """Return, before training, the paths by which RR can reach a legal configuration's output."""
    signal, fusion = config.signal, FUSIONS[config.model.fusion]
    remarks = []
    if signal.option.late_rr and not fusion.uses_rr:
        remarks.append(f"{config.model.fusion} is blind to the late vector it is given")
    if signal.segmentation == "centred" and fusion.uses_ecg:
        remarks.append("neighbouring beats inside the window can show the rhythm")
    if signal.segmentation == "daeac" and fusion.uses_ecg and signal.rr == "placebo":
        remarks.append("the placebo leaves the window as it is")
    return RRRoutes(
        early=signal.option.early_rr and fusion.uses_ecg,
        late=signal.option.late_rr and fusion.uses_rr,
        window=signal.segmentation == "daeac" and fusion.uses_ecg,
        remark="; ".join(remarks),
    )


def active_parameters(config: TrialConfig) -> dict[str, Any]:
    """Return, by flat name, the parameters that can change the result of a configuration.

    `resampling` is resolved. Parameters without effect for mathematical reasons (heads over one
    token, an RR set that `mhca` is blind to) stay: identical results should be observed, not
    assumed. Parameters that the first studies did not have (templates, the backbone, `_LATER`) are
    left out where they are off, so that a configuration keeps its digest. Options of other fusions
    and backbones are left out too.
    """
    dropped = _inactive(config, FUSIONS[config.model.fusion])
    values = config.flat() | {"resampling": config.signal.resampling_method}
    # A float given as 1 must have the digest of 1.0.
    return {name: PARAMETERS[name](v) for name, v in values.items() if name not in dropped}


def _inactive(config: TrialConfig, fusion: type[Fusion]) -> set[str]:
    signal, train, routes = config.signal, config.train, rr_routes(config)
    # Two configurations that differ only in dropped parameters are one trial.
    dropped = (SHARED | OWN_OPTIONS.keys()) - names_of(fusion)
    if fusion.uses_ecg:
        dropped -= names_of(BACKBONES[config.model.backbone])
    if not fusion.uses_ecg or config.model.backbone == _PUBLISHED_BACKBONE:
        dropped.add("backbone")
    if config.model.gate == "off":
        dropped.add("gate_init")
    if not fusion.uses_ecg:
        dropped |= {"segmentation", "resampling", "augment"}
    if not signal.option.late_rr:
        dropped |= {"late_rr", "rr_scale"}
    if signal.morphology == "beat" or not fusion.uses_ecg:
        dropped.add("morphology")
    if not signal.n_shape:
        dropped.add("late_shape")
    if not uses_template(config):
        dropped.add("template")
    ratios = signal.option.early_rr or (signal.option.late_rr and signal.late_rr == "ratio2")
    if not ratios:
        dropped.add("ratio_mean")
    if not routes.inputs:
        dropped |= {"rr", "rr_dropout"}
    if train.loss != "focal":
        dropped.add("focal_gamma")
    values = config.flat()
    dropped |= {name for name, off in _LATER.items() if values[name] == off}
    return dropped


def uses_template(config: TrialConfig) -> bool:
    """Return whether anything made with a template is among a legal configuration's inputs."""
    return config.signal.n_shape > 0 or sees_deviation(config)


def sees_deviation(config: TrialConfig) -> bool:
    """Return whether a window shows a legal configuration how the beat deviates from it."""
    return "deviation" in config.signal.windows and FUSIONS[config.model.fusion].uses_ecg


def shapes_seen(config: TrialConfig) -> tuple[int, str]:
    """Return how many inputs of the beat's shape an arm sees, and the template beside them."""
    signal = config.signal
    windows = len(signal.windows) if FUSIONS[config.model.fusion].uses_ecg else 0
    template = signal.template if uses_template(config) else "none"
    return windows + (signal.n_shape > 0), template


def normalised(config: TrialConfig) -> TrialConfig:
    """Return the configuration of the same digest whose inactive parameters have defaults."""
    return TrialConfig.from_flat(active_parameters(config))


def digest(config: TrialConfig) -> str:
    """Return the digest that identifies a configuration: its active parameters and plug-ins."""
    values = active_parameters(config)
    plugins = [plugin.digest for plugin in used_by(config.model)]
    return digest_of(values | {"plugins": plugins} if plugins else values)


def arm(config: TrialConfig) -> str:
    """Return the name of the arm: its parts, as `ARM_PARTS` lists them.

    Parts that do not apply are left out, such as the segmentation under `rr_only`.
    """
    active = active_parameters(config)
    return " / ".join(active[part] for part in ARM_PARTS if part in active)
