"""The tables of a comparison: they fit, and every rendering has the same digits."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest

from study.keys import AUPRC_SV, CLASSES, metric
from study.reporting.comparison_tables import (
    beside_table,
    choice_sentences,
    choice_text,
    classes_table,
    comparison_tables,
    contrasts_table,
    floor_table,
    kept_table,
    pairs_csv,
    records_csv,
    records_table,
)
from study.reporting.page.page import table_files
from study.reporting.table import Column, Table, Value
from study.reporting.trial_tables import arms_table
from study.statistics.findings import Comparison, Estimate
from study.statistics.predictions import ArmRuns, Beats
from study.store.floors import StudyFloor
from study.store.trials import TrialRow
from tests.builders import compared, trial_row


def rows_of(comparison: Comparison) -> list[TrialRow]:
    """A trial of each arm, with the scores that the comparison has."""
    return [
        trial_row(
            number,
            arm.name,
            metrics={metric("auprc", q): found.value for q, found in arm.estimates.items()}
            | {metric("auroc", name): 0.75 for name in (*CLASSES, "sv", "macro")},
        )
        for number, arm in enumerate(comparison.arms)
    ]


def ranking(comparison: Comparison) -> Table:
    floors = [StudyFloor(name="logistic_regression", digest="", metrics={AUPRC_SV: 0.476})]
    return arms_table(
        rows_of(comparison), comparison.objective, "compare", comparison=comparison, floors=floors
    )


def tables_of(comparison: Comparison) -> list[Table]:
    tables = [ranking(comparison), classes_table(comparison), beside_table(comparison)]
    optional = (contrasts_table(comparison), floor_table(comparison), kept_table(comparison))
    return [*tables, *(table for table in optional if table), records_table(comparison)]


def read_back(column: Column, value: Value, line: dict[str, str]) -> Value:
    """Return a cell made anew from the numbers that the CSV has of it."""
    if isinstance(value, Estimate) and math.isfinite(value.low):
        value_, low, high = (float(line[column.heading + end]) for end in ("", " low", " high"))
        return replace(value, value=value_, low=low, high=high)
    if isinstance(value, float) and math.isfinite(value):
        return float(line[column.heading])
    return value


def test_the_console_fits_and_says_what_it_shows(beats: Beats, arms: list[ArmRuns]) -> None:
    found = compared(beats, arms, notes=["draw 1 is left out"])
    texts = [table.text(80) for table in comparison_tables(found, ranking(found))]
    text = "\n".join([*texts, *choice_sentences(found)])
    lines = "\n".join(texts).splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    one = found.contrasts[0].estimates["sv"]
    shown = f"+{one.value:.3f} [+{one.low:.3f}, +{one.high:.3f}]".replace("0.", ".")
    assert re.search(rf"\nfilm - its placebo +{re.escape(shown)} ", text)
    for said in (
        "Arms by score. Means over the same draws, folds and seeds",
        "200 resamples of patients",
        "300 swaps",
        "note: draw 1 is left out",
        "note: a study like this one can find differences of",
        "Best arm, placebos left out: film. Best in resamples: film 100%.",
        "Budget of each arm: 2 trials, 5,000 beats trained (film); 1 trial, 0 beats trained "
        "(concat, film_placebo, ecg).",
    ):
        assert said in " ".join(text.split()), said


def test_no_more_is_quoted_than_an_arm_scored(beats: Beats, arms: list[ArmRuns]) -> None:
    choice = compared(beats, arms).choice
    assert choice is not None
    lower, higher = (replace(choice, value=0.5, corrected=score) for score in (0.48, 0.51))
    assert choice_text(lower) == ".480 to quote, not its own .500, by which it was chosen"
    assert choice_text(higher).startswith(".500 to quote: corrected for its choice it is .510")


def test_console_csv_and_json_have_the_same_digits(beats: Beats, arms: list[ArmRuns]) -> None:
    """The console shows the cells; CSV and JSON round to them."""
    tables = tables_of(compared(beats, arms))
    assert len(tables) == 6
    files = table_files(tables)
    exact = json.loads(files["tables.json"])
    for table in tables:
        detail = [column.detail for column in table.columns]
        grid = table.text(500).split("\n-")[1].splitlines()[1:]
        for shown_line, cells in zip(grid, table.cells, strict=False):
            shown = [cell for cell, left_out in zip(cells, detail, strict=True) if not left_out]
            assert shown_line.split() == " ".join(shown).split()
        lines = list(csv.DictReader(io.StringIO(files[f"{table.name}.csv"])))
        plain = exact[table.name]["rows"]
        assert lines == [{k: "" if v is None else str(v) for k, v in r.items()} for r in plain]
        for row, cells, line in zip(table.rows, table.cells, lines, strict=True):
            for column, value, cell in zip(table.columns, row, cells, strict=True):
                assert column.text(read_back(column, value, line)) == cell


def test_pairs_and_records_as_csv(beats: Beats, arms: list[ArmRuns]) -> None:
    found = compared(beats, arms, objective=AUPRC_SV)
    pairs = list(csv.DictReader(io.StringIO(pairs_csv(found))))
    assert len(pairs) == 6 * 6
    first = next(row for row in pairs if row["quantity"] == "sv")
    assert (first["first"], first["second"], first["primary"]) == ("film", "film_placebo", "True")
    assert float(first["low"]) == pytest.approx(found.contrasts[0].estimates["sv"].low, rel=1e-5)
    assert float(first["p_adjusted"]) == pytest.approx(found.contrasts[0].p_adjusted, rel=1e-5)
    assert pairs[0]["quantity"] == "N" and pairs[0]["p"] == ""
    records = list(csv.DictReader(io.StringIO(records_csv(found))))
    assert len(records) == 4 * 8
    of_104 = next(row for row in records if row["record"] == "104")
    assert of_104["beats_S"] == "0" and of_104["auprc_S"] == ""


def test_an_interval_and_a_p_that_disagree_are_named(beats: Beats, arms: list[ArmRuns]) -> None:
    found = compared(beats, arms)
    (contrast, *others) = found.contrasts
    assert contrast.estimates["sv"].low > 0
    for p, said in ((0.01, False), (0.2, True)):
        table = contrasts_table(replace(found, contrasts=(replace(contrast, p=p), *others)))
        assert table is not None
        told = any("interval and p disagree on film - its placebo" in n for n in table.notes)
        assert told == said
