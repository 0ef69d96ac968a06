"""What a study's tables count, average, order and say."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import pytest

from study.keys import AUPRC_SV, Outcome
from study.reporting.tables import chance_level, failures, ranked_table
from study.store.trials import TrialRow, trials_csv
from tests.builders import trial_row

NAN = math.nan


def row(number: int, score: float = 0.5, arm: str = "film", **changes: Any) -> TrialRow:
    metrics = {AUPRC_SV: score, **changes.pop("metrics", {})}
    params = {"fusion": arm, "heads": number, "epochs": 6}
    return trial_row(number, arm, **{"params": params, "metrics": metrics, **changes})


def cells(text: str, arm: str) -> list[str]:
    """The cells of an arm's line in the first markdown table."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {arm} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def ranked(rows: list[TrialRow], kind: str = "search", **options: Any) -> str:
    return ranked_table(rows, AUPRC_SV, kind, markdown=True, **options)


NOT_COMPARED = [
    (row(9, 0.99, outcome=Outcome.PRUNED), None),
    (row(9, 0.99, outcome=Outcome.FAILED), None),
    (row(9, 0.99, outcome=Outcome.STOPPED), "stopped and still owed: trial 9"),
    (row(9, NAN), "complete without a finite val_auprc_sv: trial 9"),
    (row(9, math.inf), "complete without a finite val_auprc_sv: trial 9"),
    (row(9, 0.99, epochs=5), "below the full number of epochs: trial 9"),
    (row(9, 0.99, duplicate_of=1), "repeats of a configuration: trial 9"),
]


@pytest.mark.parametrize(("other", "note"), NOT_COMPARED)
def test_only_complete_finite_full_new_rows_are_averaged(
    other: TrialRow, note: str | None
) -> None:
    text = ranked([row(1, 0.4), row(2, 0.6), other])
    pruned = str(int(other.outcome is Outcome.PRUNED))
    failed = str(int(other.outcome is Outcome.FAILED))
    assert cells(text, "film")[1:5] == ["2", pruned, failed, "0.500 ± 0.141"]
    assert "0.990" not in text
    assert ("not counted" in text) == (note is not None)
    assert note is None or f"- not counted, {note}" in text


def test_what_was_screened_is_counted_in_the_place_of_what_was_pruned() -> None:
    screened: dict[str, Any] = {"outcome": Outcome.SCREENED, "epochs": 1, "full_epochs": 6}
    rows = [row(0, 0.9, **screened), row(1, 0.8, **screened), row(2, 0.5, epochs=6)]
    text = ranked(rows)
    assert cells(text, "arm")[:4] == ["arm", "complete", "screened", "failed"]
    assert cells(text, "film")[1:5] == ["1", "2", "0", "0.500"]
    assert "pruned" not in text


def test_arms_are_ordered_by_mean_and_those_without_a_score_come_last() -> None:
    rows = [row(0, 0.5, "a"), row(1, 0.9, "b"), row(2, 0.1, "b"), row(3, NAN, "c")]
    rows += [row(4, 0.7, "d"), row(5, 0.99, "e", outcome=Outcome.PRUNED)]
    first = ranked(rows).split("Best configuration")[0]
    order = [line.split()[1] for line in first.splitlines() if line.startswith("| ")]
    assert order[2:] == ["d", "a", "b", "c", "e"]
    assert cells(first, "e")[1:5] == ["0", "1", "0", "-"]


def test_search_names_no_winner_and_the_best_configuration_of_each_arm() -> None:
    text = ranked([row(1, 0.4), row(2, 0.6), row(3, 0.5, "mhca")])
    assert text.startswith("Candidates by arm (unequal tries); no winner is named.\n")
    best = text.split("Best configuration of each arm (the best of several tries is optimistic)")
    assert cells(best[1], "film") == ["film", "2", "0.600", "2"]
    assert cells(best[1], "mhca") == ["mhca", "3", "0.500", "3"]
    # What is the same everywhere, or is the arm itself, is not repeated.
    assert "epochs" not in best[1]
    assert "fusion" not in best[1]


def test_compare_shows_spread_over_seeds_and_folds() -> None:
    spread = {"val_auprc_sv_seed_sd": 0.03, "val_auprc_sv_fold_sd": 0.1}
    other = {"val_auprc_sv_seed_sd": 0.04, "val_auprc_sv_fold_sd": NAN}
    text = ranked([row(1, 0.4, metrics=spread), row(2, 0.6, metrics=other)], "compare")
    assert text.startswith("Arms compared on the same draws, folds and seeds.\n")
    assert "| sd over seeds | sd over folds |" in text
    # Root mean square: sqrt((0.03^2 + 0.04^2) / 2) = 0.0354.
    assert cells(text, "film")[4:7] == ["0.500 ± 0.141", "0.035", "0.100"]
    assert "Best configuration" not in text
    assert "sd over seeds" not in ranked([row(1, 0.4, metrics=spread)], "search")


def test_compare_says_when_arms_are_not_paired() -> None:
    note = "arms have unequal numbers of complete trials: their means are not paired"
    equal = [row(1), row(2, arm="mhca")]
    assert note not in ranked(equal, "compare")
    assert note in ranked([*equal, row(3)], "compare")
    assert note not in ranked([*equal, row(3)], "search")


def test_undefined_metrics_are_left_out_of_their_mean_and_said() -> None:
    metrics = [{"val_auprc_S": 0.2}, {"val_auprc_S": NAN}, {"val_auprc_S": 0.4}]
    text = ranked([row(i, metrics=values) for i, values in enumerate(metrics)])
    assert cells(text, "film")[-2:] == ["0.300", "-"]
    assert "- val_auprc_S is undefined, and left out of its mean, in trial 1" in text
    assert "- val_auprc_V is undefined, and left out of its mean, in trials 0, 1, 2" in text


def test_floors_are_shown_below_the_arms() -> None:
    prevalence = np.array([0.90, 0.03, 0.06, 0.01])
    text = ranked([row(1)], chance=prevalence, floors={"logistic": {AUPRC_SV: 0.3}})
    scores = ["0.045", "0.250", "0.500", "0.030", "0.060"]
    assert cells(text, "chance") == ["chance (prevalence)", "", "", "", *scores]
    assert cells(text, "logistic")[4:] == ["0.300", "-", "-", "-", "-"]
    assert text.index("| film") < text.index("| chance") < text.index("| logistic")


def test_objective_comes_first_and_once() -> None:
    rows = [row(1, metrics={"val_auroc_macro": 0.8})]
    text = ranked_table(rows, "val_auroc_macro", "search", markdown=True)
    header = [cell.strip() for cell in text.splitlines()[3].strip("|").split("|")]
    assert header[4:6] == ["AUROC macro", "AUPRC S+V"]
    assert header.count("AUROC macro") == 1


def test_plain_and_markdown_tables_say_the_same() -> None:
    rows = [row(1), row(2, NAN), row(3, arm="mhca")]
    plain, marked = ranked_table(rows, AUPRC_SV, "search"), ranked(rows)
    assert "|" not in plain

    def words(text: str) -> list[str]:
        return [w for w in text.replace("|", " ").split() if set(w) - set("-:")]

    assert words(plain) == words(marked)


def test_a_study_without_trials_has_an_empty_table() -> None:
    assert "AUPRC S+V" in ranked_table([], AUPRC_SV, "search")


@pytest.mark.parametrize(
    ("objective", "kind", "message"),
    [
        ("accuracy", "search", "objective must be one of val_auprc_sv, .*, got 'accuracy'"),
        (AUPRC_SV, "race", "kind must be one of search, compare, got 'race'"),
    ],
)
def test_unknown_objective_and_kind_are_refused(objective: str, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranked_table([], objective, kind)


def test_failures_are_grouped_by_cause() -> None:
    bad: dict[str, Any] = {"outcome": Outcome.FAILED, "epochs": 3}
    rows = [
        row(4, cause="diverged at epoch 3\nTraceback ...", **bad),
        row(2, arm="mhca", cause="diverged at epoch 3", **bad),
        row(3, **bad),
        row(1, cause="asha", outcome=Outcome.PRUNED),
    ]
    assert failures(rows).splitlines() == [
        "Failed: 3 of 4 trials",
        "  diverged at epoch 3",
        "    trial 2, mhca, after 3 epochs",
        "    trial 4, film, after 3 epochs",
        "  no cause recorded",
        "    trial 3, film, after 3 epochs",
    ]
    assert failures([row(1)]) == ""


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


def test_chance_level_needs_every_class() -> None:
    with pytest.raises(ValueError, match="zip"):
        chance_level([0.5, 0.5])
