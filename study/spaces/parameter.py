"""Parameters of a search space: a list of values or a range, with inclusive bounds.

Free of any engine: only `study.spaces.optuna_space` knows how Optuna writes the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

Value = str | int | float

_LAST_BELOW_ONE = math.nextafter(1.0, 0.0)


def unit(u: float) -> float:
    """Take the last number below 1 as 1, so that the upper bound of a range can be drawn.

    Raises:
        ValueError: If `u` is not in [0, 1).
    """
    if not 0.0 <= u < 1.0:
        raise ValueError(f"a coordinate must be in [0, 1), got {u!r}")
    return 1.0 if u == _LAST_BELOW_ONE else u


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical:
    """A parameter that takes one of a list of values."""

    name: str  # flat parameter name of `study.config.PARAMETERS`
    values: tuple[Value, ...]  # what it can be, in the order of the file
    default: Value | None = None  # value of an arm's first trial; None is the first value
    # Values that other parameters must have for this one to exist
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    @property
    def start(self) -> Value:
        """Value at the space's defaults."""
        return self.values[0] if self.default is None else self.default

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def points(self) -> tuple[Value, ...]:
        """Return every value, in the order of the file."""
        return self.values

    def at(self, u: float) -> Value:
        """Return the value at a coordinate of [0, 1); each has the same share."""
        unit(u)
        return self.values[int(u * len(self.values))]

    def contains(self, value: object) -> bool:
        """Whether this value can be drawn; True is not 1."""
        return not isinstance(value, bool) and value in self.values

    def snap(self, value: Value) -> Value:
        """Return the listed value that equals this one: 64 for 64.0."""
        return self.values[self.values.index(value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A numeric parameter between two bounds, both included."""

    name: str  # flat parameter name of `study.config.PARAMETERS`
    low: float  # smallest value
    high: float  # largest value; a whole number of steps above `low`
    integer: bool = False  # whole numbers only; the step is then 1 if none is given
    step: float | None = None  # distance of neighbouring values; None is continuous
    # Draw by the logarithm: each factor, not each difference, has the same share
    log: bool = False
    # Value of an arm's first trial; None is the middle (geometric if `log`)
    default: Value | None = None
    # Values that other parameters must have for this one to exist
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    @property
    def start(self) -> Value:
        """Value at the space's defaults."""
        return self.at(0.5) if self.default is None else self.default

    @property
    def size(self) -> int | None:
        """How many values there are; None if continuous."""
        if self.low == self.high:
            return 1
        return None if self._step is None else steps_between(self.low, self.high, self._step) + 1

    @property
    def _step(self) -> float | None:
        return 1 if self.integer and self.step is None else self.step

    def points(self) -> tuple[Value, ...]:
        """Return every value in ascending order.

        Raises:
            ValueError: If the range is continuous.
        """
        if self.size is None:
            raise ValueError(f"{self.name}: a continuous range cannot be enumerated; give a step")
        return tuple(self._nth(index) for index in range(self.size))

    def at(self, u: float) -> Value:
        """Return the value at a coordinate of [0, 1); both bounds can be reached."""
        share = unit(u)
        if self.size is not None and not self.log:
            return self._nth(int(u * self.size))
        if share in (0.0, 1.0):
            return self._cast(self.high if share else self.low)
        if not self.log:
            return min(self.high, self.low + share * (self.high - self.low))
        # Half a unit more on both sides gives the outer integers a share like the inner ones.
        margin = 0.5 if self.integer else 0.0
        low, high = math.log(self.low - margin), math.log(self.high + margin)
        value = math.exp(low + share * (high - low))
        return self._cast(min(self.high, max(self.low, round(value) if self.integer else value)))

    def contains(self, value: object) -> bool:
        """Whether this value can be drawn, up to rounding error of the step."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        if not self.low <= value <= self.high:
            return False
        if self._step is None:
            return True
        steps = (value - self.low) / self._step
        return abs(steps - round(steps)) < 1e-8

    def snap(self, value: Value) -> Value:
        """Return the value as it is written in a configuration: 0.3 for 0.1 + 2 * 0.1.

        Raises:
            ValueError: If the range does not contain it.
        """
        if not self.contains(value):
            raise ValueError(f"{self.name}: {value!r} is not in the range")
        if self._step is None:
            return self._cast(float(value))
        return self._nth(round((float(value) - self.low) / self._step))

    def _nth(self, index: int) -> Value:
        step = Decimal(0) if self._step is None else Decimal(repr(self._step))
        return self._cast(Decimal(repr(self.low)) + index * step)

    def _cast(self, value: float | Decimal) -> Value:
        return int(value) if self.integer else float(value)


Parameter = Categorical | Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One arm of a compare space: its name and the values that only it fixes."""

    name: str
    values: Mapping[str, Value] = field(default_factory=dict)


def steps_between(low: float, high: float, step: float) -> int:
    """Return how many whole steps fit between two bounds, in decimal arithmetic."""
    return int((Decimal(repr(high)) - Decimal(repr(low))) // Decimal(repr(step)))


def highest(low: float, high: float, step: float) -> float:
    """Return the largest value not above `high` that lies a whole number of steps from `low`."""
    count = steps_between(low, high, step)
    return float(Decimal(repr(low)) + count * Decimal(repr(step)))
