"""Settings of a search space: their names, allowed values and defaults."""

from __future__ import annotations

from dataclasses import dataclass

from study.data.folds import PUBLISHED
from study.errors import unknown
from study.keys import AUPRC_SV, OBJECTIVES

KINDS = ("search", "compare")
SAMPLED = ("tpe", "gp")
"""Samplers whose proposals depend on earlier outcomes, and so on the order in which trials end."""

ENUMERATED = ("grid", "random", "qmc", "draws")
"""Samplers whose configurations follow from the seed and an index alone."""

REHEARSAL = "REHEARSAL (--quick): "
"""Prefix of the description of a rehearsal's space."""

SCREENING = "screening"
SCHEDULERS = ("asha", SCREENING, "none")
SCREENING_EPOCHS = 1
"""Epochs that a configuration is screened for: the learning rate falls to zero within them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of `[search]` or `[compare]`."""

    kinds: tuple[str, ...]  # sections that have it
    words: tuple[str, ...] = ()  # allowed words
    low: int | None = None  # smallest whole number; None if it must be a word
    high: int = 1_000_000  # largest whole number
    default: int | str | None = None  # value where the file gives none; None is required


SETTINGS: dict[str, Setting] = {
    "sampler": Setting(kinds=("search",), words=(*SAMPLED, "random", "grid", "qmc")),
    "trials": Setting(kinds=("search",), low=1),
    "scheduler": Setting(kinds=("search",), words=SCHEDULERS, default="asha"),
    "reduction_factor": Setting(kinds=("search",), low=2, high=10, default=3),
    "draws": Setting(kinds=("compare",), low=1, high=1000),
    "objective": Setting(kinds=KINDS, words=OBJECTIVES, default=AUPRC_SV),
    "folds": Setting(kinds=KINDS, words=(PUBLISHED,), low=2, high=1000, default=5),
    "seeds": Setting(kinds=KINDS, low=1, high=1000, default=1),
    "partitions": Setting(kinds=("compare",), low=1, high=100, default=1),
}
"""Settings that are one word or one number; `reference` and `contrasts` name arms."""


def setting_faults(kind: str, name: str, value: object) -> list[str]:
    """Return what is wrong with one setting of a kind of space."""
    if name not in SETTINGS:
        return [unknown("setting", name, SETTINGS)]
    setting = SETTINGS[name]
    if kind not in setting.kinds:
        own = ", ".join(known for known in SETTINGS if kind in SETTINGS[known].kinds)
        return [f"{name}: means nothing in a {kind} space; settings there: {own}"]
    if isinstance(value, str) and setting.words:
        return [] if value in setting.words else [f"{name}: {_unknown(setting, value)}"]
    if setting.low is None:
        return [f"{name}: must be one of {', '.join(setting.words)}, got {value!r}"]
    if isinstance(value, bool) or not isinstance(value, int):
        return [f"{name}: must be {_allowed(setting)}, got {value!r}"]
    if not setting.low <= value <= setting.high:
        return [f"{name}: must be {_allowed(setting)}, got {value}"]
    return []


def _allowed(setting: Setting) -> str:
    words = "".join(f" or '{word}'" for word in setting.words)
    return f"a whole number in [{setting.low}, {setting.high}]{words}"


def _unknown(setting: Setting, value: str) -> str:
    if setting.low is not None:
        return f"must be {_allowed(setting)}, got '{value}'"
    return unknown("value", value, setting.words)
