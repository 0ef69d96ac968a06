"""Inside: templates, attention on the mean beat, deletion check, effect of a branch, costs.

It also shows the parameters of trials and their importance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from study.keys import CLASSES
from study.models.fusion import FUSIONS
from study.reporting.page.html import Block, Figure, Note, missing
from study.reporting.page.parallel import parallel_coordinates
from study.reporting.page.svg import Panel, span
from study.reporting.page.templates import templates, time_axis
from study.reporting.results import Explanation, Importance, StudyResults
from study.reporting.table import Column, Kind, Table, Value
from study.statistics.findings import metric_name
from study.training.results import MASKED_SHARE
from study.wording import plural, score_text

_OVER_TIME = [name for name, fusion in FUSIONS.items() if fusion.over_time]


def inside(results: StudyResults) -> Iterator[Block]:
    """Yield what templates show, attention with its deletion check, and the effect of branches."""
    yield from templates(results)
    explained = results.explanations
    attending = {arm: e for arm, e in explained.items() if e.inspection.attention is not None}
    if attending:
        yield Note(
            "Attention is descriptive: it says where a network looks, not why it decides. Read it "
            "with the deletion check below it."
        )
        for arm, explanation in attending.items():
            yield _attention(results, arm, explanation)
        yield _deletion(attending)
        for fusion in _OVER_TIME:
            if not any(results.arms[arm].fusion == fusion for arm in attending):
                yield missing(
                    f"No attention of {fusion} for comparison",
                    "no arm of this study has that fusion and a complete trial",
                )
    else:
        yield missing(
            "No attention on the mean beat, and no deletion check",
            results.why(
                "explanations", f"no complete trial attends over time ({', '.join(_OVER_TIME)})"
            ),
        )
    branches = {arm: e for arm, e in explained.items() if e.inspection.branch_share is not None}
    if branches:
        yield _branches(results, branches)
    else:
        yield missing(
            "No branch share of logit variance",
            results.why("explanations", "no complete trial has a branch with a gate"),
        )


def _attention(results: StudyResults, arm: str, explanation: Explanation) -> Figure:
    attention = explanation.inspection.attention
    assert attention is not None
    ends, time_name = time_axis(results.arms[arm].segmentation)
    panels = [
        _class_panel(explanation, c, ends, time_name)
        for c in range(len(CLASSES))
        if np.isfinite(attention[c]).all()
    ]
    heads = attention.shape[1]
    deviates = "deviation" in results.arms[arm].reference
    beat = "mean deviation from the template" if deviates else "mean window"
    return Figure(
        name=f"attention_{list(results.arms).index(arm)}",
        title=f"Attention on the mean beat: {arm}",
        shows=(
            f"The {beat} of each class (thin, not to scale) and attention over it (filled), "
            f"{plural(heads, 'head')} and all members averaged, on beats outside the members' "
            "training sets."
        ),
        reading=(
            "The dashed line is uniform attention. A step of the feature map sees at least some "
            "100 ms around it, so peaks are blurred."
        ),
        panels=panels,
    )


def _class_panel(
    explanation: Explanation, c: int, ends: tuple[float, float], time_name: str
) -> str:
    inspection = explanation.inspection
    attention, beat = inspection.attention, inspection.mean_beat[c]
    assert attention is not None
    weight = attention[c].mean(axis=0)
    uniform = 1.0 / len(weight)
    high = max(float(np.nanmax(attention.mean(axis=1))), uniform) / uniform * 1.08
    panel = Panel(
        x=ends,
        y=(0.0, high),
        title=f"{CLASSES[c]}: mean of {int(inspection.beats[c]):,} beats",
        x_label=time_name,
        y_label="attention, uniform = 1",
    )
    times = np.linspace(*ends, len(weight))
    low, top = span([float(v) for v in beat], pad=0.02)
    scaled = (beat - low) / (top - low) * high
    panel.line(np.linspace(*ends, len(beat)), scaled, style="beat")
    panel.level(1.0)
    panel.band(times, np.zeros(len(weight)), weight / uniform, series=0)
    panel.line(times, weight / uniform, style="line s0")
    return panel.svg()


def _deletion(attending: dict[str, Explanation]) -> Table:
    rows: list[list[Value]] = []
    for arm, explanation in attending.items():
        scores = explanation.inspection.deletion
        whole = scores.get("nothing", math.nan)
        most, least, random = (
            whole - scores.get(mask, math.nan) for mask in ("most", "least", "random")
        )
        rows.append([arm, explanation.trial, whole, most, least, random, most - random])
    return Table(
        name="deletion",
        title="Deletion check",
        shows=(
            f"AUPRC S lost when {MASKED_SHARE:.0%} of the time steps are masked: those attended "
            "to most, least, and as many at random; all S, V and F beats and a sample of N; mean "
            "of seeds."
        ),
        reading=(
            "If attention marked what the network needs, masking the most attended steps would "
            "cost more than masking as many random ones. A last column near or below 0 says that "
            "it does not. There is no interval."
        ),
        columns=[
            Column("arm", Kind.NAME),
            Column("trial", Kind.COUNT),
            Column("AUPRC S"),
            *(Column(f"lost by {mask}", signed=True) for mask in ("most", "least", "random")),
            Column("most minus random", signed=True),
        ],
        rows=rows,
    )


def _branches(results: StudyResults, branches: dict[str, Explanation]) -> Table:
    rows: list[list[Value]] = []
    for arm, explanation in branches.items():
        share = explanation.inspection.branch_share
        assert share is not None
        fusion = results.arms[arm].fusion
        rows.append([arm, fusion, explanation.trial, *map(float, share), _gate(explanation)])
    return Table(
        name="branch_share",
        title="Effect of the branch",
        shows=(
            "cov(branch, logit) / var(logit) of each class's logit over the sampled beats, the "
            "mean over all members; the ECG path has the rest. The gate's values are in the last "
            "columns."
        ),
        reading=(
            "The branch is what the gate scales: RR with the ECG it attends to; in mhca ECG "
            "alone. A gate's value does not measure its contribution: W(g * a) = (W diag g) a, "
            "so the next layer can undo it."
        ),
        columns=[
            Column("arm", Kind.NAME),
            Column("fusion", Kind.TEXT),
            Column("trial", Kind.COUNT),
            *(Column(f"share of {name}", Kind.SHARE) for name in CLASSES),
            Column("gate"),
        ],
        rows=rows,
    )


def _gate(explanation: Explanation) -> str | None:
    gates = explanation.gates
    if gates is None or not gates.size:
        return None
    mean, low, high = (score_text(float(v)) for v in (gates.mean(), gates.min(), gates.max()))
    return f"{mean} ({low} to {high})"


def parameters(results: StudyResults) -> Iterator[Block]:
    """Yield the trials' parameters and scores, their importance, and the cost of networks."""
    yield parallel_coordinates(results)
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
            "left out, and there are few trials: take the order as a hint."
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
