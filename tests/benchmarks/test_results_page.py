"""docs/results.md and the answer in README.md have the figures of the stored tables."""

from __future__ import annotations

import pytest

from benchmarks.results_page import FigureError, parsed, rendered, written


def test_the_pages_are_what_their_sentences_and_the_tables_make() -> None:
    for page, text in written().items():
        assert page.read_text() == text, "run python -m benchmarks.results_page"


def test_a_table_of_markdown_or_of_text() -> None:
    for text, words in (
        ("By arm\n\n| arm | S [95 %] |\n| --- | --: |\n| a b | .1 [.0, .2] |\n\nmore", "By arm"),
        ("By\narm:\n\narm     S [95 %]\n---  -----------\na b  .1 [.0, .2]\n", "arm:"),
    ):
        assert parsed(text, words).rows == {"a b": {"S [95 %]": ".1 [.0, .2]"}}


def test_every_reference_without_a_figure_and_every_score_without_a_reference_is_named() -> None:
    page = "{{arms: film: AUPRC S}} {{arms: flim: AUPRC S}} {{arm: film: S}} {{best}} .519, +.023"
    with pytest.raises(FigureError) as caught:
        rendered(page + ", in 0.25 s with torch 2.13.0")
    faults = str(caught.value).splitlines()
    assert [fault.split(";")[0].split(":")[0] for fault in faults] == [
        "table 'arms' has no row 'flim'",
        "no table 'arm'",
        "'best'",
        "the score .519 is written without a reference",
        "the score +.023 is written without a reference",
    ]
