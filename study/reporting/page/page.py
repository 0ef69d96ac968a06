"""The sections of a page, in order, and the files that are made of them."""

from __future__ import annotations

from study.reporting.page.alarms import alarms, not_shown
from study.reporting.page.blocks import Section
from study.reporting.page.contrasts import contrasts
from study.reporting.page.curves import class_curves
from study.reporting.page.data_and_protocol import dataset, protocol
from study.reporting.page.factors import factors
from study.reporting.page.first_screen import first_screen
from study.reporting.page.formats import table_files, tables_of
from study.reporting.page.html import page_html
from study.reporting.page.inside import inside
from study.reporting.page.learning import learning_curves
from study.reporting.page.literature import literature
from study.reporting.page.methods import methods
from study.reporting.page.parameters import parameters
from study.reporting.page.provenance import provenance
from study.reporting.page.ranking import ranking
from study.reporting.page.records import records
from study.reporting.page.results import StudyResults
from study.reporting.page.rr_reliance import rr_reliance
from study.reporting.page.sealed import sealed

PAGE = "report.html"

SECTIONS = (
    first_screen,
    ranking,
    contrasts,
    not_shown,
    factors,
    rr_reliance,
    class_curves,
    records,
    learning_curves,
    inside,
    parameters,
    alarms,
    sealed,
    dataset,
    protocol,
    literature,
    methods,
    provenance,
)
"""Functions from results to a section, in the order of the page."""


def sections(results: StudyResults) -> list[Section]:
    """Return the sections of a study's page."""
    return [section(results) for section in SECTIONS]


def report_files(results: StudyResults) -> dict[str, str]:
    """Return the content of the page and of its tables, by file name."""
    parts = sections(results)
    kind = "Search" if results.searches else "Comparison"
    subtitle = f"{kind} of space {results.plan.get('space')}, {results.written}"
    if results.description:
        ended = "" if results.description.endswith((".", "?", "!")) else "."
        subtitle = f"{results.description}{ended} {subtitle}"
    return {
        PAGE: page_html(f"Study {results.name}", subtitle, parts),
        **table_files(tables_of(parts)),
    }
