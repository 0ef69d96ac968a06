"""What a study's arms are worth on the sealed test set, where it was opened for them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from study.keys import CLASSES
from study.reporting.layout import short
from study.reporting.page.blocks import Block, Cell, Note, Section, Table, Tone, missing, text
from study.reporting.page.results import Sealed, StudyResults


def sealed(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="sealed", title="Sealed test", blocks=list(_blocks(results)))


def _blocks(results: StudyResults) -> Iterator[Block]:
    yield Note(results.openings or "No log of openings was read.", Tone.NOTE)
    if not results.sealed:
        yield missing(
            "No result on DS2",
            results.why("sealed", "no plan that rests on this study has opened it"),
        )
    for number, opening in enumerate(results.sealed, start=1):
        yield _table(opening, number)


def _table(opening: Sealed, number: int) -> Table:
    of = [(m, q) for q in ("sv", "macro", *CLASSES) for m in ("auprc", "auroc")]
    rows = []
    for arm, values in opening.arms.items():
        cells = [values.get(f"test_{m}_{q}", (math.nan, math.nan)) for m, q in of]
        rows.append([text(arm), *(_cell(value, sd) for value, sd in cells)])
    return Table(
        name=f"sealed_{number}",
        title=f"Plan {opening.plan}",
        shows=(
            f"Scores on DS2, opened {opening.opened}: mean ± sd over {opening.seeds} fresh seeds, "
            "each arm trained on all of DS1 by a plan written before."
        ),
        reading=(
            "The spread is over seeds, not over patients. Most S beats of DS2 are of one record: "
            "the files of the evaluation have the scores without it."
        ),
        header=["arm", *(f"{m.upper()} {'S+V' if q == 'sv' else q}" for m, q in of)],
        rows=rows,
    )


def _cell(value: float, sd: float) -> Cell:
    if not math.isfinite(value):
        return Cell("-")
    spread = f" ± {short(sd)}" if math.isfinite(sd) and sd > 0 else ""
    return Cell(short(value) + spread, value)
