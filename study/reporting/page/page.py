"""The sections of a page, in order, and the files made from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from study.keys import Outcome
from study.reporting.page.answer import first_screen
from study.reporting.page.calibration import calibrations
from study.reporting.page.curves import class_curves, learning_curves
from study.reporting.page.differences import contrasts
from study.reporting.page.evidence import alarms, not_shown, sealed
from study.reporting.page.html import Block, Section, is_missing, page_html
from study.reporting.page.inside import inside, parameters
from study.reporting.page.paper import dataset, literature, methods, protocol, provenance
from study.reporting.page.ranking import ranking, records
from study.reporting.page.rr import factors, rr_reliance
from study.reporting.results import StudyResults
from study.reporting.table import Table

PAGE = "report.html"

SECTIONS: tuple[tuple[str, str, Callable[[StudyResults], Iterable[Block]]], ...] = (
    ("answer", "The answer", first_screen),
    ("ranking", "Ranking", ranking),
    ("contrasts", "Differences", contrasts),
    ("not-shown", "What was not shown", not_shown),
    ("factors", "Factors", factors),
    ("reliance", "RR reliance", rr_reliance),
    ("curves", "Curves", class_curves),
    ("calibration", "Calibration", calibrations),
    ("records", "Records", records),
    ("learning", "Learning curves", learning_curves),
    ("inside", "Inside", inside),
    ("parameters", "Parameters and cost", parameters),
    ("alarms", "Alarms", alarms),
    ("sealed", "Sealed test", sealed),
    ("data", "Data", dataset),
    ("protocol", "Protocol", protocol),
    ("literature", "Literature", literature),
    ("methods", "Methods paragraph", methods),
    ("provenance", "Provenance", provenance),
)
"""Anchor, title and function of each section, in page order; the function yields its blocks."""

FOLDED = {"calibration", "protocol", "literature", "provenance"}
"""Anchors of sections that a click opens."""

OF_SCORES = {"ranking", "sealed", "literature", "methods"}
"""Anchors of sections that say nothing while no trial is complete."""


def sections(results: StudyResults) -> list[Section]:
    """Return the sections of a study's page; while no trial is complete, what there is."""
    known = results.count(Outcome.COMPLETE) > 0
    folded = FOLDED if known else {*FOLDED, "data"}
    parts = [
        Section(
            anchor=anchor,
            title=title,
            blocks=[block for block in blocks(results) if known or not is_missing(block)],
            folded=anchor in folded,
        )
        for anchor, title, blocks in SECTIONS
        if known or anchor not in OF_SCORES
    ]
    return [part for part in parts if part.blocks]


def report_files(results: StudyResults) -> dict[str, str]:
    """Return the content of the page and of its tables, by file name."""
    parts = sections(results)
    study, kind = results.study, "Search" if results.searches else "Comparison"
    subtitle = f"{kind} of space {study.plan.space}, {results.written}"
    if description := study.space.description:
        ended = "" if description.endswith((".", "?", "!")) else "."
        subtitle = f"{description}{ended} {subtitle}"
    tables = [block for part in parts for block in part.blocks if isinstance(block, Table)]
    return {
        PAGE: page_html(f"Study {study.name}", subtitle, parts),
        **table_files(tables, results.caveats),
    }


def table_files(tables: Sequence[Table], caveats: Sequence[str] = ()) -> dict[str, str]:
    """Return the content of every file of tables, by name.

    `tables.md`, `tables.tex` and `tables.json` hold all of them; each table also has its own CSV.
    `caveats` stand at the head of the first.
    """
    parts = [*(f"**{caveat}.**" for caveat in caveats), *(table.markdown() for table in tables)]
    every = {table.name: table.plain() for table in tables}
    return {
        "tables.md": "\n\n".join(parts) + "\n",
        "tables.tex": "\n\n".join(table.latex() for table in tables) + "\n",
        "tables.json": json.dumps(every, indent=1) + "\n",
        **{f"{table.name}.csv": table.csv() for table in tables},
    }
