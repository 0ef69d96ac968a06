"""Configurations: frozen dataclasses, checked when built, never mutated.

A `TrialConfig` is one point of a search space. It has three groups of parameters; no two groups
share a name, so that a space file, an MLflow run and a table use the same word for a parameter.
`study.models.rules` checks what depends on the fusion: legal pairs, and its options.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any, Self, get_type_hints

from study.errors import ConfigError, listed, unknown
from study.keys import EARLIER, current_word

Cut = tuple[str, ...]
"""A segmentation, a resampling and, if any, a template. Each has a beat set of its own."""

N_SAMPLES = 128
"""Samples T of every beat window after resampling."""

SAMPLING_RATE_HZ = 360
"""Sampling rate at which windows are cut; records at other rates are resampled to it."""


@dataclass(frozen=True, slots=True)
class InputOption:
    """Where RR enters: as early channels, as a late vector, both or not at all."""

    channels: int
    early_rr: bool
    late_rr: bool


INPUTS = {
    "opt1": InputOption(channels=1, early_rr=False, late_rr=True),
    "opt2": InputOption(channels=3, early_rr=True, late_rr=False),
    "opt3": InputOption(channels=3, early_rr=True, late_rr=True),
    "ecg": InputOption(channels=1, early_rr=False, late_rr=False),
}

LATE_RR_WIDTH = {
    "published7": 7,
    "ratio7": 7,
    "ratio2": 2,
    "causal": 6,
    "log8": 8,
    "log_causal": 6,
    "log_robust": 7,
}
"""Features R of each late RR vector (see `study.data.rr`)."""

WINDOWS: dict[str, tuple[str, ...]] = {
    "beat": ("beat",),
    "deviation": ("deviation",),
    "both": ("beat", "deviation"),
}
"""What each `morphology` shows: the beat, scaled by itself; its deviation from its template."""

PUBLISHED_RESAMPLING = {
    "daeac": "linear",
    "centred": "linear",
    "fixed": "antialiased",
    "beat": "antialiased",
}
"""Segmentations and what `resampling = "auto"` means for each; published arms are linear."""

CHOICES: dict[str, tuple[str, ...]] = {
    "input": tuple(INPUTS),
    "segmentation": tuple(PUBLISHED_RESAMPLING),
    "resampling": ("auto", "linear", "antialiased"),
    "template": ("none", "record", "trailing", "learning"),
    "morphology": tuple(WINDOWS),
    "late_rr": tuple(LATE_RR_WIDTH),
    "late_shape": ("none", "distances"),
    "ratio_mean": ("so_far", "record"),
    "rr": ("real", "placebo"),
    "rr_scale": ("raw", "standardised"),
    "gate": ("learned", "scalar", "frozen", "off"),
    "loss": ("cross_entropy", "focal"),
    "class_weights": ("none", "sqrt_inverse", "inverse"),
    "logit_adjustment": ("none", "prior"),
    "schedule": ("one_cycle", "cosine"),
}
"""Allowed words of categorical parameters; names of fusions and backbones are in their tables."""

ARM_PARTS = (
    *("input", "segmentation", "template", "morphology"),
    *("backbone", "fusion", "late_rr", "late_shape", "rr"),
)
"""Parameters whose values make an arm; all others are nuisance."""

PLACEBO_SUFFIX = "_placebo"
"""Suffix of an arm's placebo in a compare space: `film_placebo` is the placebo of `film`."""

LIMITS: dict[str, tuple[float, float]] = {
    "embed_dim": (1, 4096),
    "heads": (1, 64),
    "ffn_expansion": (1, 16),
    "gate_init": (-20.0, 20.0),
    "dropout": (0.0, 0.95),
    "epochs": (1, 1000),
    "batch_size": (2, 65536),
    "normal_beats_per_epoch": (0, 1_000_000),
    "focal_gamma": (0.0, 10.0),
    "label_smoothing": (0.0, 0.9),
    "learning_rate": (1e-8, 10.0),
    "weight_decay": (0.0, 10.0),
    "rr_dropout": (0.0, 1.0),
    "gradient_clip": (0.0, 1e6),
    "ema_decay": (0.0, 0.99999),
    "augment": (0.0, 4.0),
}
"""Inclusive bounds of every numeric parameter."""

OWN_OPTIONS: dict[str, str | int | float] = {}
"""Defaults of the options that classes of fusions and backbones declare for themselves.

`study.models.declared` adds them, here and to the tables of all parameters.
"""

_OWN = "own"


def value_faults(name: str, value: object, type_: type) -> list[str]:
    """Return the fault of a parameter's value: type, word or bound."""
    if type_ is str:
        if not isinstance(value, str):
            return [f"{name}: must be text, got {value!r}"]
        if name in CHOICES and value not in CHOICES[name]:
            return [f"{name}: {unknown('value', value, CHOICES[name])}"]
        return []
    if isinstance(value, bool) or not isinstance(value, int if type_ is int else (int, float)):
        kind = "a whole number" if type_ is int else "a number"
        return [f"{name}: must be {kind}, got {value!r}"]
    low, high = LIMITS[name]
    if not low <= value <= high:
        return [f"{name}: must be in [{low:g}, {high:g}], got {value!r}"]
    return []


_types: Callable[[type], dict[str, Any]] = cache(get_type_hints)
"""Cached, because evaluating the annotations is the slowest part of building a configuration."""


def _check(config: SignalSpec | ModelConfig | TrainConfig) -> None:
    types = _types(type(config))
    faults = [
        fault
        for item in fields(config)
        if item.name != _OWN
        for fault in value_faults(item.name, getattr(config, item.name), types[item.name])
    ]
    if faults:
        raise ConfigError(listed("configuration", faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSpec:
    """The inputs of a member for a beat.

    Raises:
        ConfigError: If a value is not among the allowed ones.
    """

    input: str = "opt1"  # where RR enters; see `INPUTS`
    segmentation: str = "daeac"  # how the window is cut; see `study.data.windows`
    resampling: str = "auto"  # to 128 samples: linear, antialiased, or auto (as published)
    # The patient's usual beat, which `morphology` and `late_shape` compare with; see
    # `study.data.reference.templates`
    template: str = "none"
    morphology: str = "beat"  # rows of the ECG; see `WINDOWS`
    late_rr: str = "published7"  # feature set of the late RR vector; see `study.data.rr`
    # Scalars of shape after the late RR vector: none, or two distances of the beat from its
    # template
    late_shape: str = "none"
    # Denominator of the first ratio of `ratio2`: mean so far, or of the whole record
    ratio_mean: str = "so_far"
    rr: str = "real"  # `placebo` permutes RR within each record, in training and validation alike

    def __post_init__(self) -> None:
        _check(self)

    @property
    def option(self) -> InputOption:
        """Channels and RR entry points of this input."""
        return INPUTS[self.input]

    @property
    def early_set(self) -> str | None:
        """Feature set of the early channels, or None without them."""
        return f"ratio2_{self.ratio_mean}" if self.option.early_rr else None

    @property
    def late_set(self) -> str | None:
        """Feature set of the late RR vector, or None without one."""
        if not self.option.late_rr:
            return None
        return f"ratio2_{self.ratio_mean}" if self.late_rr == "ratio2" else self.late_rr

    @property
    def resampling_method(self) -> str:
        """`linear` or `antialiased`, with `auto` resolved."""
        auto = self.resampling == "auto"
        return PUBLISHED_RESAMPLING[self.segmentation] if auto else self.resampling

    @property
    def windows(self) -> tuple[str, ...]:
        """What a network with ECG sees of a beat: `beat`, `deviation`, or both."""
        return WINDOWS[self.morphology]

    @property
    def channels(self) -> int:
        """Rows of the network's input: windows, and early ratios."""
        return self.option.channels + len(self.windows) - 1

    @property
    def n_shape(self) -> int:
        """Number of scalars of shape after the late RR vector."""
        return 2 if self.option.late_rr and self.late_shape == "distances" else 0

    @property
    def window(self) -> str:
        """Name of what a network sees of a beat: its segmentation, and its template if any."""
        if self.morphology == "beat":
            return self.segmentation
        return f"{self.segmentation}/{self.morphology}/{self.template}"

    @property
    def cut(self) -> Cut:
        """Segmentation, resampling method and, if any, template, which select a beat set."""
        template = () if self.template == "none" else (self.template,)
        return self.segmentation, self.resampling_method, *template


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The network: a backbone and a fusion.

    Raises:
        ConfigError: If a value is of the wrong kind or outside its bounds.
    """

    backbone: str = "macnn_se"
    fusion: str = "concat_proj"
    embed_dim: int = 64  # width D of the shared ECG-RR embedding
    heads: int = 1  # attention heads H; must divide `embed_dim`
    # Hidden width of the attention block's FFN, in multiples of `embed_dim`
    ffn_expansion: int = 4
    # Gate sigmoid(alpha): learned by channel, one learned scalar, frozen at its start, or off
    gate: str = "learned"
    gate_init: float = -2.0  # start of alpha; -2 opens the gate by 0.12
    dropout: float = 0.2  # of attention, FFN and RR projections
    # late RR unchanged, or standardised by the member's training beats
    rr_scale: str = "standardised"
    # Those of `OWN_OPTIONS` that are not at their defaults, by name
    own: tuple[tuple[str, str | int | float], ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def option(self, name: str) -> Any:
        """Return the value of an option that a fusion or a backbone declares."""
        own = OWN_OPTIONS | dict(self.own)
        return own[name] if name in own else getattr(self, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a member is trained.

    Raises:
        ConfigError: If a value is of the wrong kind or outside its bounds.
    """

    epochs: int = 6  # fixed number of epochs; the last one's score counts
    batch_size: int = 128  # beats B per step
    normal_beats_per_epoch: int = 4000  # fresh N beats per epoch beside all S, V, F; 0 takes all
    loss: str = "cross_entropy"  # `cross_entropy` or `focal` (Lin et al. 2017, arXiv:1708.02002)
    focal_gamma: float = 2.0  # focusing exponent of the focal loss
    class_weights: str = "sqrt_inverse"  # of the loss, from the classes' frequencies in an epoch
    # Whether probabilities are corrected from the class shares of the loss to the true ones
    logit_adjustment: str = "prior"
    label_smoothing: float = 0.0  # mass spread over all classes
    learning_rate: float = 2e-3  # peak of the schedule
    # One-cycle or cosine, both annealed to about zero at the last step
    schedule: str = "one_cycle"
    weight_decay: float = 1e-2  # of AdamW, on matrices and kernels only
    gradient_clip: float = 1.0  # largest gradient norm; 0 is off
    rr_dropout: float = 0.0  # probability that a beat's whole RR is hidden in training
    ema_decay: float = 0.0  # decay of averaged weights, which are then scored; 0 is off
    # Strength of random changes of training windows (`study.training.batches`); 0 is off
    augment: float = 0.0

    def __post_init__(self) -> None:
        _check(self)


GROUPS: dict[str, type[SignalSpec] | type[ModelConfig] | type[TrainConfig]] = {
    "signal": SignalSpec,
    "model": ModelConfig,
    "train": TrainConfig,
}

PARAMETERS: dict[str, type] = {
    name: hint for group in GROUPS.values() for name, hint in _types(group).items() if name != _OWN
}
"""Every parameter name and its type: what a space file may fix or search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialConfig:
    """One configuration, which one trial trains on all folds and seeds."""

    signal: SignalSpec = field(default_factory=SignalSpec)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Self:
        """Build from flat parameter names; missing ones keep their defaults.

        Words of older studies (`study.keys.EARLIER`) are read as today's.

        Raises:
            ConfigError: If a name is unknown or a value is not allowed; all faults together.
        """
        faults = []
        values = {name: current_word(value) for name, value in values.items()}
        for name, value in values.items():
            if name in PARAMETERS:
                faults += value_faults(name, value, PARAMETERS[name])
            else:
                faults.append(unknown("parameter", name, PARAMETERS))
        if faults:
            raise ConfigError(listed("configuration", sorted(faults)))
        # A TOML "1" for a float parameter must have the digest of "1.0".
        typed = {name: PARAMETERS[name](value) for name, value in values.items()}
        own = {name: typed.pop(name) for name in OWN_OPTIONS if name in typed}
        typed[_OWN] = tuple(sorted(own.items() - OWN_OPTIONS.items()))
        groups: dict[str, Any] = {
            group: type_(**{name: typed[name] for name in _types(type_) if name in typed})
            for group, type_ in GROUPS.items()
        }
        return cls(**groups)

    def with_placebo(self) -> TrialConfig:
        """Return the placebo of this configuration: the same configuration with permuted RR."""
        return replace(self, signal=replace(self.signal, rr="placebo"))

    def flat(self) -> dict[str, Any]:
        """Return all parameters by flat name."""
        values = {name: value for group in asdict(self).values() for name, value in group.items()}
        own = dict(values.pop(_OWN))
        return values | OWN_OPTIONS | own


def cut_text(cut: Cut) -> str:
    """Return the form of a cut in plans and tables."""
    return "/".join(cut)


def digest_of(values: object) -> str:
    """Return the 12-digit hex digest of a JSON-able value, independent of key order."""
    return hashlib.sha256(digest_text(values).encode()).hexdigest()[:12]


def digest_text(values: object) -> str:
    """Return the JSON that `digest_of` hashes, with the words that the first studies used."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for earlier, word in EARLIER.items():
        text = text.replace(json.dumps(word), json.dumps(earlier))
    return text
