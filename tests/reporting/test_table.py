"""One table in all its renderings."""

from __future__ import annotations

import math

from study.reporting.table import Column, Kind, Spread, Table, interval_text
from study.statistics.findings import Estimate

FOUND = Estimate(value=0.5194, se=0.1, low=0.3476, high=0.7081)
MARKED = Estimate(value=0.5, se=0.1, low=0.25, high=1.0, remark="covers too little")
WEAK = Estimate(value=0.5, se=math.nan, low=math.nan, high=math.nan, remark="too few patients")

TABLE = Table(
    name="small",
    title="A & B",
    shows="What it shows: 50 %.",
    reading="How to read it.",
    columns=[
        Column("arm", Kind.NAME),
        Column("AUPRC", Kind.INTERVAL),
        Column("p", Kind.P),
        Column("beats", Kind.COUNT, detail=True),
    ],
    rows=[["film_1", FOUND, 0.0004, 1234], ["a|b", MARKED, math.nan, None]],
    notes=["one seed"],
)


def test_a_number_is_written_as_its_column_says() -> None:
    for column, value, text in (
        (Column("", Kind.SCORE), 0.5194, ".519"),
        (Column("", Kind.SCORE, signed=True), -0.02, "-.020"),
        (Column("", Kind.SCORE, signed=True), 0.0226, "+.023"),
        (Column("", Kind.SCORE, signed=True), -0.0004, ".000"),
        (Column("", Kind.SCORE), 0.99996, "1.000"),
        (Column("", Kind.SCORE), math.inf, "-"),
        (Column("", Kind.SCORE, digits=2), 1.0, "1.00"),
        (Column("", Kind.SCORE), Spread.of([0.4, 0.6]), ".500 ± .141"),
        (Column("", Kind.SCORE), Spread.of([0.5, math.nan]), ".500"),
        (Column("", Kind.SCORE), Spread.of([]), "-"),
        (Column("", Kind.SCORE), "0 exactly", "0 exactly"),
        (Column("", Kind.INTERVAL), WEAK, ".500 (n. e.)"),
        (Column("", Kind.INTERVAL), 0.3, ".300"),
        (Column("", Kind.COUNT, digits=1), 4.54, "4.5"),
        (Column("", Kind.SHARE), 0.413, "41%"),
        (Column("", Kind.PARAMETER), 0.0012345, "0.00123"),
        (Column("", Kind.PARAMETER), 64, "64"),
        (Column("", Kind.PARAMETER), None, "-"),
        (Column("", Kind.TEXT), "", ""),
    ):
        assert column.text(value) == text


def test_the_console_leaves_details_out() -> None:
    assert TABLE.text().splitlines() == [
        "A & B. What it shows: 50 %. How to read it.",
        "",
        "arm            AUPRC [95 %]      p",
        "------  -------------------  -----",
        "film_1    .519 [.348, .708]  <.001",
        "a|b     .500 [.250, 1.000]*      -",
        "",
        "note: one seed",
        "note: * covers too little",
    ]


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "## A & B",
        "",
        "What it shows: 50 %. How to read it.",
        "",
        "| arm    |        AUPRC [95 %] |     p | beats |",
        "| ------ | ------------------: | ----: | ----: |",
        "| film_1 |   .519 [.348, .708] | <.001 | 1,234 |",
        "| a\\|b   | .500 [.250, 1.000]* |     - |     - |",
        "",
        "- one seed",
        "- * covers too little",
    ]


def test_latex_and_html_escape() -> None:
    latex = TABLE.latex()
    assert latex.count("\\begin{tabular}{lrrr}") == 1
    assert r"film\_1 & .519 [.348, .708] & $<$.001 & 1,234 \\" in latex
    assert r"\caption{A \& B. What it shows: 50 \%. One seed. * covers too little.}" in latex
    html = TABLE.html()
    for part in (
        "<h3>A &amp; B</h3>",
        '<td data-key="0.5194">.519 [.348, .708]</td>',
        '<td class="text">film_<wbr>1</td>',
        '<td data-key="0.0004">&lt;.001</td>',
        '<p class="note t-note">One seed.</p>',
    ):
        assert part in html, part


def test_an_interval_in_a_sentence() -> None:
    assert interval_text(FOUND, signed=True) == "+.519 [+.348, +.708]"
    assert interval_text(WEAK) == ".500 (not estimable)"
