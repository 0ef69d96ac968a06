"""Which parameters matter, and what each arm's network costs."""

from __future__ import annotations

from collections.abc import Iterator

from study.reporting.page.blocks import Block, Cell, Section, Table, count, missing, text
from study.reporting.page.results import StudyResults
from study.reporting.page.words import objective_name


def parameters(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="parameters", title="Parameters and cost", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    if results.importance is None:
        yield missing(
            "No parameter importance", results.why("importance", "too few complete trials")
        )
    else:
        yield _importance(results)
    if results.costs:
        yield _costs(results)
    else:
        yield missing("No costs", results.why("costs", "no arm has a configuration"))


def _importance(results: StudyResults) -> Table:
    found = results.importance
    assert found is not None
    return Table(
        name="importance",
        title="Parameter importance",
        shows=(
            f"Share of the variance of {objective_name(results.objective)} by parameter, from "
            f"{found.trials} {found.kind} trials, by fANOVA (Hutter, Hoos & Leyton-Brown 2014)."
        ),
        reading=(
            "A sampler that has learnt where to look has sampled some regions more than others; "
            "conditional parameters are left out. With so few trials the order is a hint."
        ),
        header=["parameter", "share"],
        rows=[[text(name), Cell(f"{share:.0%}", share)] for name, share in found.shares.items()],
    )


def _costs(results: StudyResults) -> Table:
    return Table(
        name="costs",
        title="Parameters, operations and latency",
        shows=(
            "Of one network at inference: trained parameters, multiplications and additions of a "
            "beat (two for each pair), and time alone and in a batch of 256."
        ),
        reading=f"Times are medians on {results.timed_on or 'this machine'}.",
        header=["arm", "parameters", "operations a beat", "ms, one beat", "ms a beat in a batch"],
        rows=[
            [
                text(arm),
                count(cost.parameters),
                count(cost.operations),
                count(cost.milliseconds_one, digits=2),
                count(cost.milliseconds_batch, digits=3),
            ]
            for arm, cost in results.costs.items()
        ],
    )
