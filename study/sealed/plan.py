"""The plan of a sealed test: what it trains, compares and reports, known by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.config import TrialConfig
from study.keys import AGGREGATES, CLASSES
from study.models import rules

MIN_SEEDS = 10
"""Seeds of each arm: single seeds of one configuration differ by more than arms do."""

FLOOR = "logistic_regression"
"""Name of the logistic floor, which every plan includes: a contrast may name it."""

METRICS = tuple(f"{m}_{of}" for m in ("auprc", "auroc") for of in (*AGGREGATES, *CLASSES))
"""What a plan may declare; all of them are reported, those that it declares are tested."""

SETTINGS: dict[str, Any] = {
    "metrics": ["auprc_sv", "auroc_sv"],
    "contrasts": [],
    "seeds": MIN_SEEDS,
    "study_seed": 0,
    "resamples": 2000,
    "permutations": 10_000,
    "precision": "auto",
}
"""Every setting of a plan, and what it is where a plan does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A configuration under a name."""

    name: str
    config: TrialConfig

    @property
    def cut(self) -> tuple[str, str]:
        """Segmentation and resampling of its beats."""
        return self.config.signal.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The study that a plan's arms come from.

    Args:
        name: Its name.
        fingerprint: Digest of its plan.
        data: Digest of its beats, by segmentation and resampling.
    """

    name: str
    fingerprint: str
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPlan:
    """What a sealed test does; `study.sealed.plan_file` reads and checks it.

    Args:
        name: Name of the plan.
        metrics: Metrics whose contrasts are computed, the primary one first.
        contrasts: Pairs of arms, first minus second: what is tested.
        seeds: Models of each arm.
        study_seed: Root of all random streams.
        resamples: Resamples of patients and seeds behind every interval.
        permutations: Swaps of records behind every p.
        precision: Of training: `auto`, `fp32` or `bf16`.
        origin: Where the arms come from; None for a plan by hand.
        arms: What is trained and tested.
    """

    name: str
    metrics: tuple[str, ...]
    contrasts: tuple[tuple[str, str], ...]
    seeds: int
    study_seed: int
    resamples: int
    permutations: int
    precision: str
    origin: Origin | None = None
    arms: tuple[Arm, ...]

    @property
    def hash(self) -> str:
        """SHA-256 of what the plan says, every parameter that counts included.

        Comments, the order of keys, and values that are the defaults make no difference.
        """
        origin = self.origin
        content = {
            **{name: getattr(self, name) for name in ("name", *SETTINGS)},
            "study": None
            if origin is None
            else [origin.name, origin.fingerprint, dict(origin.data)],
            "arms": [[arm.name, rules.active_parameters(arm.config)] for arm in self.arms],
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """Name and beginning of the hash, as shown."""
        return f"{self.name} ({self.hash[:12]})"

    def text(self, comments: str = "") -> str:
        """Return the plan as TOML; parameters that change nothing are left out.

        Args:
            comments: Lines to put before it, without `#`.
        """
        lines = [f"# {line}".rstrip() for line in comments.splitlines()]
        for name in ("name", *SETTINGS):
            lines.append(f"{name} = {_toml(getattr(self, name))}")
        if self.origin is not None:
            lines += ["", "[study]", f"name = {_toml(self.origin.name)}"]
            lines += [f"fingerprint = {_toml(self.origin.fingerprint)}"]
            lines += [f"data = {_toml(dict(self.origin.data))}"]
        for arm in self.arms:
            lines += ["", "[[arms]]", f"name = {_toml(arm.name)}"]
            active = rules.active_parameters(arm.config)
            lines += [f"{name} = {_toml(value)}" for name, value in active.items()]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        items = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
