"""What a study's tables count, average, order and say."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from study.keys import AUPRC_SV, Outcome, database_metric
from study.reporting.table import Table
from study.reporting.trial_tables import arms_table, best_table, databases_table, failures_table
from study.store.floors import StudyFloor
from study.store.trials import TrialRow, trials_csv
from tests.builders import trial_row

NAN = math.nan


def row(number: int, score: float = 0.5, arm: str = "film", **changes: Any) -> TrialRow:
    metrics = {AUPRC_SV: score, **changes.pop("metrics", {})}
    params = {"fusion": arm, "heads": number, "epochs": 6}
    return trial_row(number, arm, **{"params": params, "metrics": metrics, **changes})


def cells(table: Table, arm: str) -> dict[str, str]:
    """The cells of an arm by the headings of their columns."""
    headings = [column.heading for column in table.columns]
    line = next(line for line in table.cells if line[0] == arm)
    return dict(zip(headings, line, strict=True))


def ranked(rows: list[TrialRow], kind: str = "search", **options: Any) -> Table:
    return arms_table(rows, AUPRC_SV, kind, **options)


def test_only_complete_finite_full_rows_are_averaged() -> None:
    for other, note in (
        (row(9, 0.99, outcome=Outcome.PRUNED), None),
        (row(9, 0.99, outcome=Outcome.FAILED), None),
        (row(9, NAN), "complete without a finite val_auprc_sv: trial 9"),
        (row(9, math.inf), "complete without a finite val_auprc_sv: trial 9"),
        (row(9, 0.99, epochs=5), "below the full number of epochs: trial 9"),
    ):
        table = ranked([row(1, 0.4), row(2, 0.6), other])
        film = cells(table, "film")
        assert (film["complete"], film["AUPRC S+V"]) == ("2", ".500 ± .141")
        # What no trial is has no column.
        assert film.get("pruned") == ("1" if other.outcome is Outcome.PRUNED else None)
        assert film.get("failed") == ("1" if other.outcome is Outcome.FAILED else None)
        left_out = [text for text in table.notes if text.startswith("not counted")]
        assert left_out == ([f"not counted, {note}"] if note else [])


def test_what_was_screened_is_counted_in_the_place_of_what_was_pruned() -> None:
    screened: dict[str, Any] = {"outcome": Outcome.SCREENED, "epochs": 1, "full_epochs": 6}
    table = ranked([row(0, 0.9, **screened), row(1, 0.8, **screened), row(2, 0.5)])
    film = cells(table, "film")
    assert (film["complete"], film["screened"], "failed" in film) == ("1", "2", False)
    assert film["AUPRC S+V"] == ".500"
    assert "pruned" not in film and "after one epoch is trained in full" in table.reading
    stopped = "poor ones were stopped early"
    assert stopped not in ranked([row(1)]).reading, "no scheduler stopped a trial"
    assert stopped in ranked([row(1), row(2, outcome=Outcome.PRUNED)]).reading


def test_arms_are_ordered_by_mean_with_floors_and_those_without_a_score_below() -> None:
    rows = [row(0, 0.5, "a"), row(1, 0.9, "b"), row(2, 0.1, "b"), row(3, NAN, "c")]
    rows += [row(4, 0.7, "d"), row(5, 0.99, "e", outcome=Outcome.PRUNED)]
    floor = StudyFloor(name="logistic", digest="", metrics={AUPRC_SV: 0.3})
    table = ranked(rows, arms=["waiting"], floors=[floor])
    assert [line[0] for line in table.rows] == ["d", "a", "b", "c", "e", "waiting", "logistic"]
    assert cells(table, "e")["AUPRC S+V"] == "-"
    below = cells(table, "logistic")
    assert [below[name] for name in ("AUPRC S+V", "AUPRC S", "complete")] == [".300", "-", ""]


def test_arms_are_shown_by_database_where_there_are_several() -> None:
    metrics = {database_metric("svdb", of): score for of, score in (("sv", 0.4), ("S", 0.2))}
    rows = [row(0, metrics=metrics), row(1, metrics={name: 0.6 for name in metrics})]
    rows.append(row(2, outcome=Outcome.PRUNED))
    floor = StudyFloor(name="logistic", digest="", metrics={database_metric("mitdb", "V"): 0.3})
    table = databases_table(rows, AUPRC_SV, ["mitdb", "svdb"], [floor])
    assert table is not None
    assert cells(table, "film")["svdb S+V"] == ".500 ± .141"
    assert [cells(table, "logistic")[name] for name in ("mitdb V", "svdb V")] == [".300", "-"]
    assert databases_table(rows, AUPRC_SV, ["svdb"]) is None


def test_a_search_names_the_best_configuration_of_each_arm() -> None:
    rows = [row(1, 0.4), row(2, 0.6), row(3, 0.5, "mhca")]
    assert "and no winner" in ranked(rows).reading
    best = best_table(rows, AUPRC_SV)
    assert best is not None
    # What is the same everywhere, or is the arm itself, is not repeated.
    assert [column.heading for column in best.columns] == ["arm", "trial", "AUPRC S+V", "heads"]
    assert best.cells == [["film", "2", ".600", "2"], ["mhca", "3", ".500", "3"]]
    assert best_table([row(1, NAN)], AUPRC_SV) is None


def test_compare_shows_spread_over_seeds_and_folds() -> None:
    spread = {"val_auprc_sv_seed_sd": 0.03, "val_auprc_sv_fold_sd": 0.1}
    other = {"val_auprc_sv_seed_sd": 0.04, "val_auprc_sv_fold_sd": NAN}
    rows = [row(1, 0.4, metrics=spread), row(2, 0.6, metrics=other)]
    film = cells(ranked(rows, "compare"), "film")
    # Root mean square: sqrt((0.03^2 + 0.04^2) / 2) = 0.0354.
    assert (film["sd seeds"], film["sd draws"], film["sd folds"]) == (".035", ".141", ".100")
    assert "sd seeds" not in cells(ranked(rows), "film")


def test_undefined_metrics_are_left_out_of_their_mean_and_said() -> None:
    metrics = [{"val_auprc_S": 0.2}, {"val_auprc_S": NAN}, {"val_auprc_S": 0.4}]
    table = ranked([row(i, metrics=values) for i, values in enumerate(metrics)])
    film = cells(table, "film")
    assert (film["AUPRC S"], film["AUPRC V"]) == (".300 ± .141", "-")
    first, second = table.notes
    assert first == "undefined, and left out of the mean, in trial 1: AUPRC S"
    assert second.startswith("undefined, and left out of the mean, in trials 0, 1 and 2: AUPRC V,")


def test_failures_of_one_cause_are_one_line() -> None:
    bad: dict[str, Any] = {"outcome": Outcome.FAILED, "epochs": 3}
    rows = [row(k, cause="diverged at epoch 3\nTraceback ...", **bad) for k in range(10, 88)]
    rows += [row(2, arm="mhca", cause="diverged at epoch 3", **bad), row(3, **bad)]
    rows += [row(1, cause="asha", outcome=Outcome.PRUNED)]
    table = failures_table(rows)
    assert table is not None and table.shows.startswith("80 of 81 trials failed;")
    assert table.cells == [
        ["79", "2, 10, 11 and 76 more", "mhca and film", "3", "diverged at epoch 3"],
        ["1", "3", "film", "3", "no cause recorded"],
    ]
    assert failures_table([row(1)]) is None


def test_csv_has_a_line_for_every_trial_and_keeps_undefined_apart_from_absent() -> None:
    rows = [
        row(1, NAN, cause='a "quoted", cause', params={"heads": 2, "learning_rate": 0.002}),
        row(0, 0.1 + 0.2, params={"fusion": "film"}, metrics={"learning_rate": 1e-7}),
    ]
    first, second = csv.DictReader(io.StringIO(trials_csv(rows)))
    assert (first["number"], second["number"]) == ("0", "1")
    assert (first["outcome"], first["params.fusion"]) == ("complete", "film")
    assert float(first["metrics.val_auprc_sv"]) == 0.1 + 0.2
    assert (first["metrics.learning_rate"], second["params.learning_rate"]) == ("1e-07", "0.002")
    assert second["cause"] == 'a "quoted", cause'
    assert second["metrics.val_auprc_sv"] == "nan"
    assert second["metrics.learning_rate"] == ""
