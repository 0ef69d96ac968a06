"""Inside the networks: attention on the mean beat, the deletion check, and what a branch moves."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from study.keys import CLASSES
from study.reporting.layout import short
from study.reporting.page.blocks import (
    Block,
    Cell,
    Figure,
    Note,
    Section,
    Table,
    count,
    missing,
    score,
    text,
)
from study.reporting.page.results import Explanation, StudyResults
from study.reporting.page.svg import Panel, span

WINDOW_S = {"centred": (-1.0, 1.0), "fixed": (-0.66, 0.28), "beat": (-0.25, 0.28)}
"""Ends of a window from the R peak, s; a daeac window starts at the previous beat."""

OVER_TIME = ("mhca_time", "attention_pool")


def inside(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="inside", title="Inside", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    found = results.explanations
    attending = {arm: e for arm, e in found.items() if e.attention is not None}
    if attending:
        yield Note(
            "Attention is descriptive: it says where a network looks, not why it decides. Read it "
            "with the deletion check below it."
        )
        for arm, explanation in attending.items():
            yield _attention(results, arm, explanation)
        yield _deletion(results, attending)
        for fusion in OVER_TIME:
            if not any(results.arms[arm].fusion == fusion for arm in attending):
                yield missing(
                    f"No attention of {fusion} beside it",
                    "no arm of this study has that fusion and a complete trial",
                )
    else:
        yield missing(
            "No attention on the mean beat, and no deletion check",
            results.why(
                "explanations", f"no complete trial attends over time ({', '.join(OVER_TIME)})"
            ),
        )
    shares = {arm: e for arm, e in found.items() if e.branch_share is not None}
    if shares:
        yield _branches(results, shares)
    else:
        yield missing(
            "No branch share of logit variance",
            results.why("explanations", "no complete trial has a branch with a gate"),
        )


def _attention(results: StudyResults, arm: str, explanation: Explanation) -> Figure:
    attention = explanation.attention
    assert attention is not None
    segmentation = results.arms[arm].segmentation
    ends = WINDOW_S.get(segmentation, (0.0, 1.0))
    panels = [
        _class_panel(explanation, c, ends, segmentation)
        for c in range(len(CLASSES))
        if np.isfinite(attention[c]).all()
    ]
    heads = attention.shape[1]
    return Figure(
        name=f"attention_{list(results.arms).index(arm)}",
        title=f"Attention on the mean beat: {arm}",
        shows=(
            "The mean window of each class (thin, not to scale) and attention over it (filled), "
            f"{heads} "
            f"head{'s' if heads > 1 else ''} and all members averaged, on beats that they did not "
            "train on."
        ),
        reading=(
            "The dashed line is uniform attention. A step of the feature map sees some 100 ms and "
            "more around it, so that peaks are blurred."
        ),
        panels=panels,
    )


def _class_panel(
    explanation: Explanation, c: int, ends: tuple[float, float], segmentation: str
) -> str:
    attention, beat = explanation.attention, explanation.mean_beat[c]
    assert attention is not None
    weight = attention[c].mean(axis=0)
    uniform = 1.0 / len(weight)
    high = max(float(np.nanmax(attention.mean(axis=1))), uniform) / uniform * 1.08
    panel = Panel(
        x=ends,
        y=(0.0, high),
        title=f"{CLASSES[c]}: mean of {int(explanation.beats[c]):,} beats",
        x_label="s from R" if segmentation in WINDOW_S else "share of the window",
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


def _deletion(results: StudyResults, attending: dict[str, Explanation]) -> Table:
    rows = []
    for arm, found in attending.items():
        whole = found.deletion.get("nothing", math.nan)
        lost = [whole - found.deletion.get(mask, math.nan) for mask in ("most", "least", "random")]
        rows.append(
            [text(arm), count(found.trial), score(whole)]
            + [score(value, signed=True) for value in lost]
            + [score(lost[0] - lost[2], signed=True)]
        )
    share = next(iter(attending.values())).masked_share
    return Table(
        name="deletion",
        title="Deletion check",
        shows=(
            f"AUPRC S lost when {share:.0%} of the time steps are masked: those attended to most, "
            "least, and as many at random; all S, V and F beats and a sample of N; mean of seeds."
        ),
        reading=(
            "If attention marked what the network needs, masking it would cost more than as many "
            "steps at random. Near or below 0 in the last column it does not. There is no "
            "interval."
        ),
        header=["arm", "trial", "AUPRC S", "lost by most", "by least", "by random"]
        + ["most minus random"],
        rows=rows,
    )


def _branches(results: StudyResults, shares: dict[str, Explanation]) -> Table:
    rows = []
    for arm, found in shares.items():
        share = found.branch_share
        assert share is not None
        cells = [Cell(f"{value:.0%}", float(value)) for value in share]
        gates = found.gates
        spread = text(None)
        if gates is not None and gates.size:
            spread = text(
                f"{short(float(gates.mean()))} ({short(float(gates.min()))} to "
                f"{short(float(gates.max()))})"
            )
        rows.append(
            [text(arm), text(results.arms[arm].fusion), count(found.trial), *cells, spread]
        )
    return Table(
        name="branch_share",
        title="What the branch moves",
        shows=(
            "cov(branch, logit) / var(logit) of each class's logit over the sampled beats, the "
            "mean over all members; the ECG path has the rest. Beside it the gate."
        ),
        reading=(
            "The branch is what the gate scales: RR with the ECG it attends to, and in mhca ECG "
            "alone. The gate's values are no contribution: W(g * a) = (W diag g) a, so that the "
            "next layer can undo them."
        ),
        header=["arm", "fusion", "trial", *(f"share of {name}" for name in CLASSES), "gate"],
        rows=rows,
        text_columns=(1,),
    )
