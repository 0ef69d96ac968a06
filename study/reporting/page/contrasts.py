"""Paired differences: forest plots, the matrix of pairs, whether ECG performance is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from study.reporting.layout import short
from study.reporting.page.blocks import (
    Block,
    Cell,
    Figure,
    Note,
    Section,
    Table,
    missing,
    score,
    text,
)
from study.reporting.page.matrix import matrix
from study.reporting.page.results import StudyResults
from study.reporting.page.svg import WIDTH, element, shown, span, ticks
from study.reporting.page.words import (
    interval,
    interval_text,
    objective_name,
    of_name,
    p_text,
    plural,
    quantity_of,
)
from study.statistics.findings import (
    MEASURE_NAMES,
    Comparison,
    Contrast,
    Estimate,
    parts_of,
)

_ROW = 34


def contrasts(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="contrasts", title="Differences", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    comparison = results.comparison
    if results.searches:
        yield missing(
            "No paired differences",
            "a search gives its arms unequal tries, and trains few in full; confirm its "
            "candidates with `python -m study.run --confirm`",
        )
        return
    if comparison is None or len(comparison.arms) < 2:
        yield missing(
            "No paired differences",
            results.why("comparison", "two arms with complete trials are needed"),
        )
        return
    declared = [pair for pair in comparison.contrasts if pair.primary]
    yield forest(comparison, declared or list(comparison.contrasts), results)
    if declared:
        yield _primary(comparison, declared, results)
        found = [pair.detectable for pair in declared if math.isfinite(pair.detectable)]
        if found:
            yield Note(
                f"A study like this one finds a difference of {short(min(found))} to "
                f"{short(max(found))} in {objective_name(results.objective)}, depending on the "
                "contrast (80 % power, 5 % for all contrasts together). What is smaller may be "
                "there and is not seen."
            )
    else:
        yield missing("No tests", "the space declares no contrasts, so there are intervals only")
    yield matrix(comparison, results)
    if comparison.non_inferiority:
        yield _kept(comparison)
    else:
        yield missing(
            "Whether ECG performance is kept", "no arm has the bare ECG of its window beside it"
        )


def forest(comparison: Comparison, pairs: Sequence[Contrast], results: StudyResults) -> Figure:
    """Return the forest plot of contrasts: one panel for the objective, and for S and V."""
    measure = MEASURE_NAMES[parts_of(comparison.objective)[0]]
    names = tuple(dict.fromkeys((quantity_of(results), "S", "V")))
    panels = [
        _forest_panel(
            f"{measure} {of_name(name)}", pairs, [pair.estimates[name] for pair in pairs]
        )
        for name in names
    ]
    return Figure(
        name="forest",
        title="Contrasts",
        shows=(
            "The first arm minus the second, paired within draws, folds and seeds, with 95 % "
            f"intervals from {comparison.resamples:,} resamples of patients and seeds."
        ),
        reading=(
            "To the right of 0 the first arm is better. An interval that holds 0 shows no "
            "difference; it does not show that there is none."
        ),
        panels=panels,
    )


def _forest_panel(title: str, pairs: Sequence[Contrast], found: Sequence[Estimate]) -> str:
    ends = [v for e in found for v in (e.value, e.low, e.high)]
    x = span(ends, around=0.0)
    left, right, top = 6.0, WIDTH - 6.0, 24.0
    bottom = top + _ROW * len(pairs) + 4

    def at(value: float) -> float:
        return left + (value - x[0]) / (x[1] - x[0]) * (right - left)

    parts = [f'<text class="head" x="0" y="11">{escape(title)}</text>']
    for tick in ticks(x, most=5):
        parts.append(f'<path class="grid" d="M{at(tick):.1f} {top}V{bottom}"/>')
        parts.append(
            f'<text class="soft" x="{at(tick):.1f}" y="{bottom + 13}" text-anchor="middle">'
            f"{shown(tick)}</text>"
        )
    parts.append(f'<path class="mark" d="M{at(0):.1f} {top}V{bottom}"/>')
    for index, (pair, one) in enumerate(zip(pairs, found, strict=True)):
        y = top + _ROW * index + 12
        words = escape(f"{pair.first} - {second_of(pair)}")
        parts.append(f'<text class="over" x="2" y="{y}">{words}</text>')
        line = y + 11
        if math.isfinite(one.low):
            parts.append(
                f'<path class="whisker s0" d="M{at(one.low):.1f} {line}H{at(one.high):.1f}"/>'
            )
        if math.isfinite(one.value):
            tip = escape(f"{words}: {interval_text(one, signed=True)}")
            parts.append(
                f'<circle class="f0" cx="{at(one.value):.1f}" cy="{line}" r="4">'
                f"<title>{tip}</title></circle>"
            )
    return element("".join(parts), bottom + 18, describe=f"Forest plot of {title}")


def second_of(pair: Contrast) -> str:
    """Return how the second arm of a pair is called beside the first."""
    return "its placebo" if pair.second == f"{pair.first}_placebo" else pair.second


def _primary(comparison: Comparison, pairs: Sequence[Contrast], results: StudyResults) -> Table:
    names = tuple(dict.fromkeys((quantity_of(results), "S", "V", "N", "F", "macro")))
    rows = [
        [
            text(f"{pair.first} - {second_of(pair)}"),
            interval(pair.estimates[names[0]], signed=True),
            _p(pair.p),
            _p(pair.p_adjusted),
            *(interval(pair.estimates[name], signed=True) for name in names[1:]),
            score(pair.detectable),
        ]
        for pair in pairs
    ]
    return Table(
        name="contrasts",
        title="Declared contrasts",
        shows=(
            f"Differences with 95 % intervals; p of {objective_name(results.objective)} by "
            f"{comparison.permutations:,} swaps of whole records between the two arms, and "
            f"adjusted for all {plural(len(pairs), 'contrast')} (max-T, Westfall & Young 1993)."
        ),
        reading=(
            "Only these are tested; of other pairs there are intervals. The last column is the "
            "difference that such a study finds with 80 % power."
        ),
        header=["contrast", f"{objective_name(results.objective)} [95 %]", "p", "adjusted p"]
        + [f"{of_name(name)} [95 %]" for name in names[1:]]
        + ["detectable"],
        rows=rows,
    )


def _p(value: float) -> Cell:
    return Cell(p_text(value), value) if math.isfinite(value) else Cell("-")


def _kept(comparison: Comparison) -> Table:
    names = list(comparison.non_inferiority[0].differences)
    rows = []
    for found in comparison.non_inferiority:
        row = [text(f"{found.arm} - {found.reference}")]
        for name in names:
            row += [interval(found.differences[name], signed=True, digits=4)]
            row += [text(found.verdicts[name])]
        rows.append(row)
    return Table(
        name="non_inferiority",
        title="Is the performance of ECG alone kept?",
        shows=(
            "Each arm with real RR minus the bare ECG of the same window, for the classes that "
            f"shape alone ranks well; a loss of up to {short(comparison.margin)} is allowed."
        ),
        reading=(
            "Kept: the whole interval is above that loss. Lost: it is below. Else this study "
            "cannot say."
        ),
        header=["arm - bare ECG", *(h for n in names for h in (f"{n} [95 %]", f"{n} kept?"))],
        rows=rows,
        text_columns=[2 * (k + 1) for k in range(len(names))],
    )
