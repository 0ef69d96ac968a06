"""RR reliance: what a trained model loses when RR is permuted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from study.keys import RELIANCE_KINDS, reliance
from study.reporting.alarms import NO_RELIANCE
from study.reporting.layout import short
from study.reporting.page.blocks import Block, Figure, Section, Table, missing, score, text
from study.reporting.page.results import StudyResults
from study.reporting.page.svg import WIDTH, element, shown, span, ticks
from study.reporting.page.words import mean

_LINE = 13


def rr_reliance(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="reliance", title="RR reliance", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    arms = _arms(results)
    if not arms:
        yield missing("No RR reliance", "it is measured when a trial is complete; none is")
        return
    yield Figure(
        name="reliance_lost",
        title="AUPRC lost when RR is permuted",
        shows=(
            "For each arm, the loss when RR is exchanged between beats of a record in its inputs, "
            "in its window (daeac alone is cut by RR), and in both, from top to bottom; the line "
            "spans permutations."
        ),
        reading=(
            "0: the trained model does not use it. It says what this model uses, not what RR is "
            "worth: a model may take from the window what it could have had from its inputs."
        ),
        panels=[_panel(results, arms, name) for name in ("S", "V")],
        legend=RELIANCE_KINDS,
    )
    yield _table(results, arms)


def _arms(results: StudyResults) -> list[str]:
    ranked = [row.arm for row in results.ranked]
    if results.comparison is not None:
        return [arm.name for arm in results.comparison.arms]
    return list(dict.fromkeys(ranked))


def _value(results: StudyResults, arm: str, name: str) -> float:
    return mean(row.metric(name) for row in results.ranked if row.arm == arm)


def _panel(results: StudyResults, arms: list[str], aami_class: str) -> str:
    values = {
        (arm, kind, end): _value(results, arm, reliance(kind, aami_class) + end)
        for arm in arms
        for kind in RELIANCE_KINDS
        for end in ("", "_min", "_max")
    }
    x = span(list(values.values()), around=0.0)
    left, right, top, each = 6.0, WIDTH - 6.0, 24.0, 16 + _LINE * len(RELIANCE_KINDS) + 6
    bottom = top + each * len(arms)

    def at(value: float) -> float:
        return left + (value - x[0]) / (x[1] - x[0]) * (right - left)

    parts = [f'<text class="head" x="0" y="11">AUPRC {aami_class}</text>']
    for tick in ticks(x, most=5):
        parts.append(f'<path class="grid" d="M{at(tick):.1f} {top}V{bottom}"/>')
        parts.append(
            f'<text class="soft" x="{at(tick):.1f}" y="{bottom + 13}" text-anchor="middle">'
            f"{shown(tick)}</text>"
        )
    parts.append(f'<path class="mark" d="M{at(0.0):.1f} {top}V{bottom}"/>')
    for row, arm in enumerate(arms):
        y = top + row * each + 11
        parts.append(f'<text class="over" x="2" y="{y}">{escape(arm)}</text>')
        for k, kind in enumerate(RELIANCE_KINDS):
            value, low, high = (values[arm, kind, end] for end in ("", "_min", "_max"))
            line = y + 9 + k * _LINE
            if not math.isfinite(value):
                continue
            if math.isfinite(low):
                parts.append(
                    f'<path class="whisker s{k}" d="M{at(low):.1f} {line}H{at(high):.1f}"/>'
                )
            parts.append(
                f'<circle class="f{k}" cx="{at(value):.1f}" cy="{line}" r="3.5">'
                f"<title>{escape(arm)}, {kind}: {short(value, signed=True)}</title></circle>"
            )
    return element("".join(parts), bottom + 18, describe=f"RR reliance of AUPRC {aami_class}")


def _table(results: StudyResults, arms: list[str]) -> Table:
    header = ["arm"]
    header += [f"{name}, {kind}" for name in ("S", "V") for kind in RELIANCE_KINDS]
    rows = []
    for arm in arms:
        cells = [
            score(_value(results, arm, reliance(kind, name)), signed=True)
            for name in ("S", "V")
            for kind in RELIANCE_KINDS
        ]
        change = _value(results, arm, reliance("inputs", "max_change"))
        exact = text("0 exactly") if change == 0 else score(change)
        rows.append([text(arm), *cells, exact])
    return Table(
        name="reliance",
        title="RR reliance by arm",
        shows="AUPRC of S and V lost, mean over permutations, seeds and the arm's trials.",
        reading=(
            f"Within ±{short(NO_RELIANCE)} counts as none. A largest change of exactly 0 says "
            "that RR cannot reach the output; a dash, that there is no RR of this kind to permute."
        ),
        header=[*header, "largest change by inputs"],
        rows=rows,
    )
