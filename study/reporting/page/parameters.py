"""Which parameters matter, and what a network of each arm costs."""

from __future__ import annotations

from collections.abc import Iterator

from study.reporting.page.html import Block, missing
from study.reporting.results import Importance, StudyResults
from study.reporting.table import Column, Kind, Table
from study.statistics.findings import metric_name


def parameters(results: StudyResults) -> Iterator[Block]:
    """Yield which parameters matter, and what networks cost."""
    if results.importance is None:
        yield missing(
            "No parameter importance", results.why("importance", "too few complete trials")
        )
    else:
        yield _importance(results.importance, metric_name(results.study.objective))
    if results.costs:
        yield _costs(results)
    else:
        yield missing("No costs", results.why("costs", "no arm has a configuration"))


def _importance(importance: Importance, objective: str) -> Table:
    return Table(
        name="importance",
        title="Parameter importance",
        shows=(
            f"Share of the variance of {objective} by parameter, from {importance.trials} "
            f"{importance.kind} trials, by fANOVA (Hutter, Hoos & Leyton-Brown 2014)."
        ),
        reading=(
            "The sampler tried some regions more often than others, conditional parameters are "
            "left out, and trials are few: take the order as a hint."
        ),
        columns=[Column("parameter", Kind.NAME), Column("share", Kind.SHARE)],
        rows=[[name, share] for name, share in importance.shares.items()],
    )


def _costs(results: StudyResults) -> Table:
    return Table(
        name="costs",
        title="Parameters, operations and latency",
        shows=(
            "Of one network at inference: trained parameters, operations a beat (a multiplication "
            "and an addition count as two), and time for a beat alone and in a batch of 256."
        ),
        reading=f"Times are medians on {results.timed_on or 'this machine'}.",
        columns=[
            Column("arm", Kind.NAME),
            Column("parameters", Kind.COUNT),
            Column("operations a beat", Kind.COUNT),
            Column("ms, one beat", Kind.COUNT, digits=2),
            Column("ms a beat in a batch", Kind.COUNT, digits=3),
        ],
        rows=[
            [
                arm,
                cost.parameters,
                cost.operations,
                cost.milliseconds_one,
                cost.milliseconds_batch,
            ]
            for arm, cost in results.costs.items()
        ],
    )
