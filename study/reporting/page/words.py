"""How the page words intervals, differences and names, the same in every section."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from study.keys import AUPRC_MACRO, AUPRC_SV, AUROC_MACRO, AUROC_SV
from study.reporting.layout import short
from study.reporting.page.blocks import Cell
from study.reporting.page.results import StudyResults
from study.reporting.tables import COLUMNS
from study.statistics.findings import MEASURE_NAMES, Estimate, parts_of

NOT_ESTIMABLE = "not estimable"

_OF = {"sv": "S+V"}


def objective_name(objective: str) -> str:
    """Return how the page calls a metric: AUPRC S+V."""
    if objective in COLUMNS:
        return COLUMNS[objective]
    measure, quantity = parts_of(objective)
    return f"{MEASURE_NAMES[measure]} {of_name(quantity)}"


def of_name(quantity: str) -> str:
    """Return how the page calls a quantity."""
    return _OF.get(quantity, quantity)


def quantity_of(results: StudyResults) -> str:
    """Return the quantity of a study's objective."""
    return parts_of(results.objective)[1]


def beside(objective: str) -> tuple[str, ...]:
    """Return the means that stand beside the objective, that of the other measure first."""
    pairs = {AUPRC_SV: AUROC_SV, AUPRC_MACRO: AUROC_MACRO}
    pairs |= {other: one for one, other in pairs.items()}
    first = pairs[objective]
    rest = (AUPRC_SV, AUROC_SV, AUPRC_MACRO, AUROC_MACRO)
    return (first, *(name for name in rest if name not in (objective, first)))


def interval(found: Estimate, *, signed: bool = False, digits: int = 3) -> Cell:
    """Return a cell of a value with its interval, or with why it has none."""
    return Cell(
        interval_text(found, signed=signed, digits=digits),
        found.value if math.isfinite(found.value) else None,
    )


def interval_text(found: Estimate, *, signed: bool = False, digits: int = 3) -> str:
    """Return a value with its interval: .519 [.348, .708]."""
    value, low, high = (
        short(x, signed=signed, digits=digits) for x in (found.value, found.low, found.high)
    )
    if not math.isfinite(found.low):
        return f"{value} ({NOT_ESTIMABLE})" if found.remark else value
    return f"{value} [{low}, {high}]{'*' if found.remark else ''}"


def p_text(p: float) -> str:
    """Return a p value."""
    return "<.001" if p < 0.001 else short(p)


def listing(words: Iterable[str]) -> str:
    """Return words as a sentence lists them."""
    some = list(words)
    return some[0] if len(some) == 1 else f"{', '.join(some[:-1])} and {some[-1]}"


def plural(n: int, word: str) -> str:
    """Return a number with its word: 1 trial, 2 trials."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values, NaN without one."""
    finite: Sequence[float] = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
