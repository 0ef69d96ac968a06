"""The page of studies in every state: what it says, and what it says is missing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from study.keys import Outcome
from study.reporting.page.html import Figure, Note, Section, Tone
from study.reporting.page.page import PAGE, SECTIONS, report_files, sections
from study.reporting.results import StudyResults
from study.reporting.table import Table
from tests.reporting.page.conftest import row_of

MakeResults = Callable[..., StudyResults]

MOST_BYTES = 8_000_000


class Tags(HTMLParser):
    """Collects start tags, and checks that what is opened is closed."""

    EMPTY = ("meta", "link", "br", "wbr", "path", "circle", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def parsed(results: StudyResults) -> tuple[str, Tags]:
    page = report_files(results)[PAGE]
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return page, tags


def notes(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Note)]


def section(results: StudyResults, anchor: str) -> Section:
    return next(part for part in sections(results) if part.anchor == anchor)


def states(make: MakeResults) -> dict[str, StudyResults]:
    """Return a study in every state in which it has little."""
    nothing: dict[str, Any] = {
        "rows": (),
        "curves": {},
        "runs": (),
        "comparison": None,
        "alarms": (),
    }
    nothing |= {"floors": {}, "dropped": {}, "costs": {}, "explanations": {}, "provenance": {}}
    why = {"comparison": "no trial is complete yet", "beats": "not prepared"}
    failed = tuple(
        row_of(k, "film", float("nan"), outcome=Outcome.FAILED, cause="DataError: x", metrics={})
        for k in range(3)
    )
    return {
        "empty": make(**nothing, beats=None, arms={}, state="unfinished", owed=3, gaps=why),
        "running": make(**nothing, state="running", owed=3, gaps=why),
        "all failed": make(**{**nothing, "rows": failed}, gaps=why),
        "one arm": make(
            **{**nothing, "rows": make().rows[:1], "curves": {0: {1: 0.5}}},
            gaps={"comparison": "two arms with complete trials are needed, got 1"},
        ),
    }


def test_a_comparison_in_full(make_results: MakeResults) -> None:
    page, tags = parsed(make_results())
    assert len(page.encode()) < MOST_BYTES
    for part in sections(make_results()):
        assert f'<section id="{part.anchor}">' in page
        assert f'href="#{part.anchor}"' in page
    # Nothing is fetched: the page opens without a network.
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    assert "url(" not in page and "@import" not in page
    assert {tag for tag, attrs in tags.found if "src" in attrs} == set()


def test_text_is_escaped(make_results: MakeResults) -> None:
    page, _ = parsed(make_results())
    assert "Which &lt;arm&gt; &amp; why" in page
    assert "W &lt;b&gt;: a." in page and "w <b>" not in page


def test_the_first_screen_answers(make_results: MakeResults) -> None:
    page, _ = parsed(make_results())
    first = page.split('<section id="ranking">')[0]
    for question in (
        "Which arm?",
        "By how much?",
        "How sure?",
        "Does it use RR?",
        "What is it worth on DS2?",
        "Against which floor?",
    ):
        assert question in first, question
    assert "<b>film</b>" in first
    assert "film minus film_placebo" in first
    assert "logistic regression .300" in first
    assert "DS2 has been opened 0 times in this workspace." in first
    assert "+.100 AUPRC S lost when RR is permuted in its inputs" in first


def test_a_search_names_no_winner(search_results: StudyResults) -> None:
    page, _ = parsed(search_results)
    first = page.split('<section id="ranking">')[0]
    assert "no winner is named" in first
    assert "The study is running: 5 of 8 trials settled. The figures will change." in first
    assert "No paired differences: a search gives its arms unequal tries" in page
    for ending in ("complete", "pruned", "failed", "not settled"):
        assert f"1 {ending}" in page or f"3 {ending}" in page, ending
    assert "from 30 complete trials, by fANOVA" in page


def test_a_screening_is_told_apart_from_early_stopping(search_results: StudyResults) -> None:
    rows = [
        replace(row, outcome=Outcome.SCREENED, epochs=1) if row.outcome is Outcome.PRUNED else row
        for row in search_results.rows
    ]
    results = replace(
        search_results, rows=rows, plan=replace(search_results.plan, scheduler="screening")
    )
    page, _ = parsed(results)
    assert "Screened: 1 trial" in page
    assert "Stopped early" not in page
    assert "What 1 screened configuration would score in full." in page
    assert "1 were screened for one epoch, with a learning rate that falls to zero in it" in page
    assert "and the best of each after one epoch is trained in full" in page
    assert "screened, failed" in page
    assert "pruned, failed" not in page


@pytest.mark.parametrize("state", ["empty", "running", "all failed", "one arm"])
def test_what_is_missing_is_said(make_results: MakeResults, state: str) -> None:
    results = states(make_results)[state]
    parsed(results)
    assert len(sections(results)) == len(SECTIONS)
    for part in sections(results):
        assert part.blocks, part.anchor
    said = notes(section(results, "contrasts")) + notes(section(results, "curves"))
    assert len(said) == 2
    assert all(results.gaps["comparison"] in text for text in said)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            "empty",
            "The study has not settled a trial: nothing is known yet (0 of 3 trials settled).",
        ),
        ("running", "The study is running, and nothing is known yet (0 of 3 trials settled)."),
        ("all failed", "All 3 trials failed: there is no result."),
    ],
)
def test_the_state_is_said_first(make_results: MakeResults, state: str, said: str) -> None:
    assert said in notes(section(states(make_results)[state], "answer"))


def test_synthetic_records_are_said_first(make_results: MakeResults) -> None:
    results = make_results(plan=replace(make_results().plan, data_source="synthetic"))
    assert notes(section(results, "answer"))[0] == (
        "The records are SYNTHETIC: the figures say nothing about patients."
    )


def test_every_table_and_figure_says_what_it_shows_and_how_to_read_it(
    make_results: MakeResults, search_results: StudyResults
) -> None:
    for results in (make_results(), search_results):
        blocks = [b for part in sections(results) for b in part.blocks]
        shown = [b for b in blocks if isinstance(b, Table | Figure)]
        assert len(shown) > 15
        for block in shown:
            assert block.shows.endswith("."), block.name
            assert block.reading.endswith("."), block.name
        for table in (b for b in shown if isinstance(b, Table)):
            assert {len(row) for row in table.rows} <= {len(table.columns)}, table.name
        names = [b.name for b in shown]
        assert len(names) == len(set(names))


def test_negative_results_are_sentences_of_their_own(make_results: MakeResults) -> None:
    results = make_results()
    said = notes(section(results, "not-shown"))
    assert "Anything about patients outside DS1: the sealed test set was not opened." in said
    blind = {name: value for name, value in results.rows[0].metrics.items()}
    blind |= {name: 0.0 for name in blind if name.startswith("rr_reliance")}
    unused = make_results(rows=(replace(results.rows[0], metrics=blind), *results.rows[1:]))
    assert "That film uses the RR that it is given: permuting it loses +.000 of AUPRC S." in notes(
        section(unused, "not-shown")
    )


def test_attention_is_called_descriptive_and_checked(make_results: MakeResults) -> None:
    inside = section(make_results(), "inside")
    assert "Attention is descriptive" in notes(inside)[0]
    assert any("No attention of attention_pool beside it" in text for text in notes(inside))
    deletion = next(b for b in inside.blocks if isinstance(b, Table) and b.name == "deletion")
    # AUPRC S .5 falls to .2, .49 and .45.
    assert deletion.cells[0][2:] == [".500", "+.300", "+.010", "+.050", "+.250"]


def test_three_hundred_trials_are_written_in_seconds(search_results: StudyResults) -> None:
    rows = tuple(row_of(k, f"arm {k % 40}", 0.3 + 0.0005 * k) for k in range(300))
    curves = {k: {e: 0.01 * e for e in range(1, 21)} for k in range(300)}
    began = time.perf_counter()
    files = report_files(replace(search_results, rows=rows, curves=curves, comparison=None))
    assert time.perf_counter() - began < 10
    assert len(files[PAGE].encode()) < MOST_BYTES


def test_missing_notes_are_not_alarming(make_results: MakeResults) -> None:
    results = states(make_results)["empty"]
    tones = {
        block.tone
        for part in sections(results)
        for block in part.blocks
        if isinstance(block, Note) and part.anchor not in ("answer", "literature")
    }
    assert tones <= {Tone.MISSING, Tone.PLAIN, Tone.NOTE}
