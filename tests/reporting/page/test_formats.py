"""Tables outside the page: Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json

from study.reporting.page.blocks import Cell, Section, Table, count, score, text
from study.reporting.page.formats import table_files, tables_of

TABLE = Table(
    name="small",
    title="A & B",
    shows="What it shows: 50 %.",
    reading="How to read it.",
    header=["arm", "score [95 %]", "p"],
    rows=[
        [text("film_1"), Cell(".519 [.348, .708]", 0.519), Cell("<.001", 0.0004)],
        [text("a|b"), score(float("nan")), count(1234)],
    ],
)


def test_all_formats_of_a_table() -> None:
    files = table_files([TABLE])
    assert set(files) == {"tables.md", "tables.tex", "tables.json", "small.csv"}
    assert "| film_1 | .519 [.348, .708] | <.001 |" in files["tables.md"]
    assert "a\\|b" in files["tables.md"]
    assert files["tables.tex"].count("\\begin{tabular}{lrr}") == 1
    assert r"film\_1 & .519 [.348, .708] & $<$.001 \\" in files["tables.tex"]
    assert r"\caption{A \& B. What it shows: 50 \%.}" in files["tables.tex"]


def test_csv_keeps_values_and_intervals() -> None:
    lines = list(csv.reader(io.StringIO(table_files([TABLE])["small.csv"])))
    assert lines == [
        ["arm", "score [95 %]", "p"],
        ["film_1", ".519 [.348, .708]", "0.0004"],
        ["a|b", "-", "1234"],
    ]


def test_json_keeps_the_value_beside_an_interval() -> None:
    rows = json.loads(table_files([TABLE])["tables.json"])["small"]["rows"]
    assert rows[0] == {
        "arm": "film_1",
        "score [95 %]": {"value": 0.519, "text": ".519 [.348, .708]"},
        "p": 0.0004,
    }


def test_tables_of_sections_in_order() -> None:
    part = Section(anchor="a", title="A", blocks=[TABLE])
    assert tables_of([part, part]) == [TABLE, TABLE]
